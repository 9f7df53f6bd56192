"""The operations that the tests of the API send, named once: they are also the corpus for comparing executors."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from graphql import get_named_type
from starlette.types import Scope

from graph.execution.errors import RequestError
from graph.request.context import Context, Services
from persistence.viewer import Viewer
from tests.conftest import Account, Api
from tests.graph.samples import fields_of, selection

ERRORS = """errors { __typename code message path
    ... on ConflictError { currentVersion current { __typename id ... on Task { title version } } }
    ... on LimitError { retryAfterSeconds } }"""
TASK = """{ id title description status completed priority tags dueAt overdue completedAt version
    createdAt updatedAt deletedAt owner { id name } }"""
USER = "{ id email name timeZone role version createdAt updatedAt }"
TOKEN = "{ id name kind scopes prefix expiresAt revokedAt lastUsedAt createdAt expired }"


def document(name: str, fields: str) -> str:
    """The document of a mutation that takes `$input` and asks for everything."""
    kind = name[0].upper() + name[1:]
    return f"mutation {kind}($input: {kind}Input!) {{ {name}(input: $input) {{ {fields} replayed {ERRORS} }} }}"


def fields_of_payload(mutation: str) -> str:
    """What a payload shows, with all that is of a row itself."""
    parts: Any = get_named_type(fields_of("Mutation")[mutation].type)
    names = [name for name in parts.fields if name not in ("errors", "replayed")]
    return " ".join(f"{name}{selection(parts.fields[name], 0)}" for name in names)


MUTATIONS = {
    "signUp": f"user {USER} token {TOKEN} secret",
    "signIn": f"user {USER} token {TOKEN} secret",
    "signOut": f"token {TOKEN}",
    "updateViewer": f"user {USER}",
    "changePassword": f"user {USER}",
    "deleteViewer": "deletedUserId",
    "createToken": f"token {TOKEN} secret",
    "revokeToken": f"token {TOKEN}",
    "createUser": f"user {USER}",
    "updateUser": f"user {USER}",
    "deleteUser": "deletedUserId",
    "createTask": f"task {TASK}",
    "updateTask": f"task {TASK}",
    "completeTask": f"task {TASK}",
    "reopenTask": f"task {TASK}",
    "deleteTask": f"task {TASK}",
    "restoreTask": f"task {TASK}",
    "purgeTask": "purgedTaskId",
}
DOCUMENTS = {
    **{name: document(name, fields_of_payload(name)) for name in fields_of("Mutation")},
    **{name: document(name, fields) for name, fields in MUTATIONS.items()},
}


async def write(api: Api, mutation: str, account: Account | None, /, **given: Any) -> Any:
    """The payload of a mutation, errors included."""
    return (await api(DOCUMENTS[mutation], account, input=given))[mutation]


async def done(api: Api, mutation: str, account: Account | None, /, **given: Any) -> Any:
    """The payload of a mutation that must succeed."""
    payload = await write(api, mutation, account, **given)
    assert payload["errors"] == [], payload["errors"]
    return payload


async def new_task(api: Api, account: Account, /, **given: Any) -> Any:
    """A task, made through the API."""
    return (await done(api, "createTask", account, **{"title": "Write", **given}))["task"]


def problems(payload: Any) -> list[tuple[str, str, str]]:
    """A payload's errors as (type, code, path)."""
    return [(error["__typename"], error["code"], ".".join(error["path"])) for error in payload["errors"]]


async def refused(api: Api, query: str, account: Account | None = None, /, **variables: Any) -> Any:
    """The code of the one top-level error of an operation."""
    answer = await api.run(query, account, **variables)
    [error] = answer.errors
    return (error.extensions or {})["code"]


def http_scope(secret: str | None = None, address: str = "127.0.0.1") -> Scope:
    """A request as the endpoint sees it, with a bearer token."""
    headers = [] if secret is None else [(b"authorization", f"Bearer {secret}".encode())]
    return {"type": "http", "headers": headers, "client": (address, 1)}


@asynccontextmanager
async def entered(
    services: Services, request: Scope | None = None, params: Mapping[str, Any] | None = None
) -> AsyncIterator[Context]:
    """The context of one operation, as the endpoint enters and leaves it."""
    context = Context(services, request, params)
    try:
        if (entering := context.enter()) is not None:
            await entering
        yield context
    finally:
        if (leaving := context.leave()) is not None:
            await leaving


async def holder(api: Api, secret: str) -> Viewer | None:
    """Who holds a secret now, or None where it is refused."""
    try:
        async with entered(api.services, http_scope(secret)) as context:
            return context.viewer
    except RequestError as error:
        if (error.code, error.status) != ("UNAUTHENTICATED", 401):
            raise
        return None


async def bearer(api: Api, payload: Any) -> Account:
    """The account that a payload of signing in opened."""
    viewer = await holder(api, payload["secret"])
    assert viewer is not None
    return Account(viewer.id, payload["user"]["email"], viewer, payload["secret"])
