"""The rules of single values, in Python: every problem of an input is found before one is told.

What can be checked without Unicode's tables is a constraint of the database too; these say it in friendlier words and
with a path.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from persistence.models import tasks as task_rules
from persistence.models import users as user_rules
from persistence.rules import addresses, zones
from persistence.rules import text as texts
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

    def text(
        self, value: str, field: str, *, at_least: int = 0, at_most: int, form: Callable[[str], str] = texts.line
    ) -> str:
        """A text as it is stored, within bounds: characters, as the database counts them."""
        text = value
        if not text.isascii() and len(text) > texts.LONGEST * at_most:
            text = texts.trimmed(text)
        if text.isascii() or len(text) <= texts.LONGEST * at_most:  # or else it is too long in any form
            try:
                text = form(text)
            except texts.Wrong as wrong:
                self.add("INVALID_CHARACTER", f"{field} {wrong}.", field)
                return text
        if len(text) < at_least:
            self.add("TOO_SHORT", f"{field} must not be empty." if at_least == 1 else f"{field} is too short.", field)
        if len(text) > at_most:
            self.add("TOO_LONG", f"{field} has {len(text):,} characters; at most {at_most:,} are allowed.", field)
        return text

    def email(self, value: str, field: str = "email") -> str:
        """An address as it is stored: two that are one to mail, or look it, are one account."""
        try:
            email = addresses.address(value)
        except texts.Wrong as wrong:
            code: Code = "TOO_LONG" if isinstance(wrong, addresses.TooLong) else "INVALID_EMAIL"
            self.add(code, f"{field} {wrong}.", field)
            return value
        if not email:
            self.add("TOO_SHORT", f"{field} must not be empty.", field)
        return email

    def name(self, value: str, field: str = "name") -> str:
        return self.text(value, field, at_least=1, at_most=user_rules.NAME_MAX)

    def time_zone(self, value: str, field: str = "timeZone") -> str:
        """The name of a zone in the IANA time zone database."""
        if value not in zones.NAMES:
            self.add("INVALID_TIME_ZONE", f"{field} must be an IANA time zone such as Europe/Berlin.", field)
        return value

    def password(self, value: str, field: str = "password") -> str:
        """A new password, as it is hashed; it is never part of a message. What nobody sees at its ends is no part of
        its length, so that it cannot consist of that."""
        text = texts.password(value)
        if len(texts.trimmed(text)) < PASSWORD_MIN:
            self.add("TOO_SHORT", f"{field} must have at least {PASSWORD_MIN} characters.", field)
        if len(text) > PASSWORD_MAX:
            self.add("TOO_LONG", f"{field} must have at most {PASSWORD_MAX:,} characters.", field)
        if not storable(text):
            self.add("INVALID_CHARACTER", f"{field} contains a character that cannot be stored.", field)
        return text

    def tags(self, values: Sequence[str], field: str = "tags") -> list[str]:
        """Tags as they are stored, each once, in the order in which they came first."""
        if not values:
            return []
        tags = []
        for index, value in enumerate(values):
            try:
                tag = texts.tag(value)
            except texts.Wrong as wrong:
                self.add("INVALID_CHARACTER", f"A tag {wrong}.", field, index)
                continue
            if not tag:
                self.add("TOO_SHORT", "A tag must not be empty.", field, index)
            elif len(tag) > task_rules.TAG_MAX:
                message = f"A tag has {len(tag):,} characters; at most {task_rules.TAG_MAX} are allowed."
                self.add("TOO_LONG", message, field, index)
            tags.append(tag)
        return list(dict.fromkeys(tags))

    def tag_count(self, tags: Sequence[str], field: str = "tags") -> None:
        if len(tags) > task_rules.TAGS_MAX:
            self.add("TOO_MANY", f"A task has at most {task_rules.TAGS_MAX} tags, not {len(tags)}.", field)

    def future(self, value: datetime, field: str, now: datetime) -> datetime:
        if value <= now:
            self.add("NOT_IN_FUTURE", f"{field} must be in the future.", field)
        return value


def storable(text: str) -> bool:
    """Whether PostgreSQL can store a text: no NUL, and no half of a surrogate pair."""
    if text.isascii():
        return "\x00" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
