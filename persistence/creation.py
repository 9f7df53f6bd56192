"""Creating a row in one statement: the row, its entry in the change log and the answer for a retry.

The statement is a transaction of its own, so there are no BEGIN and COMMIT to wait for. It is the short way: where it
meets anything unexpected (the key was used before, the id is taken, the owner is gone) nothing is written and the long
way through the ORM says what is wrong. A test holds the two against each other.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import orjson
from asyncpg import IntegrityConstraintViolationError
from sqlalchemy import Table, bindparam, func, insert, literal_column, null, select
from sqlalchemy.dialects.postgresql import JSONB

from persistence.changes import OWNER, created_fields, defaults, plain
from persistence.idempotency import Key
from persistence.ids import new_id
from persistence.models import Action, Base, Change, IdempotencyKey
from persistence.reading import Statement, by_ids, written
from persistence.session import Session
from persistence.snapshots import ENTITY

BY_DATABASE = frozenset({"created_at", "updated_at"})

_LOGGED: Statement[Any] = Statement(select(Change.id).where(Change.id == bindparam("id", type_=Change.id.type)))


async def create(
    session: Session, model: type[Base], values: Mapping[str, Any], part: str, key: Key | None, columns: frozenset[str]
) -> Any | None:
    """Write a new row with these values, and return it as it was stored, with the given columns.

    Columns that are not among the values get their default. `part` is the name of the row in the answer that is kept
    under `key`. None: it has to go the long way.
    """
    statement = _statement(model, part, columns, key is not None)
    absent = _absent(model)
    row = {**absent, **values}
    assert len(row) == len(absent), f"{model.__name__} has not all the columns {sorted(values)}"
    for name, make in defaults(model).items():
        if row[name] is None:
            row[name] = make()
    fields = created_fields(model, row)
    row["log_id"], row["log_actor_id"] = new_id(), session.actor_id
    row["log_fields"] = orjson.dumps(fields, plain, orjson.OPT_PASSTHROUGH_DATETIME).decode()
    if key is not None:
        row |= {"kept_scope_id": key.scope_id, "kept_key_hash": key.key_hash, "kept_input_hash": key.input_hash}
    try:
        [created] = await session.write(statement, row)
    except IntegrityConstraintViolationError:
        return None
    except ConnectionError:
        # Whether it was written is to be seen in the log. Not by the row: its id is the client's to choose, and
        # somebody else's row may have had it before.
        if not await session.fetch(_LOGGED, {"id": row["log_id"]}):
            return None
        found = await session.fetch(by_ids(model, columns), {"ids": [row["id"]]})
        return found[0] if found else None
    return created


@lru_cache(64)
def _absent(model: type[Base]) -> dict[str, None]:
    """The columns that the application sets, with nothing in them."""
    return {c.name: None for c in model.__table__.columns if c.computed is None and c.name not in BY_DATABASE}


@lru_cache(256)
def _statement(model: type[Base], part: str, columns: frozenset[str], keyed: bool) -> Statement[Any]:
    """What is written: the columns of the row by their names, and what else there is in the log and in the answer."""
    table, log, keys = (cast("Table", kind.__table__) for kind in (model, Change, IdempotencyKey))
    row = {name: bindparam(name, type_=table.c[name].type) for name in _absent(model)}
    entry = {
        "id": bindparam("log_id", type_=log.c.id.type),
        "entity": _text(model.__entity__),
        "entity_id": row["id"],
        "owner_id": row[OWNER[model].key],
        "actor_id": bindparam("log_actor_id", type_=log.c.actor_id.type),
        "action": _text(Action.CREATED.value),
        "version": row.get("version", null()),
        "fields": bindparam("log_fields", type_=log.c.fields.type),
    }
    logged = insert(log).values(entry).cte("logged")
    if not keyed:
        returned = [written(table.c[name]).label(name) for name in sorted(columns)]
        return Statement(insert(table).values(row).returning(*returned).add_cte(logged), model.__entity__, model)
    public = [column for column in table.columns if column.name not in model.__private__]
    created = insert(table).values(row).returning(*public).cte("created")
    entity = func.jsonb_build_object(_text(ENTITY), _text(model.__entity__))
    whole = func.to_jsonb(literal_column("created"), type_=JSONB).op("||")(entity)
    names = ("scope_id", "key_hash", "input_hash")
    given = [bindparam(f"kept_{name}", type_=keys.c[name].type) for name in names]
    answer = select(*given, func.jsonb_build_object(_text(part), whole)).select_from(created)
    kept = insert(keys).from_select([*names, "answer"], answer, include_defaults=False).cte("kept")
    selected = [written(created.c[name]).label(name) for name in sorted(columns)]
    return Statement(select(*selected).add_cte(logged, kept), model.__entity__, model)


def _text(word: str) -> Any:
    return literal_column(f"'{word}'")
