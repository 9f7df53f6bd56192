"""Rows whose derived columns are to be made anew: by a migration, and by the housekeeping.

What writes past this program (the release before, while both run; people) leaves a row without a mark, by a trigger,
and with words as PostgreSQL cuts them. What an earlier rule has cut has that rule's mark. Rows are read, cut in Python,
and written if their text is still the one that was read: nobody waits for that, and what was changed comes again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.types import TypeEngine

from persistence.models.base import Base, entities
from persistence.models.derived import MARK, Derivation, derivations, entering
from persistence.session import Session
from persistence.words import RULE

BATCH = 200
"""Rows that are cut at a time: some ms, or 2 s if each has as much text as there may be."""

UNCUT = f"{MARK} IS NULL"
BY_AN_EARLIER_RULE = f"({MARK} IS NULL OR {MARK} < {RULE << 32})"  # a later one is that of a newer process


@dataclass(frozen=True)
class Cutting:
    """The derived columns of a table: their types and rules, and the types of what they are made of."""

    table: str
    sources: Mapping[str, str]
    columns: Mapping[str, tuple[str, Derivation]]

    def found(self, where: str, after: bool) -> str:
        """SQL for the next rows to cut, by id and from one on: their ids, and what is cut."""
        names = ", ".join(["id", *self.sources])
        since = "AND id > :after " if after else ""
        return f"SELECT {names} FROM {self.table} WHERE {where} {since}ORDER BY id LIMIT {BATCH}"  # noqa: S608  # our names

    @property
    def written(self) -> str:
        """SQL that writes what was cut (`rows`) where the text is still the same, of rows that nobody has locked."""
        types = {"id": "uuid", **self.sources} | {name: kind for name, (kind, _) in self.columns.items()}
        members = ", ".join(f"{name} {kind}" for name, kind in types.items())
        values = ", ".join(f"{name} = cut.{name}" for name in self.columns)
        same = "".join(f" AND {self.table}.{name} = cut.{name}" for name in self.sources)
        return (
            f"WITH cut AS (SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS cut({members})), "  # noqa: S608  # our names
            f"free AS (SELECT id FROM {self.table} WHERE id IN (SELECT id FROM cut) FOR NO KEY UPDATE SKIP LOCKED) "
            f"UPDATE {self.table} SET {values} FROM cut JOIN free USING (id) WHERE {self.table}.id = cut.id{same}"
        )

    def rows(self, found: Sequence[Any]) -> str:
        """What is written of rows that were found."""
        rows = []
        for id, *texts in found:
            row: dict[str, Any] = dict(zip(self.sources, texts, strict=True))
            row |= {name: derivation.of(row) for name, (_, derivation) in self.columns.items()}
            rows.append({"id": str(id), **row})
        return orjson.dumps(rows).decode()


@cache
def cuttings() -> list[Cutting]:
    """The tables of entities that have a mark."""
    return [cutting(model) for model in entities().values() if MARK in derivations(model)]


def cutting(model: type[Base]) -> Cutting:
    columns = model.__table__.c
    return Cutting(
        model.__tablename__,
        {name: sql_of(columns[name].type) for name in entering(model)},
        {name: (sql_of(columns[name].type), derivation) for name, derivation in derivations(model).items()},
    )


def sql_of(kind: TypeEngine[Any]) -> str:
    return kind.compile(dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are


async def cut_all(
    transact: Callable[[Callable[[Session], Awaitable[list[Any]]]], Awaitable[list[Any]]], where: str = UNCUT
) -> int:
    """Cut the rows of all tables for which that holds, each batch by `transact`, in a transaction of its own.

    Returns how many there were.
    """
    count = 0
    for of in cuttings():
        ids: list[Any] = [None]
        while ids:
            ids = await transact(partial(cut, of=of, where=where, after=ids[-1]))
            count += len(ids)
    return count


async def cut(session: Session, of: Cutting, where: str, after: Any | None = None) -> list[Any]:
    """Cut the next rows; returns their ids."""
    values = {} if after is None else {"after": after}
    found = (await session.execute(text(of.found(where, after is not None)), values)).all()
    if found:
        rows = await asyncio.to_thread(of.rows, found)  # others go on meanwhile
        await session.execute(text(of.written), {"rows": rows})
    return [row[0] for row in found]
