"""Columns that are made of others by a rule in Python, whoever writes a row through this program.

    search: Mapped[str] = derived(TSVECTOR(), words.document, "title", "description", default="''")

says all: they are set with every INSERT and UPDATE of what they are made of, never shown, and never logged. Rows that
something else has written are found by their `text_mark`, which is null (`persistence.writes.cutting`).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from sqlalchemy import event, inspect, text
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.types import TypeEngine

from persistence.models.base import DERIVED, Base

MARK = "text_mark"
"""The column that says by which rule the others were made, and of what (`persistence.words.mark`)."""


@dataclass(frozen=True)
class Derivation:
    """The rule of a column, and the columns with what it takes, in its order."""

    rule: Callable[..., Any]
    sources: tuple[str, ...]

    @cached_property
    def of(self) -> Callable[[Mapping[str, Any]], Any]:
        """What makes the value of a row's values. (The general way takes longer than most rules.)"""
        rule, sources = self.rule, self.sources
        if len(sources) == 1:
            [only] = sources
            return lambda values: rule(values[only] or "")
        if len(sources) == 2:
            first, second = sources
            return lambda values: rule(values[first] or "", values[second] or "")
        return lambda values: rule(*[values[source] or "" for source in sources])


def derived(
    kind: TypeEngine[Any], rule: Callable[..., Any], *sources: str, default: str | None = None
) -> MappedColumn[Any]:
    """A column that is made of others. `default` is what it has in rows that something else has written."""
    return mapped_column(
        kind,
        deferred=True,
        deferred_raiseload=True,
        server_default=None if default is None else text(default),
        info={DERIVED: Derivation(rule, sources)},
    )


@cache
def derivations(model: type[Base]) -> dict[str, Derivation]:
    """The derived columns of a model."""
    return {c.name: c.info[DERIVED] for c in model.__table__.columns if DERIVED in c.info}


@cache
def entering(model: type[Base]) -> tuple[str, ...]:
    """The columns that others are made of."""
    sources = [source for derivation in derivations(model).values() for source in derivation.sources]
    return tuple(dict.fromkeys(sources))


def derive(model: type[Base], values: Mapping[str, Any]) -> dict[str, Any]:
    """The derived columns of a row with these values."""
    return {name: derivation.of(values) for name, derivation in derivations(model).items()}


@event.listens_for(Base, "before_insert", propagate=True)
def insert(mapper: Any, connection: Any, row: Base) -> None:
    set_derived(row, entering(type(row)))


@event.listens_for(Base, "before_update", propagate=True)
def update(mapper: Any, connection: Any, row: Base) -> None:
    attributes = inspect(row).attrs
    set_derived(row, [name for name in entering(type(row)) if attributes[name].history.has_changes()])


def set_derived(row: Base, changed: Collection[str]) -> None:
    if changed:
        values = {name: getattr(row, name) for name in entering(type(row))}
        for name, derivation in derivations(type(row)).items():
            if not set(changed).isdisjoint(derivation.sources):
                setattr(row, name, derivation.of(values))
