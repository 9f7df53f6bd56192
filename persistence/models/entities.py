"""The ids of all entities, whatever their tables."""

from uuid import UUID

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from persistence.models.base import Base


class Entity(Base):
    """An id that is taken, for ever: what was purged leaves its id here.

    Nothing in Python writes it. Each table of entities has triggers that do, whoever writes there and how, and the
    primary key lets only one of two entities have an id.
    """

    __tablename__ = "entities"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    entity: Mapped[str] = mapped_column(String(20))
    """The name of its type in the API."""
