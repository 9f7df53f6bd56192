"""Filters: from a shape without values to SQL, so that a statement is built once for each shape.

A shape is a nested tuple:

    ("and", shape, ...)   ("or", shape, ...)   ("not", shape)
    ("compare", field, comparator)             its value is the next of the filter's values
    ("null", field, True)                      has no value
    ("related", relation, shape)

The meaning is that of two-valued logic, as in Python: `status != x` holds for a row without a status, and
`not (due < x)` holds for a row that is never due. SQL's third value never decides.
"""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    String,
    all_,
    and_,
    any_,
    bindparam,
    collate,
    exists,
    false,
    func,
    literal_column,
    not_,
    or_,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeEngine

from persistence import access
from persistence.models import Base
from persistence.models.base import public

Shape = tuple[Any, ...]

EMPTY: Shape = ("and",)
"""The shape of the filter that everything passes."""


@dataclass(frozen=True, eq=False)
class Relation:
    """A to-one relation a filter may follow: the column here, and what is there."""

    local: InstrumentedAttribute[Any]
    target: "Filterable"


@dataclass(frozen=True, eq=False)
class Filterable:
    """The fields of an entity that a filter may name.

    Raises `ValueError` for a relation to what not everybody sees who sees the row: a filter would tell of it.
    """

    model: type[Base]
    columns: Mapping[str, InstrumentedAttribute[Any]]
    relations: Mapping[str, Relation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, relation in self.relations.items():
            if not access.sees_with(self.model, relation.local.key):
                raise ValueError(f"{self.model.__name__}.{name}: a filter follows it to what the viewer may not see")


def filterable(model: type[Base], **relations: Filterable) -> Filterable:
    """All public columns of a table, and relations: `owner` follows `owner_id` to what has these fields."""
    to_one = {name: Relation(getattr(model, f"{name}_id"), target) for name, target in relations.items()}
    return Filterable(model, public(model), to_one)


def predicate(filterable: Filterable, shape: Shape) -> ColumnElement[bool]:
    """The SQL of a shape; its values are bound to `f0`, `f1`, ... in the order of the shape."""
    names = (f"f{n}" for n in itertools.count())
    return _sql(filterable, shape, names, negated=False)


def size(shape: Shape) -> int:
    """How many conditions a shape has, those that join others and empty ones included."""
    return 1 + sum(size(part) for part in shape if isinstance(part, tuple)) if shape else 0


def named_values(values: list[Any]) -> dict[str, Any]:
    """The values of a filter by the names `predicate` gives them."""
    return {f"f{n}": value for n, value in enumerate(values)}


def _sql(filterable: Filterable, shape: Shape, names: Iterator[str], *, negated: bool) -> ColumnElement[bool]:
    # A negation is carried down to the comparisons (De Morgan), where it is exact for NULL as well.
    match shape:
        case ("and" | "or" as word, *parts):
            conditions = [_sql(filterable, part, names, negated=negated) for part in parts]
            if (word == "and") != negated:
                return and_(true(), *conditions)
            return or_(false(), *conditions)
        case ("not", part):
            return _sql(filterable, part, names, negated=not negated)
        case ("null", name, is_null):
            column = filterable.columns[name]
            return column.is_(None) if is_null != negated else column.is_not(None)
        case ("related", name, part):
            relation = filterable.relations[name]
            key = relation.target.model.__table__.c.id
            condition = _sql(relation.target, part, names, negated=False)
            related = exists().where(key == relation.local, condition)
            return not_(related) if negated else related
        case ("compare", name, comparator):
            column = filterable.columns[name]
            positive, negative = COMPARATORS[comparator]
            return (negative if negated else positive)(column, next(names))
    raise ValueError(f"not a filter: {shape!r}")


Comparison = Callable[[Any, str], ColumnElement[bool]]
"""From a column and the name of the bound value to a condition."""


def _plain(compare: Callable[[Any, Any], Any]) -> Comparison:
    return lambda column, name: compare(column, bindparam(name, type_=_of_any_length(column.type)))


def _of_any_length(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of values for a column: a longer value is another one, and VARCHAR(n)[] would cut it to be equal."""
    if isinstance(kind, ARRAY):
        return ARRAY(_of_any_length(kind.item_type))
    return String() if isinstance(kind, String) else kind


def _ordered(compare: Callable[[Any, Any], Any]) -> Comparison:
    """By code points, where the column itself has the order of the database's locale."""
    comparison = _plain(compare)

    def by_code_points(column: Any, name: str) -> ColumnElement[bool]:
        local = isinstance(column.type, String) and column.type.collation is None
        return comparison(collate(column, "C") if local else column, name)

    return by_code_points


def _function(name: str) -> Comparison:
    return _plain(lambda column, value: getattr(func, name)(column, value))


def _operator(symbol: str) -> Comparison:
    return _plain(lambda column, value: column.op(symbol, is_comparison=True)(value))


def _listed(column: Any, name: str) -> ColumnElement[bool]:
    return column == any_(bindparam(name, type_=ARRAY(_of_any_length(column.type))))  # type: ignore[no-any-return]  # columns are Any here


def _unlisted(column: Any, name: str) -> ColumnElement[bool]:
    return column != all_(bindparam(name, type_=ARRAY(_of_any_length(column.type))))  # type: ignore[no-any-return]


def _negated(comparison: Comparison) -> Comparison:
    return lambda column, name: not_(comparison(column, name))


def _or_null(comparison: Comparison) -> Comparison:
    def compare(column: Any, name: str) -> ColumnElement[bool]:
        condition = comparison(column, name)
        return or_(column.is_(None), condition) if column.expression.nullable else condition

    return compare


_contains: Comparison = _plain(lambda column, value: func.strpos(column, value) > literal_column("0"))
_starts_with = _function("starts_with")
_ends_with: Comparison = _plain(lambda column, value: func.right(column, func.length(value)) == value)


def _folded(comparison: Comparison) -> Comparison:
    """The same of the folded text (`persistence.words.folding`), with which the value is folded already.

    Text that is all ASCII, and only that, is folded by `lower` in collation C, in any database: it is stored once.
    """

    def compare(column: Any, name: str) -> ColumnElement[bool]:
        lower = func.lower(collate(column, "C"), type_=String(collation="C"))
        stored = column.table.c.get(f"{column.key}_folded")
        return comparison(lower if stored is None else func.coalesce(stored, lower, type_=String(collation="C")), name)

    return compare


# What holds, and what holds when it does not: each with NULL decided.
COMPARATORS: Mapping[str, tuple[Comparison, Comparison]] = {
    "eq": (_plain(operator.eq), _or_null(_plain(operator.ne))),
    "ne": (_or_null(_plain(operator.ne)), _plain(operator.eq)),
    "in": (_listed, _or_null(_unlisted)),
    "not_in": (_or_null(_unlisted), _listed),
    "lt": (_ordered(operator.lt), _or_null(_ordered(operator.ge))),
    "lte": (_ordered(operator.le), _or_null(_ordered(operator.gt))),
    "gt": (_ordered(operator.gt), _or_null(_ordered(operator.le))),
    "gte": (_ordered(operator.ge), _or_null(_ordered(operator.lt))),
    "contains": (_contains, _or_null(_negated(_contains))),
    "starts_with": (_starts_with, _or_null(_negated(_starts_with))),
    "ends_with": (_ends_with, _or_null(_negated(_ends_with))),
    "eq_ignore_case": (_folded(_plain(operator.eq)), _or_null(_folded(_plain(operator.ne)))),
    "contains_ignore_case": (_folded(_contains), _or_null(_negated(_folded(_contains)))),
    "starts_with_ignore_case": (_folded(_starts_with), _or_null(_negated(_folded(_starts_with)))),
    "has_all": (_operator("@>"), _negated(_operator("@>"))),
    "has_any": (_operator("&&"), _negated(_operator("&&"))),
    "has_none": (_negated(_operator("&&")), _operator("&&")),
}
