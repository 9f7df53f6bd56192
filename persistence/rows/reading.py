"""Reads: a Core select compiled once, and rows as the driver's own records.

Measured per 1,000 rows against the bare driver: the ORM takes 4.2 times as long, Core rows 1.8, these
records 1.2. What a column type would do to a value on the way is kept (`Statement.record`), except that an
enumeration stays the text that is stored: the API knows both forms.

Most moments and ids go straight into an answer. So the database writes them as text in the form they have there
(`Written`), and an attribute of a row makes a datetime or UUID of it when somebody asks. Measured for a moment: 0.1 us
instead of 0.7 for making and writing a datetime, 0.1 us more in PostgreSQL.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Generic, TypeVar

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Enum,
    Float,
    FromClause,
    ScalarSelect,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.types import TypeEngine

from persistence.models import Base

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialect constructors are untyped

Row = TypeVar("Row")


class Written(Text):
    """A value as the text it has in an answer.

    `kind` is the class of the value and `parse` makes one of the text. Text of one of the `lengths` is that of the
    answer; other text is right but not of that form (the fraction of a second is shorter). None: every text is.
    """

    def __init__(self, kind: type, parse: Callable[[str], Any], lengths: frozenset[int] | None) -> None:
        super().__init__()
        self.kind, self.parse, self.lengths = kind, parse, lengths


MOMENT = Written(datetime, datetime.fromisoformat, frozenset({20, 27}))
ID = Written(UUID, UUID, None)


def written(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What to select for a column: moments (RFC 3339, in UTC) and ids as text, everything else as it is."""
    if isinstance(column.type, Uuid):
        return type_coerce(cast(column, Text), ID)
    if isinstance(column.type, DateTime):
        local = cast(func.timezone(literal_column("'UTC'"), column), Text)
        text = func.replace(local, literal_column("' '"), literal_column("'T'")).op("||")(literal_column("'Z'"))
        return type_coerce(text, MOMENT)
    return column


@dataclass(frozen=True, slots=True)
class Item:
    """A column of a record that is read by position: as it is, or as the text of a `Written` value of this class.

    Who wants the text of an answer takes it from the record, as the class of the record says (`__items__`).
    """

    position: int
    kind: type | None = None
    lengths: frozenset[int] | None = None


Selected = Select[*tuple[Any, ...]] | ReturningInsert[*tuple[Any, ...]]


class Statement(Generic[Row]):
    """One select (or what an INSERT returns) as driver SQL with `$1`, `$2`, ... and the record class of its rows.

    `entity` is the API's name of what the rows are, `model` the table that joined columns belong to. A row has an
    attribute for every selected column, and `__entity__`.
    """

    __slots__ = ("names", "record", "sql")

    def __init__(self, select: Selected, entity: str = "", model: type[Base] | None = None) -> None:
        compiled = select.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        self.names: Sequence[str] = compiled.positiontup or ()
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        if fixed:  # a value that was not left to `arguments` is part of the statement itself
            raise ValueError(f"write {', '.join(fixed)} with literal() or bindparam()")
        columns = tuple((column.name, column.type) for column in select.exported_columns)
        self.record = record_class(entity, columns, model)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The driver's positional arguments for named values. Raises `KeyError` for one that is missing."""
        return [values[name] for name in self.names]


class Dear(Statement[Row]):
    """One that may look at many rows: only some of these run at once (`persistence.connections.shares`)."""

    __slots__ = ()


def unseen(name: str, kind: TypeEngine[Any]) -> ScalarSelect[Any]:
    """An array among the values of a statement, which the planner does not look into.

    It would find that a plan for a few is cheaper than one for the ten that it assumes, and plan anew each time: 100 us
    where the rest takes 60 (PostgreSQL 18 documentation, PREPARE, "Notes": custom and generic plans).
    """
    return select(bindparam(name, type_=ARRAY(kind))).scalar_subquery()


def selection(model: type[Base], columns: Collection[str]) -> tuple[list[Any], FromClause]:
    """What to select for columns of a table, and from where.

    `owner.name` is the column of the row that `owner_id` refers to, which is joined.
    """
    table = model.__table__
    source: FromClause = table
    joined: dict[str, FromClause] = {}
    selected: list[Any] = []
    for name in sorted(columns):
        relation, dot, column = name.partition(".")
        if not dot:
            selected.append(written(table.c[name]).label(name))
            continue
        if relation not in joined:
            local = table.c[f"{relation}_id"]
            [key] = local.foreign_keys
            joined[relation] = key.column.table.alias(relation)
            source = source.join(joined[relation], local == joined[relation].c[key.column.name])
        selected.append(written(joined[relation].c[column]).label(name))
    return selected, source


@lru_cache(1_024)
def record_class(entity: str, columns: tuple[tuple[str, TypeEngine[Any]], ...], model: type[Base] | None) -> type:
    """A subclass of the driver's record whose attributes are the columns, by position.

    Statements that select the same share it: whoever reads rows may do something once for each class.

    The columns of a joined row (`owner.id`, `owner.name`) are the attributes of the attribute `owner_row`.
    """
    columns_of: dict[str, dict[str, tuple[int, TypeEngine[Any]]]] = {"": {}}
    for position, (name, kind) in enumerate(columns):
        relation, _, column = name.rpartition(".")
        columns_of.setdefault(relation, {})[column] = position, kind
    views = {}
    for relation, parts in columns_of.items():
        if relation:
            assert model is not None
            views[f"{relation}_row"] = view_class(target(model, relation).__entity__, parts)
    members: dict[str, Any] = {"__slots__": (), "__entity__": entity, "__row__": "", "__views__": views}
    members["__items__"] = items(columns_of[""])
    members |= {name: property(reader(*column)) for name, column in columns_of[""].items()}
    members |= {name: property(view) for name, view in views.items()}
    return type(f"{entity or 'Row'}Record", (asyncpg.Record,), members)


def target(model: type[Base], relation: str) -> type[Base]:
    """The model that a relation of another leads to: `owner` to what `owner_id` refers to."""
    [key] = model.__table__.c[f"{relation}_id"].foreign_keys
    [found] = [mapper.class_ for mapper in Base.registry.mappers if mapper.local_table is key.column.table]
    return found


def view_class(entity: str, columns: Mapping[str, tuple[int, TypeEngine[Any]]]) -> type:
    """A class of rows that are part of a wider record. `columns` are their positions in it and their types."""

    def keep(view: Any, record: Any) -> None:
        view.record = record

    members: dict[str, Any] = {"__slots__": ("record",), "__init__": keep, "__entity__": entity, "__row__": "record"}
    members |= {"__items__": items(columns), "__views__": {}}
    members |= {name: property(through_record(reader(*column))) for name, column in columns.items()}
    return type(f"{entity}View", (), members)


def through_record(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda view: read(view.record)


def items(columns: Mapping[str, tuple[int, TypeEngine[Any]]]) -> dict[str, Item]:
    """The columns that are read by position."""
    found = {}
    for name, (position, kind) in columns.items():
        if isinstance(kind, Written):
            found[name] = Item(position, kind.kind, kind.lengths)
        elif processor(kind) is None:
            found[name] = Item(position)
    return found


def reader(position: int, kind: TypeEngine[Any]) -> Callable[[Any], Any]:
    """What reads one column of a record, with the result processing of its type where it has one."""
    get = itemgetter(position)
    process = processor(kind)
    if isinstance(kind, Written):
        parse = kind.parse
        return lambda record: None if (text := get(record)) is None else parse(text)
    return get if process is None else lambda record: process(get(record))


def processor(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """What a column type would do to a value on its way, if anything."""
    inner = kind.item_type if isinstance(kind, ARRAY) else kind
    if isinstance(inner, (Enum, Float)):  # a float comes as a float; its processor wants the driver's type number
        return None
    return kind.dialect_impl(DIALECT).result_processor(DIALECT, None)


@lru_cache(1_024)
def by_ids(model: type[Base], columns: frozenset[str]) -> Statement[Any]:
    """Rows of one table by their ids (`ids`), with the given columns."""
    table = model.__table__
    selected, _ = selection(model, columns)
    ids = unseen("ids", table.c.id.type)
    return Statement(select(*selected).where(table.c.id == any_(cast(ids, ids.type))), model.__entity__)
