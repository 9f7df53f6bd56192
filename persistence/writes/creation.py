"""Creating rows in one statement: each row, its entry in the change log and the answer for a retry.

The statement is a transaction of its own, so there are no BEGIN and COMMIT to wait for. Rows that are created at the
same time share one (`persistence.connections.sharing`): PostgreSQL takes 208 us of CPU for a row alone and 88 for one
of sixteen.

It is the short way: where it meets anything unexpected (the key was used before, the id is taken, the owner is gone)
nothing is written and the long way through the ORM says what is wrong. A test holds the two against each other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import orjson
from asyncpg import DeadlockDetectedError, IntegrityConstraintViolationError, PostgresError, QueryCanceledError
from asyncpg.pgproto import pgproto
from sqlalchemy import (
    ARRAY,
    Integer,
    Table,
    any_,
    bindparam,
    column,
    func,
    literal_column,
    null,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.types import TypeEngine

from persistence.access import OWNER, for_others, good_tokens_of_admins, of_open_account
from persistence.connections.failures import (
    ConnectionBroke,
    Contended,
    NothingDone,
    UnknownOutcome,
    is_out_of_order,
    is_unreachable,
)
from persistence.connections.patience import SETTLE_SECONDS
from persistence.connections.readers import Readers
from persistence.models import Action, Base, Change, IdempotencyKey, Token
from persistence.models.derived import derive
from persistence.models.ids import new_id
from persistence.rows.reading import Statement, by_ids, written
from persistence.session import Session
from persistence.writes.changes import defaults, initial, plain
from persistence.writes.idempotency import ENTITY, Key

BY_DATABASE = frozenset({"created_at", "updated_at"})
"""Columns whose default is the time of the transaction."""
OF_KEY = ("scope_id", "key_hash", "input_hash")
OF_ANSWER = ("entity_id", "owner_id", "answer")
KEY = (IdempotencyKey.scope_id, IdempotencyKey.key_hash)

ATTEMPTS = 3
"""How often a statement is sent again whose connection broke."""

PATIENCE = 2.0
"""After so many seconds without an answer it is sent over another connection: nothing in it waits for others."""

TURN_SECONDS = 3.0
"""As `TASKSTORE_LOCK_TIMEOUT` has it unless it is set."""

_LOGGED: Statement[Any] = Statement(select(Change.id).where(Change.id == bindparam("id", type_=Change.id.type)))


async def create(
    session: Session,
    model: type[Base],
    values: Mapping[str, Any],
    part: str,
    key: Key | None,
    columns: frozenset[str],
    token_id: UUID | None = None,
) -> Any | None:
    """Write a new row with these values, and return it as it was stored, with the given columns.

    Columns that are not among the values get their default. `part` is the name of the row in the answer that is kept
    under `key`. `token_id` is the actor's token: a row for somebody else needs one that is good, and an admin's. None:
    it has to go the long way.
    """
    absent = _absent(model)
    row = {**absent, **values}
    assert len(row) == len(absent), f"{model.__name__} has not all the columns {sorted(values)}"
    for name, make in defaults(model).items():
        if row[name] is None:
            row[name] = make()
    row |= derive(model, row)
    fields = {
        name: [None, TEXTS[kind](value) if (kind := type(value)) in TEXTS else value]
        for name, value in initial(model, row)
    }
    row |= {"log_id": new_id(), "log_actor_id": session.actor_id, "log_fields": fields}
    apart: tuple[Any, ...] = (row["id"],)
    if key is not None:
        row |= {"kept_scope_id": key.scope_id, "kept_key_hash": key.key_hash, "kept_input_hash": key.input_hash}
        apart = row["id"], (key.scope_id, key.key_hash)
    others = for_others(session.actor_id, row[OWNER[model].key])
    if others:
        row["actor_token_id"] = token_id
    creation, began = _creation(model, part, columns, key is not None, others), time.monotonic()
    try:
        created = await session.share(creation, write, row, frozenset(apart))
    except (IntegrityConstraintViolationError, DeadlockDetectedError):
        return None
    except QueryCanceledError:
        if time.monotonic() - began > SETTLE_SECONDS:
            raise
        return None  # it was meant for another statement
    except ConnectionBroke as error:
        created = await _again(session, creation, row, frozenset(apart), error)
    session.rows += created is not None
    return created


@asynccontextmanager
async def turn(session: Session, model: type[Base], values: Mapping[str, Any]) -> AsyncIterator[None]:
    """The turn of a new row to go the long way. Rows of one owner go one after another.

    The owner may be locked, by who deletes the account: then one connection waits for that, and others are left to
    others. Raises `Contended` when its turn does not come for as long as the database waits for a lock.
    """
    lock = session.turn_of((model, values[OWNER[model].key]))
    try:
        async with asyncio.timeout(TURN_SECONDS):
            await lock.acquire()
    except TimeoutError:
        raise Contended from None
    try:
        yield
    finally:
        lock.release()


async def _again(
    session: Session, creation: "Creation", row: dict[str, Any], apart: frozenset[Any], error: ConnectionBroke
) -> Any | None:
    """Write a row whose statement met a broken connection, unless that has written it; as `create`.

    The server may still be at the first run, or come to it later. Both runs have the ids of the row and of its entry in
    the log, and the database takes each of them once: whoever comes second waits for the other, and writes nothing.
    Raises `UnknownOutcome` when nobody can say whether it was written.
    """
    sent = False
    for _ in range(ATTEMPTS):
        sent = sent or not isinstance(error, NothingDone)
        try:
            return await _unless_written(session, creation, row, apart, sent)
        except ConnectionBroke as again:
            error = again
        except Exception as failure:
            if sent and not isinstance(failure, UnknownOutcome):
                raise UnknownOutcome from failure
            raise
    if sent:
        raise UnknownOutcome from error
    raise error


async def _unless_written(
    session: Session, creation: "Creation", row: dict[str, Any], apart: frozenset[Any], sent: bool
) -> Any | None:
    if sent and (found := await _logged_row(session, creation, row)) is not None:
        return found
    try:
        created = await session.share(creation, write, row, apart)
    except IntegrityConstraintViolationError:  # by an earlier run, or by what was an obstacle to that as well
        created, obstacle = None, True
    else:
        obstacle = False
    if created is not None or not sent:
        return created
    if (found := await _logged_row(session, creation, row)) is not None:
        return found
    if not obstacle and "kept_key_hash" not in row:
        # An owner who is locked now may not be when the server comes to an earlier run; only a key would show that.
        raise UnknownOutcome
    return None


async def _logged_row(session: Session, creation: "Creation", row: dict[str, Any]) -> Any | None:
    """The row if the log says that it was written. Not if it is there: its id is the client's to choose, and somebody
    else's row may have had it before."""
    if not await session.fetch(_LOGGED, {"id": row["log_id"]}):
        return None
    found = await session.fetch(by_ids(creation.model, creation.columns), {"ids": [row["id"]]})
    if not found:  # and was purged since
        raise UnknownOutcome
    return found[0]


class Creation:
    """The statements for rows that are created alike: one for a row alone, and one for several."""

    def __init__(self, model: type[Base], part: str, columns: frozenset[str], *, keyed: bool, for_others: bool) -> None:
        self.model, self.columns = model, columns
        self.alone = _alone(model, part, columns, keyed, for_others)
        self.together = _together(model, part, columns, keyed, for_others)


@lru_cache(256)
def _creation(model: type[Base], part: str, columns: frozenset[str], keyed: bool, for_others: bool) -> Creation:
    return Creation(model, part, columns, keyed=keyed, for_others=for_others)


async def write(creation: Creation, readers: Readers, rows: list[dict[str, Any]]) -> list[Any]:
    """What was written for each row: None for one that met an obstacle, or the error of the database."""
    if len(rows) == 1:
        return [await _write_alone(creation.alone, readers, rows[0])]
    try:
        return await _write_together(creation.together, readers, rows)
    except PostgresError as error:
        if is_unreachable(error) or is_out_of_order(error):
            raise
        # Otherwise one spoils it for all, so each has to go alone.
    return await asyncio.gather(*(_write_alone(creation.alone, readers, row) for row in rows), return_exceptions=True)


async def _write_together(statement: Statement[Any], readers: Readers, rows: list[dict[str, Any]]) -> list[Any]:
    given = []
    for place, row in enumerate(rows):
        members = {
            name: TEXTS[kind](value) if (kind := type(value)) in TEXTS else value
            for name, value in row.items()
            if value is not None  # what is absent is null
        }
        members["place"] = place
        given.append(members)
    answers: list[Any] = [None] * len(rows)
    for created in await readers.once(statement, [orjson.dumps(given).decode()], PATIENCE):
        answers[created.place] = created
    return answers


async def _write_alone(statement: Statement[Any], readers: Readers, row: dict[str, Any]) -> Any:
    fields = orjson.dumps(row["log_fields"]).decode()
    rows = await readers.once(statement, statement.arguments({**row, "log_fields": fields}), PATIENCE)
    return rows[0] if rows else None


TEXTS: dict[type, Callable[[Any], str]] = {
    UUID: str,
    pgproto.UUID: str,
    datetime: plain,
    bytes: lambda value: f"\\x{value.hex()}",
}
"""What makes text of values that orjson writes otherwise, or would ask about: that takes twice as long."""


@lru_cache(64)
def _absent(model: type[Base]) -> dict[str, None]:
    """The columns that the application sets, with nothing in them."""
    return {c.name: None for c in model.__table__.columns if c.computed is None and c.name not in BY_DATABASE}


def _alone(model: type[Base], part: str, columns: frozenset[str], keyed: bool, for_others: bool) -> Statement[Any]:
    """The values of one row are parameters. An owner who is gone or locked leaves it out, and an actor who is no
    admin one for others; other obstacles break a constraint."""
    given = {name: bindparam(name, type_=type_) for name, type_ in _given(model, keyed, for_others).items()}
    row: Any = select(*(given[name] for name in _absent(model)))
    for owner in _owners(model):
        row = _free(row.where(owner == given[OWNER[model].key], of_open_account(owner)))
    if for_others:
        row = row.where(good_tokens_of_admins(given["actor_token_id"]).exists())
    new: Any = insert(_table(model)).from_select(list(_absent(model)), row, include_defaults=False)
    created = new.returning(*_public(model)).cte("created")
    written_too = [_logged(model, given, created).cte("logged")]
    if keyed:
        written_too.append(_kept(model, part, given, created.c).cte("kept"))
    return Statement(_written(created, columns).add_cte(*written_too), model.__entity__, model)


def _together(model: type[Base], part: str, columns: frozenset[str], keyed: bool, for_others: bool) -> Statement[Any]:
    """The values are members of the objects in the one parameter `rows`. A row that meets an obstacle is left out.

    Keys come first, because nothing but their index says for sure whether one was used. After that an id that is taken
    has to break a constraint, and each row goes alone; so it does without keys where it is not a row of this table that
    has the id (`persistence.writes.unique_ids`).
    """
    given: Any = _with_free_owners(model, _given(model, keyed, for_others), for_others)
    if keyed:
        stored = {c.name: given.c.get(c.name, func.now()) for c in _public(model)}
        kept = _kept(model, part, given.c, stored).on_conflict_do_nothing().returning(*KEY).cte("kept")
        of_key = tuple_(given.c.kept_scope_id, given.c.kept_key_hash)
        given = select(given).where(of_key.in_(select(kept))).cte("fresh")
    row = select(*(given.c[name] for name in _absent(model)))
    new: Any = insert(_table(model)).from_select(list(_absent(model)), row, include_defaults=False)
    if not keyed:
        new = new.on_conflict_do_nothing()
    created = new.returning(*_public(model)).cte("created")
    both = given.join(created, created.c.id == given.c.id)
    logged = _logged(model, given.c, both).cte("logged")
    answers = _written(created, columns).add_columns(given.c.place).select_from(both)
    return Statement(answers.add_cte(logged), model.__entity__, model)


def _table(model: type[Base]) -> Table:
    return cast("Table", model.__table__)


def _public(model: type[Base]) -> list[Any]:
    return [column for column in _table(model).columns if column.name not in model.__private__]


def _given(model: type[Base], keyed: bool, for_others: bool) -> dict[str, TypeEngine[Any]]:
    """What is given for a row: its columns by their names, and what else there is in the log and in the answer."""
    table, log, keys = (kind.__table__ for kind in (model, Change, IdempotencyKey))
    types = {name: table.c[name].type for name in _absent(model)}
    types |= {"log_id": log.c.id.type, "log_actor_id": log.c.actor_id.type, "log_fields": log.c.fields.type}
    if for_others:
        types["actor_token_id"] = Token.id.type
    if keyed:
        types |= {f"kept_{name}": keys.c[name].type for name in OF_KEY}
    return types


def _with_free_owners(model: type[Base], types: Mapping[str, Any], for_others: bool) -> Any:
    """The rows of the parameter `rows` whose owner is there, and not locked.

    Who deletes the account has it locked, and all would wait for that. Owners are looked up by index, one at a time:
    the plan is made once, and to read the whole table is the best one only as long as there is little in it.
    """
    members = [column(name, type_) for name, type_ in {**types, "place": Integer()}.items()]
    recordset = func.jsonb_to_recordset(bindparam("rows", type_=JSONB)).table_valued(*members)
    rows = select(recordset.render_derived(name="row", with_types=True)).cte("rows")
    found = select(rows)
    for owner in _owners(model):
        owners = _array(select(rows.c[OWNER[model].key]), owner.type)
        free = _free(select(owner).where(owner == any_(owners), of_open_account(owner))).cte("owners")
        found = found.where(rows.c[OWNER[model].key] == any_(_array(select(free.c[owner.name]), owner.type)))
    if for_others:
        held = _array(select(rows.c.actor_token_id), Token.id.type)
        good = _array(good_tokens_of_admins(any_(held)), Token.id.type)
        found = found.where(rows.c.actor_token_id == any_(good))
    return found.cte("given")


def _array(query: Any, kind: TypeEngine[Any]) -> Any:
    """What a query finds, as an array: found once, it is compared with in a filter, which takes no join."""
    return func.array(query.scalar_subquery(), type_=ARRAY(kind))


def _owners(model: type[Base]) -> list[Any]:
    """The column that says which row owns one of the model, unless they own themselves."""
    return [reference.column for reference in OWNER[model].property.columns[0].foreign_keys]


def _free(owners: Any) -> Any:
    """Only those that nobody has locked; they cannot be deleted before the statement is over."""
    return owners.with_for_update(read=True, key_share=True, skip_locked=True)


def _logged(model: type[Base], given: Any, source: Any = None) -> Any:
    """The entry in the change log."""
    entry = {
        "id": given["log_id"],
        "entity": _text(model.__entity__),
        "entity_id": given["id"],
        "owner_id": given[OWNER[model].key],
        "actor_id": given["log_actor_id"],
        "action": _text(Action.CREATED.value),
        "version": given.get("version", null()),
        "fields": given["log_fields"],
    }
    entries = select(*entry.values())
    if source is not None:
        entries = entries.select_from(source)
    return insert(_table(Change)).from_select(list(entry), entries, include_defaults=False)


def _kept(model: type[Base], part: str, given: Any, stored: Any) -> Any:
    """The key with the answer for a retry (`persistence.writes.snapshots`), of the row as it is stored."""
    members: list[Any] = [_text(ENTITY), _text(model.__entity__)]
    for c in _public(model):
        members += [_text(c.name), stored[c.name]]
    answer = func.jsonb_build_object(_text(part), func.jsonb_build_object(*members))
    shown = given["id"], given[OWNER[model].key], answer
    entries = select(*(given[f"kept_{name}"] for name in OF_KEY), *shown)
    return insert(_table(IdempotencyKey)).from_select([*OF_KEY, *OF_ANSWER], entries, include_defaults=False)


def _written(created: Any, columns: frozenset[str]) -> Any:
    """What the answer shows of the rows."""
    return select(*(written(created.c[name]).label(name) for name in sorted(columns)))


def _text(word: str) -> Any:
    return literal_column(f"'{word}'")
