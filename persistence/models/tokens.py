"""Tokens: what a client shows instead of a password. Only a hash of the secret is kept."""

import enum
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from persistence.models.base import Base, Identified, Timestamped, choices, rule
from persistence.models.characters import one_line

NAME_MAX = 200
PREFIX_LENGTH = 12


class TokenKind(enum.StrEnum):
    SESSION = "session"
    PERSONAL = "personal"


class Scope(enum.StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Token(Identified, Timestamped, Base):
    __tablename__ = "tokens"
    __entity__ = "Token"
    __owner__ = "user_id"
    __private__ = frozenset({"secret_hash"})
    __table_args__ = (
        rule(
            one_line("name"),
            "name_length",
            "name",
            "name must have 1 to 200 characters in one line, to be seen at both ends.",
        ),
        rule(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin']::varchar[]",
            "scopes",
            "scopes",
            "scopes must name at least one scope, and no unknown one.",
        ),
        CheckConstraint("octet_length(secret_hash) = 32", name="secret_hash_length"),
        rule("expires_at > created_at", "expires_after_creation", "expiresAt", "expiresAt must be in the future."),
        Index(None, "user_id", "created_at", "id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(NAME_MAX))
    kind: Mapped[TokenKind] = mapped_column(*choices(TokenKind, "kind"))
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(20)))
    prefix: Mapped[str] = mapped_column(String(PREFIX_LENGTH))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]

    @property
    def is_expired(self) -> bool:
        """Whether its time is over; a token without a time never expires."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)
