"""Users: who owns everything else."""

import enum

from sqlalchemy import BigInteger, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from persistence.models.base import Base, Identified, Timestamped, Versioned, choices, rule
from persistence.models.characters import one_line
from persistence.models.derived import derived
from persistence.words import mark
from persistence.words.folding import folded
from persistence.words.ordering import sort_key

EMAIL_MAX = 320  # of the column; an address has less (`persistence.rules.addresses`)
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
        # Kept folded, so that uniqueness and order need no expression. Collation C: the same order everywhere.
        # No more than what accounts keep that are older than the rules for addresses.
        rule("email !~ '[A-Z]'", "email_folded", "email", "email must be in lower case."),
        rule(
            r"email ~ '^[^@\t-\r ]+@[^@\t-\r ]+$'",
            "email_form",
            "email",
            "email must be an address such as ada@example.org.",
        ),
        # The type has the greatest length already.
        rule(
            one_line("name"),
            "name_length",
            "name",
            "name must have 1 to 200 characters in one line, to be seen at both ends.",
        ),
        # A function of the migrations: the names in `persistence.rules.zones`.
        rule(
            "is_time_zone(time_zone)",
            "time_zone_present",
            "timeZone",
            "timeZone must be an IANA time zone such as Europe/Berlin.",
        ),
        Index(None, "created_at", "id"),
        Index(None, "name_key", "id"),
        Index("ix_users_uncut", "id", postgresql_where=text("text_mark IS NULL")),
    )

    email: Mapped[str] = mapped_column(String(EMAIL_MAX, collation="C"), unique=True)
    name: Mapped[str] = mapped_column(String(NAME_MAX, collation="C"))
    time_zone: Mapped[str] = mapped_column(String(TIME_ZONE_MAX), default="UTC", server_default="UTC")
    role: Mapped[Role] = mapped_column(*choices(Role, "role"), default=Role.MEMBER, server_default=Role.MEMBER.value)
    password_hash: Mapped[str] = mapped_column(Text)
    name_key: Mapped[str] = derived(Text(collation="C"), sort_key, "name", default="''")
    name_folded: Mapped[str | None] = derived(Text(collation="C"), folded, "name")
    email_folded: Mapped[str | None] = derived(Text(collation="C"), folded, "email")
    text_mark: Mapped[int | None] = derived(BigInteger(), mark, "name", "email")
