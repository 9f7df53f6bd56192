"""The rules of single values, in Python: every problem of an input is found before one is told.

The database has the same rules as constraints; these say it in friendlier words and with a path.
"""

import unicodedata
import zoneinfo
from collections.abc import Sequence
from datetime import datetime
from functools import cache

from persistence.models import tasks as task_rules
from persistence.models import users as user_rules
from persistence.rules.errors import Code, Invalid, Problem

MAX_PROBLEMS = 50
"""After so many problems nothing more is looked at: who reads them has enough to mend."""

PASSWORD_MIN = 10
PASSWORD_MAX = 1_000  # characters; a bound on the work that one request can ask for


class Checked:
    """Collects the problems of one input; `done`, or the last that is collected, raises them together as `Invalid`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, code: Code, message: str, *path: str | int) -> None:
        self.problems.append(Problem(code, message, path))
        if len(self.problems) == MAX_PROBLEMS:
            self.done()

    def done(self) -> None:
        if self.problems:
            raise Invalid(self.problems)

    def text(self, value: str, field: str, *, at_least: int = 0, at_most: int, trim: bool = True) -> str:
        """A text within bounds (characters, after trimming) that PostgreSQL can store."""
        text = value.strip() if trim else value
        if len(text) < at_least:
            self.add("TOO_SHORT", f"{field} must not be empty." if at_least == 1 else f"{field} is too short.", field)
        if len(text) > at_most:
            self.add("TOO_LONG", f"{field} has {len(text):,} characters; at most {at_most:,} are allowed.", field)
        if not storable(text):
            self.add("INVALID_CHARACTER", f"{field} contains a character that cannot be stored.", field)
        return text

    def email(self, value: str, field: str = "email") -> str:
        """An address, folded: two that differ in case only are one account."""
        folded = unicodedata.normalize("NFC", value.lower())  # before it is measured: this can make it longer
        email = self.text(folded, field, at_least=1, at_most=user_rules.EMAIL_MAX)
        local, at, domain = email.partition("@")
        if email and not (local and at and domain and "@" not in domain and not any(map(str.isspace, email))):
            self.add("INVALID_EMAIL", f"{field} must be an address such as ada@example.org.", field)
        return email

    def name(self, value: str, field: str = "name") -> str:
        return self.text(value, field, at_least=1, at_most=user_rules.NAME_MAX)

    def time_zone(self, value: str, field: str = "timeZone") -> str:
        """The name of a zone in the IANA time zone database."""
        if value not in time_zones():
            self.add("INVALID_TIME_ZONE", f"{field} must be an IANA time zone such as Europe/Berlin.", field)
        return value

    def password(self, value: str, field: str = "password") -> str:
        """A new password; it is never part of a message."""
        if len(value) < PASSWORD_MIN:
            self.add("TOO_SHORT", f"{field} must have at least {PASSWORD_MIN} characters.", field)
        if len(value) > PASSWORD_MAX:
            self.add("TOO_LONG", f"{field} must have at most {PASSWORD_MAX:,} characters.", field)
        if not storable(value):
            self.add("INVALID_CHARACTER", f"{field} contains a character that cannot be stored.", field)
        return value

    def tags(self, values: Sequence[str], field: str = "tags") -> list[str]:
        """Tags, folded, each once, in the order in which they came first."""
        tags = []
        for index, value in enumerate(values):
            tag = fold(value)
            if not tag:
                self.add("TOO_SHORT", "A tag must not be empty.", field, index)
            elif len(tag) > task_rules.TAG_MAX:
                self.add(
                    "TOO_LONG",
                    f"A tag has {len(tag)} characters; at most {task_rules.TAG_MAX} are allowed.",
                    field,
                    index,
                )
            elif not storable(tag):
                self.add("INVALID_CHARACTER", "A tag contains a character that cannot be stored.", field, index)
            tags.append(tag)
        return list(dict.fromkeys(tags))

    def tag_count(self, tags: Sequence[str], field: str = "tags") -> None:
        if len(tags) > task_rules.TAGS_MAX:
            self.add("TOO_MANY", f"A task has at most {task_rules.TAGS_MAX} tags, not {len(tags)}.", field)

    def future(self, value: datetime, field: str, now: datetime) -> datetime:
        if value <= now:
            self.add("NOT_IN_FUTURE", f"{field} must be in the future.", field)
        return value


def fold(tag: str) -> str:
    """A tag without regard to case and surrounding space; folding twice changes nothing."""
    if tag.isascii():  # the same, for most tags
        return tag.strip().lower()
    return unicodedata.normalize("NFC", tag.strip().casefold().lower())


def storable(text: str) -> bool:
    """Whether PostgreSQL can store a text: no NUL, and no half of a surrogate pair."""
    if text.isascii():
        return "\x00" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


@cache
def time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
