"""What the log says of operations and bugs, and what it must not say."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog
import uvicorn

from graph.server import logs
from persistence import tasks
from persistence.settings import Settings
from tests.conftest import PASSWORD, Account
from tests.graph.application import application

pytestmark = pytest.mark.anyio


class Log:
    """What has been logged since."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self, event: str) -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in parsed if line["event"] == event]


@pytest.fixture
def log(settings: Settings) -> Iterator[Log]:
    root, log = logging.getLogger(), Log()
    before = root.handlers[:], root.level
    logs.configure(replace(settings, log_format="json", log_level="debug"))
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(log.stream)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # our own client logs what it requests
    yield log
    root.handlers[:], root.level = before
    structlog.reset_defaults()


@pytest.fixture
async def client(log: Log, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with application(settings) as client:
        yield client


async def post(client: httpx.AsyncClient, query: str, account: Account | None = None, **variables: Any) -> Any:
    headers = account.authorization if account else {}
    return (await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)).json()


async def test_an_operation_is_one_line_with_all_that_matters(
    client: httpx.AsyncClient, log: Log, account: Account
) -> None:
    await post(client, "query Mine { viewer { id name } }", account)

    (line,) = log.lines("operation")
    assert line["ms"] > 0
    assert line["request"]
    assert {name: line[name] for name in ("name", "kind", "status", "statements", "rows", "viewer", "level")} == {
        "name": "Mine",
        "kind": "query",
        "status": 200,
        "statements": 2,
        "rows": 2,
        "viewer": str(account.id),
        "level": "info",
    }
    assert "codes" not in line


async def test_a_refused_operation_is_logged_with_its_codes(client: httpx.AsyncClient, log: Log) -> None:
    await post(client, "{ tasks { totalCount } }")
    await post(client, "{ tasks {")
    await client.get("/graphql", params={"query": "mutation { signOut { replayed } }"})

    assert [(line["codes"], line["status"]) for line in log.lines("operation")] == [
        (["UNAUTHENTICATED"], 401),
        (["GRAPHQL_PARSE_FAILED"], 400),
        (["BAD_REQUEST"], 405),
    ]
    assert all("viewer" not in line for line in log.lines("operation"))


async def test_the_id_of_a_request_joins_its_answer_and_its_line(
    client: httpx.AsyncClient, log: Log, account: Account
) -> None:
    answer = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"X-Request-ID": "from-the-proxy"})

    assert [line["request"] for line in log.lines("operation")] == ["from-the-proxy"]
    assert answer.headers["x-request-id"] == "from-the-proxy"


async def test_no_secret_and_nothing_personal_is_logged(client: httpx.AsyncClient, log: Log, account: Account) -> None:
    secrets = [PASSWORD, account.secret, account.email, "Ada"]

    def secret(text: str) -> str:
        secrets.append(text)
        return text

    signed_up = await post(
        client,
        "mutation($input: SignUpInput!) { signUp(input: $input) { secret errors { message } } }",
        input={
            "email": secret("grace@example.net"),
            "name": secret("Grace Hopper"),
            "password": secret("nanoseconds1"),
        },
    )
    secret(signed_up["data"]["signUp"]["secret"])
    sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { secret errors { message } } }"
    await post(client, sign_in, input={"email": "grace@example.net", "password": secret("wrong-password")})
    await post(client, sign_in, input={"email": account.email, "password": {"nested": secret("mistyped-password")}})
    await post(
        client,
        f'mutation {{ changePassword(input: {{currentPassword: "{PASSWORD}", '
        f'newPassword: "{secret("brand-new-password")}"}}) {{ errors {{ message }} }} }}',
        account,
    )
    made = await post(client, 'mutation { createToken(input: {name: "laptop", scopes: [READ]}) { secret } }', account)
    secret(made["data"]["createToken"]["secret"])
    await post(
        client,
        "mutation($input: CreateTaskInput!) { createTask(input: $input) { task { id } errors { message } } }",
        account,
        input={
            "title": secret("Buy a ring"),
            "idempotencyKey": secret("key-of-the-client"),
            "tags": [secret("surprise")],
        },
    )
    await post(
        client, "query($search: String) { tasks(search: $search) { totalCount } }", account, search=secret("ring")
    )
    await post(client, f'{{ viewer {{ id }} }} # {secret("comment")} "unclosed')
    await client.post(
        "/graphql", json={"query": "{ viewer { id } }"}, headers={"Authorization": f"Bearer {secret('ts_forged')}"}
    )
    await client.get("/graphql", params={"query": f'{{ node(id: "{secret("not-an-id")}") {{ id }} }}'})

    assert len(log.lines("operation")) == 10
    assert [text for text in secrets if text in log.text] == []


async def test_a_bug_is_logged_with_its_id_and_place_but_no_message(
    client: httpx.AsyncClient, log: Log, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("could not purge the title Buy a ring")

    monkeypatch.setattr(tasks, "purge", broken)
    purge = "mutation($id: ID!) { purgeTask(input: {id: $id}) { purgedTaskId } }"
    answer = await post(client, purge, account, id=str(account.id))

    (error,) = answer["errors"]
    (line,) = log.lines("bug")
    assert (error["message"], error["extensions"]["code"]) == ("Internal server error", "INTERNAL_SERVER_ERROR")
    assert (line["id"], line["exception"], line["path"]) == (error["extensions"]["id"], "RuntimeError", "purgeTask")
    assert line["where"].startswith("tests/graph/server/test_logs.py:")
    assert line["where"].endswith(" in broken")
    assert "ring" not in log.text
    assert "Traceback" not in log.text


async def test_exceptions_that_libraries_log_lose_their_text(log: Log) -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    try:
        fail("the token ts_secret")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")

    (line,) = log.lines("Exception in ASGI application")
    assert (line["exception"], line["level"]) == ("ValueError", "error")
    assert line["where"].endswith(" in fail")
    assert "ts_secret" not in log.text


async def test_an_exception_that_nobody_awaited_loses_its_text(log: Log) -> None:
    async def fail() -> None:
        raise ValueError("the token ts_secret")

    loop = asyncio.get_running_loop()
    task = loop.create_task(fail())
    await asyncio.wait([task])
    loop.default_exception_handler(
        {"message": "Task exception was never retrieved", "exception": task.exception(), "future": task}
    )

    (line,) = log.lines("Task exception was never retrieved")
    assert (line["exception"], line["level"]) == ("ValueError", "error")
    assert "ts_secret" not in log.text


@pytest.mark.parametrize("text", ["console", "json"])
def test_lines_are_readable_in_either_format(settings: Settings, log: Log, text: str) -> None:
    logs.configure(replace(settings, log_format=text))
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(log.stream)
    structlog.stdlib.get_logger("taskstore.test").info("something happened", count=3)

    assert "something happened" in log.text
    assert ('"count": 3' if text == "json" else "count") in log.text


async def test_the_handlers_that_uvicorn_gave_itself_are_taken_away(log: Log, settings: Settings) -> None:
    uvicorn.Config("nowhere:app").configure_logging()  # what its own command does
    logs.configure(settings)

    for name in ("uvicorn", "uvicorn.error"):
        assert logging.getLogger(name).propagate
        assert not logging.getLogger(name).handlers
    # Otherwise it makes the text of a line for every request that nobody logs.
    assert not logging.getLogger("uvicorn.access").hasHandlers()
