"""Users: who owns everything else."""

import enum

from sqlalchemy import CheckConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from persistence.models.base import Base, Identified, Timestamped, Versioned, choices

EMAIL_MAX = 320  # RFC 5321, section 4.5.3.1: 64 for the local part, 255 for the domain, and the @
NAME_MAX = 200
TIME_ZONE_MAX = 64


class Role(enum.StrEnum):
    MEMBER = "member"
    ADMIN = "admin"


class User(Identified, Timestamped, Versioned, Base):
    __tablename__ = "users"
    __entity__ = "User"
    __owner__ = "id"
    __private__ = frozenset({"password_hash"})
    __table_args__ = (
        # Kept in lower case, so that uniqueness and order need no expression. Collation C: the same order everywhere.
        CheckConstraint("email = lower(email)", name="email_folded"),
        CheckConstraint("email ~ '^[^@[:space:]]+@[^@[:space:]]+$'", name="email_form"),
        CheckConstraint(f"char_length(name) BETWEEN 1 AND {NAME_MAX} AND name = btrim(name)", name="name_length"),
        CheckConstraint("char_length(time_zone) > 0", name="time_zone_present"),
        Index(None, "created_at", "id"),
        Index(None, "name", "id"),
    )

    email: Mapped[str] = mapped_column(String(EMAIL_MAX, collation="C"), unique=True)
    name: Mapped[str] = mapped_column(String(NAME_MAX, collation="C"))
    time_zone: Mapped[str] = mapped_column(String(TIME_ZONE_MAX), default="UTC", server_default="UTC")
    role: Mapped[Role] = mapped_column(*choices(Role, "role"), default=Role.MEMBER, server_default=Role.MEMBER.value)
    password_hash: Mapped[str] = mapped_column(Text)
