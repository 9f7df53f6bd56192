"""What all tables share: naming convention, column types, and the mixins for times, trash and versions."""

import enum
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ColumnElement, DateTime, Enum, MetaData, Text, Uuid, func, inspect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, declared_attr, mapped_column

from persistence.models.ids import new_id

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


DERIVED = "derived"
"""What a column has among its `info` that is made of others (`persistence.models.derived`)."""


class Base(DeclarativeBase):
    """The declarative base. `__entity__` is the name of the type in the API, for tables that have one."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB(none_as_null=True),
    }
    # The database's clock comes back with the INSERT or UPDATE itself: nothing can be loaded later.
    __mapper_args__: Any = {"eager_defaults": True}
    __entity__: ClassVar[str]
    __owner__: ClassVar[str]
    """The column that says whose data a row is (`persistence.access`), for entities and for the log of them."""
    __private__: ClassVar[frozenset[str]] = frozenset()
    """Columns whose values never enter the change log or an answer; what is derived from others is among them."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__private__ |= {column.name for column in cls.__table__.columns if DERIVED in column.info}


@cache
def entities() -> Mapping[str, type[Base]]:
    """The models of what has a type in the API, by the names of these types and in their order. Not to be asked before
    all of them are there."""
    models: list[type[Base]] = [mapper.class_ for mapper in Base.registry.mappers]
    named = {model.__entity__: model for model in models if hasattr(model, "__entity__")}
    return dict(sorted(named.items()))


@cache
def public(model: type[Base]) -> Mapping[str, InstrumentedAttribute[Any]]:
    """The columns of a table whose values may enter an answer, by their names."""
    names = [column.key for column in inspect(model).column_attrs if column.key not in model.__private__]
    return {name: getattr(model, name) for name in names}


def choices(kind: type[enum.StrEnum], column: str) -> tuple[Enum, CheckConstraint]:
    """The type of an enumeration's column: VARCHAR with a CHECK, so that a value is added by an additive migration.

    The CHECK compares with an array. The IN that SQLAlchemy writes takes PostgreSQL twice as long, for every row.
    """
    values = [member.value for member in kind]
    check = CheckConstraint(f"{column} = ANY ('{{{','.join(values)}}}')", name=column)
    return Enum(kind, native_enum=False, length=20, name=column, values_callable=lambda members: values), check


def rule(sql: str, name: str, field: str, words: str) -> CheckConstraint:
    """A rule about rows, with what it says to people of a field when the database finds it broken."""
    return CheckConstraint(sql, name=name, info={"rule": (words, field)})


class Identified:
    """A UUIDv7 key, made by the application or chosen by the client that creates the row.

    That of an entity is unique over all entities (`persistence.models.entities`).
    """

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, sort_order=-10)


class Timestamped:
    """When the row was written first and last, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now(), sort_order=91)


class Versioned:
    """A version that counts the row's states: 1, 2, 3, ... An UPDATE that meets another version fails."""

    version: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=92)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return {**Base.__mapper_args__, "version_id_col": cls.version}


class SoftDeleted:
    """In the trash since `deleted_at`, or not."""

    deleted_at: Mapped[datetime | None] = mapped_column(sort_order=93)

    @hybrid_property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None

    @is_deleted.inplace.expression
    @classmethod
    def _is_deleted(cls) -> ColumnElement[bool]:
        return cls.deleted_at.is_not(None)

    @classmethod
    def active(cls) -> ColumnElement[bool]:
        """The query filter for rows that are not in the trash."""
        return cls.deleted_at.is_(None)
