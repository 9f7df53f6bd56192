"""What the store keeps about requests: answers for retries, failed sign-ins, and what may still be spent."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Double, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from persistence.models.base import Base


class IdempotencyKey(Base):
    """The answer to a mutation, so that a retry gets it again. Written in the mutation's own transaction."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index(None, "created_at"),
        Index(None, "entity_id"),
        # Most show what is their keeper's own: those are found by the keeper.
        Index(None, "owner_id", postgresql_where=text("owner_id <> scope_id")),
    )

    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Whose key it is: the viewer, or what stands for an anonymous client."""
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """The client's key as a SHA-256: with the key itself a secret in the answer could be read."""
    input_hash: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[dict[str, Any] | None]
    entity_id: Mapped[UUID | None]
    """What the answer shows, by which it is found when that comes to its end; of a session it is the token."""
    owner_id: Mapped[UUID | None]
    """Whose data that is."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ClosedAccount(Base):
    """An account that is gone for everybody and whose rows are being deleted (`persistence.writes.closing`).

    Nearly always there is none, so that every statement can ask for them.
    """

    __tablename__ = "closed_accounts"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    actor_id: Mapped[UUID | None]
    """Who deleted it, for the change log; None: the system."""
    closed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SignInAttempts(Base):
    """Failed sign-ins of an account or an address of origin since the last success."""

    __tablename__ = "sign_in_attempts"

    subject: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """A hash of the account or the address, so that this table names nobody."""
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RateBudget(Base):
    """The cost points somebody had left when they were counted last; they refill with time."""

    __tablename__ = "rate_budgets"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """A hash of whose budget it is, so that this table names nobody."""
    points: Mapped[float] = mapped_column(Double)
    counted_at: Mapped[datetime] = mapped_column(server_default=func.now())
