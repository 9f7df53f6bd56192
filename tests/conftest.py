"""One PostgreSQL for all tests, real and embedded; each test has users of its own."""

import asyncio
import gc
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from graphql import GraphQLError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.execution.preparing.documents import Documents
from graph.execution.running.engine import Engine, Result
from graph.request.context import Context, Services
from graph.request.refusals import classify
from graph.schema import schema
from persistence import migrations, tokens, users
from persistence.connections.engine import create_engine
from persistence.embedded.server import EmbeddedPostgres
from persistence.models import Role, Scope, TokenKind
from persistence.passwords import Passwords
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer

PASSWORD = "correct horse battery"
# A hash says its own parameters: this one is as valid as the server's, and quick to make and verify.
QUICK_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def collected() -> Iterator[None]:
    """Garbage is collected while the filters for warnings of this very test are in force."""
    yield
    gc.collect()


# graphql-core's own executor sometimes leaves coroutines that nobody awaits.
BESIDE_STOCK = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    # Collected in the middle of generated code without builtins, such a coroutine cannot even say so.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <coroutine object:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """An embedded server of the tests' own."""
    # What the tests write need not outlive a power failure.
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", options={"fsync": "off"})
    server.start()
    yield server
    server.stop()


async def on_server(url: str, *statements: str) -> None:
    engine = create_engine(Settings(database_url=url), pooled=False)
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


def database_url(server_url: str, name: str) -> str:
    base, _, query = server_url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}?{query}"


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        asyncio.run(on_server(postgres.url, f"CREATE DATABASE {name}"))
        return database_url(postgres.url, name)

    return make


@pytest.fixture(scope="session")
def settings(new_database: Callable[[], str]) -> Settings:
    """Settings with a migrated database that the tests of a run share."""
    url = new_database()
    migrations.upgrade(url)
    return Settings(database_url=url, token_cache_seconds=0.0)


@pytest.fixture(scope="session")
async def engine(settings: Settings, anyio_backend: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(settings)
    yield engine
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[Session]:
    session = Session(engine)
    yield session
    await session.close()


@dataclass(frozen=True)
class Account:
    """A user of a test, with a token."""

    id: UUID
    email: str
    viewer: Viewer
    secret: str

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


@pytest.fixture
def new_account(engine: AsyncEngine) -> Callable[..., Any]:
    """Makes an account: `await new_account(role=..., scopes=...)`."""

    async def make(
        role: Role = Role.MEMBER, scopes: tuple[Scope, ...] = tuple(Scope), email: str | None = None
    ) -> Account:
        secret = tokens.new_secret()
        address = email or f"{uuid.uuid4().hex}@example.org"

        async def work(session: Session) -> Account:
            user = await users.create(session, email=address, name="Ada", password_hash=QUICK_HASH, role=role)
            token = await tokens.issue(
                session, user.id, kind=TokenKind.PERSONAL, name="test", scopes=scopes, secret=secret, expires_at=None
            )
            return Account(user.id, address, Viewer(user.id, role, frozenset(scopes), token.id), secret)

        session = Session(engine)
        try:
            return await session.transact(work)
        finally:
            await session.close()

    return make


@pytest.fixture
async def account(new_account: Callable[..., Any]) -> Account:
    return await new_account()  # type: ignore[no-any-return]


@pytest.fixture
async def admin(new_account: Callable[..., Any]) -> Account:
    return await new_account(Role.ADMIN)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
async def services(settings: Settings, engine: AsyncEngine) -> Services:
    return Services(settings, engine, Passwords(2))


@dataclass
class Answer:
    """What an operation came to, how many statements it took, and how many rows these read."""

    data: Any
    errors: list[GraphQLError]
    statements: int
    rows: int
    result: Result


@dataclass
class Api:
    """Executes operations in-process, each in a context of its own, as the endpoint does."""

    services: Services
    engine: Engine
    bugs: list[BaseException] = field(default_factory=list)

    async def run(self, query: str, account: Account | None = None, **variables: Any) -> Answer:
        """The whole answer of an operation, errors included."""
        document = self.engine.documents.get(query)
        assert not document.errors, document.errors
        context = Context(self.services)
        context.viewer = account.viewer if account else None
        try:
            result = await self.engine.execute(document.operation(None), variables, context)
            body = self.engine.encode(result)
        finally:
            await context.session.close()
        decoded = json.loads(body)
        session = context.session
        return Answer(decoded.get("data"), result.errors, session.statements, session.rows, result)

    async def __call__(self, query: str, account: Account | None = None, **variables: Any) -> Any:
        """The data of an operation that must succeed."""
        answer = await self.run(query, account, **variables)
        assert not answer.errors, answer.errors
        return answer.data


@pytest.fixture
async def api(services: Services) -> AsyncIterator[Api]:
    """The API on the executor that the server uses; a masked bug fails the test."""
    bugs: list[BaseException] = []

    def report(error: GraphQLError, cause: BaseException) -> str:
        bugs.append(cause)
        return "bug"

    documents = Documents(
        schema._schema,
        max_count=100,
        max_bytes=1_000_000,
        check=None,
        rules=(),
        max_tokens=2_000,
        hide_suggestions=False,
    )
    engine = Engine(schema, documents=documents, classify=classify, report=report, compiled=True)
    yield Api(replace(services), engine, bugs)
    if bugs:
        raise bugs[0]


@pytest.fixture
def stock_api(api: Api) -> Api:
    """The same on graphql-core's own executor."""
    engine = Engine(
        schema, documents=api.engine.documents, classify=classify, report=api.engine._report, compiled=False
    )
    return Api(api.services, engine, api.bugs)
