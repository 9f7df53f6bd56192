"""Walking over the whole schema: somebody with one of everything, and the answers that others get about it."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from graphql import GraphQLEnumType, get_named_type
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import access, tokens
from persistence.models import Change, Scope, TokenKind
from persistence.models.base import entities
from persistence.session import Session
from persistence.viewer import Viewer
from tests.conftest import Account, Api
from tests.graph.operations import done, new_task
from tests.graph.samples import (
    SCHEMA,
    Place,
    creations,
    fields_of,
    filled,
    operation,
    places,
    variables_of,
    with_value,
)

PUBLIC = {"signUp", "signIn"}
# Where a client chooses the id of what it makes. Ids are unique in the whole store, so one that is taken cannot be
# had; nobody can guess one, and the answer shows nothing of what has it.
CHOSEN = {f"{kind}.id" for kind in ("SignUpInput", *(f"Create{entity}Input" for entity in entities()))}
MARK = "hidden-treasure"
VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # ids
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{32}@example.org|tsk_[\w-]+|\"\w*[cC]ursor\": \"[\w-]+\"",
    re.IGNORECASE,
)


def for_admins(owner: str, name: str) -> bool:
    """Whether the description of a field says that it is for admins alone."""
    return "For admins" in (fields_of(owner)[name].description or "")


def refusal(owner: str, name: str, viewer: Viewer | None) -> list[str]:
    """The codes with which a field is refused to a viewer."""
    if owner == "Mutation" and name in PUBLIC:
        return []
    if viewer is None:
        return ["UNAUTHENTICATED"]
    may = viewer.may_write if owner == "Mutation" else viewer.may_read
    if for_admins(owner, name):
        may = may and viewer.may_read and access.administers(viewer)
    return [] if may else ["FORBIDDEN"]


@dataclass
class Victim:
    """Somebody with one of everything, all of it marked."""

    account: Account
    ids: dict[str, str]
    cursor: str

    def is_in(self, text: str) -> bool:
        """Whether an answer shows something of it."""
        return MARK in text or any(id in text for id in self.ids.values())


async def new_victim(api: Api, new_account: Any, task_id: str | None = None) -> Victim:
    """Somebody new, whose task has this id."""
    account = await new_account(email=f"{MARK}-{uuid.uuid4().hex}@example.org")
    await done(api, "updateViewer", account, name=MARK)
    given = {"id": task_id} if task_id else {}
    task = await new_task(api, account, title=f"{MARK} task", description=MARK, tags=[MARK], **given)
    for status, priority in zip(names_in("TaskStatus"), names_in("TaskPriority"), strict=True):
        await new_task(api, account, title=f"{MARK} {status}", status=status, priority=priority)
    trashed = await new_task(api, account, title=f"{MARK} trash")
    await done(api, "deleteTask", account, id=trashed["id"])
    revoked = await done(api, "createToken", account, name=f"{MARK} token", scopes=["READ"])
    await done(api, "revokeToken", account, id=revoked["token"]["id"])
    ids = {
        **{entity.lower(): id for entity, id in (await made_by(api, account, marked=True)).items()},
        "user": str(account.id),
        "task": task["id"],
        "trashed": trashed["id"],
        "token": str(account.viewer.token_id),
        "revoked": revoked["token"]["id"],
    }
    data = await api("{ tasks { pageInfo { endCursor } } }", account)
    return Victim(account, ids, data["tasks"]["pageInfo"]["endCursor"])


def names_in(enumeration: str) -> list[str]:
    kind = SCHEMA.type_map[enumeration]
    assert isinstance(kind, GraphQLEnumType)
    return list(kind.values)


async def names_of(api: Api, account: Account) -> dict[str, str]:
    """What the samples of somebody are filled with."""
    return {
        **{entity.lower(): id for entity, id in (await made_by(api, account)).items()},
        "email": f"{uuid.uuid4().hex}@example.org",
        "own_email": account.email,
        "user": str(account.id),
    }


async def made_by(api: Api, account: Account, *, marked: bool = False) -> dict[str, str]:
    """The id of a new thing of each type that somebody can make, by its name; `marked`: with all texts it may have."""
    made = {}
    for entity, mutation in creations().items():
        given = filled(variables_of("Mutation", mutation), {})["input"]
        payload = await done(api, mutation, account, **given, **(marks(mutation) if marked else {}))
        made[entity] = payload[entity[0].lower() + entity[1:]]["id"]
    return made


def marks(mutation: str) -> dict[str, Any]:
    """The mark, or a list of it, for every text in the input of a mutation that may be absent."""
    kind: Any = get_named_type(fields_of("Mutation")[mutation].args["input"].type)
    texts = {name: field.type for name, field in kind.fields.items() if get_named_type(field.type).name == "String"}
    del texts["idempotencyKey"]
    return {name: [MARK] if "[" in str(type_) else MARK for name, type_ in texts.items() if "!" not in str(type_)[-1:]}


async def limited(engine: AsyncEngine, account: Account, scopes: tuple[Scope, ...]) -> Account:
    """The same user with another token."""
    secret = tokens.new_secret()

    async def work(session: Session) -> Viewer:
        token = await tokens.issue(
            session, account.id, kind=TokenKind.PERSONAL, name="x", scopes=scopes, secret=secret, expires_at=None
        )
        return Viewer(account.id, account.viewer.role, frozenset(scopes), token.id)

    session = Session(engine)
    try:
        return replace(account, viewer=await session.transact(work), secret=secret)
    finally:
        await session.close()


async def whole(api: Api, account: Account | None, owner: str, name: str, variables: Any, depth: int = 1) -> str:
    """The whole answer to an operation as text, errors included. Who may see everybody's things asks for them."""
    if account is not None and access.administers(account.viewer) and "scope" in fields_of(owner)[name].args:
        latest = [{"field": "UPDATED_AT", "direction": "DESC"}]  # other tests make tasks in the future
        variables = {"scope": "ALL", "orderBy": latest, **variables}
    found = await api.run(operation(owner, name, depth), account, **variables)
    return json.dumps([found.data, [error.formatted for error in found.errors]], sort_keys=True, default=str)


async def answer(api: Api, account: Account | None, place: Place, value: Any, names: dict[str, str]) -> str:
    """The whole answer with a value at a place, without what differs from one run to the next."""
    variables = filled(with_value(place, value), names)
    if place.coordinate == "SignInInput.email":
        variables["input"]["password"] = "not the password"
    text = await whole(api, account, place.owner, place.root, variables)
    return VARYING.sub("*", text.replace(str(value), "*").replace(str(value).lower(), "*"))


def of_type(leaf: str) -> list[Place]:
    """The places whose values are of a type; there must be some."""
    found = [place for place in places() if place.leaf == leaf]
    assert found, leaf
    return found


async def everything(engine: AsyncEngine, user_id: Any) -> dict[str, Any]:
    """All rows of somebody, as they are."""
    async with engine.connect() as connection:
        found = {}
        models: list[Any] = [*entities().values(), Change]
        for model in models:
            table, owner = model.__tablename__, model.__owner__
            rows = await connection.execute(
                text(f"SELECT to_jsonb(t) - 'last_used_at' FROM {table} AS t WHERE {owner} = :id ORDER BY 1"),
                {"id": user_id},
            )
            found[table] = rows.scalars().all()
        return found


# Values to look for the things of somebody else with: all have some of them.
LOOKED_FOR: dict[str, list[Any]] = {
    "String": [MARK, f"{MARK} task", "UTC"],
    "DateTime": ["2020-01-01T00:00:00Z", "2035-01-01T00:00:00Z"],
    "Int": [1, 2, 50],
    "Boolean": [True, False],
}


def values_at(place: Place, task_id: str, cursors: list[str]) -> list[Any]:
    """What to put into a place in order to find what is somebody else's. Fails for a type that nobody thought of."""
    if place.path[-1] in ("after", "before"):
        return cursors
    if place.leaf == "ID":
        return [task_id]
    kind = get_named_type(place.type)
    if isinstance(kind, GraphQLEnumType):
        return list(kind.values)
    assert place.leaf in LOOKED_FOR, f"say in tests/graph/walk.py which values of {place.leaf} to look for"
    return LOOKED_FOR[place.leaf]


def combined(variables: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, and with a filter and its contrary, one of which holds for everything."""
    yield variables
    if variables.get("filter"):
        yield {**variables, "filter": {"or": [variables["filter"], {"not": variables["filter"]}]}}


def cursors_in(text: str) -> list[str]:
    return sorted(set(re.findall(r'"(?:start|end)Cursor": "([\w-]+)"', text)))
