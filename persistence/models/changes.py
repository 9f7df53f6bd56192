"""The append-only log of every write, in the order in which the writes became visible."""

import enum
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, String, func
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from persistence.models.base import Base, Identified, choices


class TransactionId(UserDefinedType[int]):
    """PostgreSQL's xid8: a transaction's 64-bit number, which never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


ischema_names["xid8"] = TransactionId  # so that `alembic check` recognises the column


class Action(enum.StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    RESTORED = "restored"
    PURGED = "purged"


class Change(Identified, Base):
    """One write of one row.

    A sequence alone loses late committers for a reader that remembers the highest number seen. So the order is
    (`xact`, `seq`), and a reader takes only rows whose `xact` is below `pg_snapshot_xmin(pg_current_snapshot())`:
    every transaction below that has ended.
    """

    __tablename__ = "changes"
    __owner__ = "owner_id"
    __table_args__ = (
        Index(None, "xact", "seq"),
        Index(None, "owner_id", "xact", "seq"),
        Index(None, "entity_id", "xact", "seq"),
    )

    xact: Mapped[int] = mapped_column(TransactionId(), server_default=func.pg_current_xact_id())
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    entity: Mapped[str] = mapped_column(String(20))
    entity_id: Mapped[UUID]
    owner_id: Mapped[UUID]
    """Whose data it is. No foreign key: that something is gone must outlive its owner."""
    actor_id: Mapped[UUID | None]
    """Who wrote it; None: the system."""
    action: Mapped[Action] = mapped_column(*choices(Action, "action"))
    version: Mapped[int | None]
    fields: Mapped[dict[str, Any] | None]
    """`{field: [before, after]}` of the changed fields; None where the content was purged."""
    at: Mapped[datetime] = mapped_column(server_default=func.now())
