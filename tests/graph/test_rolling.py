"""The schema changes while the server runs, as a rolling migration does it: no client sees anything of that."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.request.context import Services
from persistence import migrations, tokens, users
from persistence.connections.engine import create_engine
from persistence.models import Role, Scope, TokenKind
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from tests.conftest import PASSWORD, QUICK_HASH, Account, Api
from tests.graph.operations import DOCUMENTS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes")]

LIST = """{ tasks(first: 5, search: "roll") { nodes { id title dueAt createdAt owner { id name timeZone createdAt } }
        totalCount }
    viewer { id createdAt tasks(first: 2) { nodes { dueAt } } tokens(first: 5) { nodes { id expiresAt } } } }"""
ONE = "query One($id: ID!) { task(id: $id) { id title description dueAt createdAt owner { name timeZone updatedAt } } }"

CHANGES: list[tuple[str, ...]] = [
    ("ALTER TABLE tasks ALTER due_at TYPE timestamptz(3)", "ALTER TABLE tasks ALTER due_at TYPE timestamptz"),
    ("ALTER TABLE users ALTER created_at TYPE timestamptz(3)", "ALTER TABLE users ALTER created_at TYPE timestamptz"),
    ("ALTER TABLE tokens ALTER expires_at TYPE timestamptz(3)", "ALTER TABLE tokens ALTER expires_at TYPE timestamptz"),
    ("ALTER TABLE changes ALTER at TYPE timestamptz(3)", "ALTER TABLE changes ALTER at TYPE timestamptz"),
    (
        "ALTER TABLE idempotency_keys ALTER created_at TYPE timestamptz(3)",
        "ALTER TABLE idempotency_keys ALTER created_at TYPE timestamptz",
    ),
    ("ALTER TABLE tasks ADD COLUMN extra text DEFAULT 'x'", "ALTER TABLE tasks DROP COLUMN extra"),
    ("ALTER TABLE users ADD COLUMN extra text DEFAULT 'x'", "ALTER TABLE users DROP COLUMN extra"),
    ("ALTER TABLE tasks ADD CONSTRAINT extra CHECK (version > 0)", "ALTER TABLE tasks DROP CONSTRAINT extra"),
    (
        "CREATE DOMAIN words AS text",
        "ALTER TABLE users ALTER time_zone TYPE words",
        "ALTER DOMAIN words ADD CHECK (value <> 'nowhere')",
        "ALTER TABLE users ALTER time_zone TYPE varchar(64)",
        "DROP DOMAIN words",
    ),
]


@pytest.fixture
async def rolling(settings: Settings, new_database: Callable[[], str]) -> AsyncIterator[AsyncEngine]:
    url = await asyncio.to_thread(new_database)
    await asyncio.to_thread(migrations.upgrade, url)
    engine = create_engine(dataclasses.replace(settings, database_url=url, pool_size=4, pool_overflow=0))
    yield engine
    await engine.dispose()


async def some_account(engine: AsyncEngine) -> Account:
    async def work(session: Session) -> Account:
        secret, email = tokens.new_secret(), f"{uuid.uuid4().hex}@example.org"
        user = await users.create(session, email=email, name="Ada", password_hash=QUICK_HASH, role=Role.ADMIN)
        scopes = tuple(Scope)
        token = await tokens.issue(
            session, user.id, kind=TokenKind.PERSONAL, name="test", scopes=scopes, secret=secret, expires_at=None
        )
        return Account(user.id, email, Viewer(user.id, Role.ADMIN, frozenset(scopes), token.id), secret)

    return await Session(engine).transact(work)


@pytest.mark.parametrize("change", range(len(CHANGES)))
async def test_no_client_sees_that_the_schema_changes(api: Api, rolling: AsyncEngine, change: int) -> None:
    api.services = Services(api.services.settings, rolling, api.services.passwords)
    account = await some_account(rolling)
    created = await api(DOCUMENTS["createTask"], account, input={"title": "roll", "dueAt": "2030-01-01T00:00:00Z"})
    id = created["createTask"]["task"]["id"]
    failed: list[Any] = []

    async def everything(n: int) -> None:
        key = {"idempotencyKey": uuid.uuid4().hex}
        asked: list[tuple[str, dict[str, Any]]] = [
            (LIST, {}),
            (ONE, {"id": id}),
            (DOCUMENTS["createTask"], {"input": {"title": f"roll {n}", "dueAt": "2030-01-01T00:00:00Z"}}),
            (DOCUMENTS["createTask"], {"input": {"title": f"roll {n}", "tags": ["a"], **key}}),
            (DOCUMENTS["createTask"], {"input": {"title": f"roll {n}", "tags": ["a"], **key}}),
            (DOCUMENTS["updateTask"], {"input": {"id": id, "description": f"{n}"}}),
            (DOCUMENTS["updateViewer"], {"input": {"name": f"Ada {n}"}}),
            (DOCUMENTS["signIn"], {"input": {"email": account.email, "password": PASSWORD}}),
            (
                DOCUMENTS["createToken"],
                {"input": {"name": "x", "scopes": ["READ"], "idempotencyKey": uuid.uuid4().hex}},
            ),
        ]
        for query, variables in asked:
            answer = await api.run(query, account, **variables)
            if answer.errors or any((answer.data[name] or {}).get("errors") for name in answer.data):
                failed.append((query[:40], answer.errors, answer.data))

    async def round() -> None:
        for task in [asyncio.create_task(everything(n)) for n in range(8)]:
            await task

    await round()
    for statement in CHANGES[change]:
        async with rolling.begin() as connection:
            await connection.execute(text("SET LOCAL lock_timeout = 0"))
            await connection.execute(text(statement))
        await round()

    assert failed == []


async def test_no_client_sees_that_the_schema_changes_under_load(api: Api, rolling: AsyncEngine) -> None:
    api.services = Services(api.services.settings, rolling, api.services.passwords)
    account = await some_account(rolling)
    created = await api(DOCUMENTS["createTask"], account, input={"title": "roll", "dueAt": "2030-01-01T00:00:00Z"})
    id, over, ran = created["createTask"]["task"]["id"], asyncio.Event(), [0, 0, 0]

    async def client(n: int) -> None:
        while not over.is_set():
            await api(LIST, account)
            await api(ONE, account, id=id)
            new = await api(DOCUMENTS["createTask"], account, input={"title": "roll", "dueAt": "2030-01-01T00:00:00Z"})
            mine = new["createTask"]["task"]["id"]
            done = await api(DOCUMENTS["updateTask"], account, input={"id": mine, "description": f"{n}"})
            assert done["updateTask"]["errors"] == []
            ran[n] += 1

    clients = [asyncio.create_task(client(n)) for n in range(len(ran))]
    engine = create_engine(Settings(database_url=rolling.url.render_as_string(hide_password=False)), pooled=False)
    for statements in CHANGES:
        for statement in statements:
            async with engine.begin() as connection:
                await connection.execute(text("SET LOCAL lock_timeout = 0"))
                await connection.execute(text(statement))
            await asyncio.sleep(0.1)
    over.set()
    await asyncio.gather(*clients)

    assert min(ran) > 3
