"""Creating a row in one statement: the row, its entry in the change log and the answer for a retry.

The statement is a transaction of its own, so there are no BEGIN and COMMIT to wait for. It is the short way: where it
meets anything unexpected (the key was used before, the id is taken, the owner is gone) nothing is written and the long
way through the ORM says what is wrong. A test holds the two against each other.
"""

from functools import lru_cache
from typing import Any, cast

import orjson
from asyncpg import IntegrityConstraintViolationError
from sqlalchemy import Table, bindparam, func, insert, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB

from persistence.changes import OWNER, created_fields
from persistence.idempotency import Key
from persistence.ids import new_id
from persistence.models import Action, Base, Change, IdempotencyKey
from persistence.reading import Statement, by_ids
from persistence.session import Session
from persistence.snapshots import ENTITY

BY_DATABASE = frozenset({"created_at", "updated_at"})
LOG = ("id", "entity", "entity_id", "owner_id", "actor_id", "action", "version", "fields")

_LOGGED: Statement[Any] = Statement(select(Change.id).where(Change.id == bindparam("id", type_=Change.id.type)))


async def create(session: Session, row: Base, part: str, key: Key | None, columns: frozenset[str]) -> Any | None:
    """Write a new row that belongs to no session yet, and return it as it was stored, with the given columns.

    `part` is the name of the row in the answer that is kept under `key`. None: it has to go the long way.
    """
    model = type(row)
    statement = _statement(model, part, columns, key is not None)
    values = {f"row_{name}": getattr(row, name) for name in _given(model)}
    id, owner_id = row.id, getattr(row, OWNER[model].key)  # type: ignore[attr-defined]  # every entity is Identified
    values |= {
        "log_id": new_id(),
        "log_entity": model.__entity__,
        "log_entity_id": id,
        "log_owner_id": owner_id,
        "log_actor_id": session.actor_id,
        "log_action": Action.CREATED.value,
        "log_version": getattr(row, "version", None),
        "log_fields": orjson.dumps(created_fields(row)).decode(),
    }
    if key is not None:
        values |= {"scope_id": key.scope_id, "key_hash": key.key_hash, "input_hash": key.input_hash}
    try:
        [created] = await session.write(statement, values)
    except IntegrityConstraintViolationError:
        return None
    except ConnectionError:
        # Whether it was written is to be seen in the log. Not by the row: its id is the client's to choose, and
        # somebody else's row may have had it before.
        if not await session.fetch(_LOGGED, {"id": values["log_id"]}):
            return None
        found = await session.fetch(by_ids(model, columns), {"ids": [id]})
        return found[0] if found else None
    return created


@lru_cache(64)
def _given(model: type[Base]) -> tuple[str, ...]:
    """The columns that the application sets."""
    return tuple(c.name for c in model.__table__.columns if c.computed is None and c.name not in BY_DATABASE)


@lru_cache(256)
def _statement(model: type[Base], part: str, columns: frozenset[str], keyed: bool) -> Statement[Any]:
    table, log, keys = (cast("Table", kind.__table__) for kind in (model, Change, IdempotencyKey))
    public = [column for column in table.columns if column.name not in model.__private__]
    given = {name: bindparam(f"row_{name}", type_=table.c[name].type) for name in _given(model)}
    created = insert(table).values(given).returning(*public).cte("created")
    logged = insert(log).values({name: bindparam(f"log_{name}", type_=log.c[name].type) for name in LOG}).cte("logged")
    statement = select(*(created.c[name] for name in sorted(columns))).add_cte(logged)
    if keyed:
        entity = func.jsonb_build_object(*_texts(ENTITY, model.__entity__))
        whole = func.to_jsonb(literal_column("created"), type_=JSONB).op("||")(entity)
        answer = select(
            *(bindparam(name, type_=keys.c[name].type) for name in ("scope_id", "key_hash", "input_hash")),
            func.jsonb_build_object(*_texts(part), whole),
        ).select_from(created)
        names = ["scope_id", "key_hash", "input_hash", "answer"]
        statement = statement.add_cte(insert(keys).from_select(names, answer, include_defaults=False).cte("kept"))
    return Statement(statement, model.__entity__, model)


def _texts(*words: str) -> list[Any]:
    return [literal_column(f"'{word}'") for word in words]
