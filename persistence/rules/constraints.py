"""What the database's constraints say to people.

Python checks first and says it better; a constraint decides when two requests race, or when a rule of the two differs.
"""

from typing import cast

from sqlalchemy import Table
from sqlalchemy.exc import IntegrityError

from persistence.models.base import entities
from persistence.rules.errors import Code, Conflict, DomainError, Invalid, NotFound, Problem

TABLES = [cast("Table", model.__table__) for model in entities().values()]
ID_TAKEN: tuple[str, Code, str] = ("This id is taken.", "ID_TAKEN", "id")
CONFLICTS: dict[str, tuple[str, Code, str]] = {
    "uq_users_email": ("There is an account with this address already.", "EMAIL_TAKEN", "email"),
    # Whether a thing of the same kind has the id or any other, nobody is told.
    **dict.fromkeys(["pk_entities", *(f"pk_{model.__tablename__}" for model in entities().values())], ID_TAKEN),
}
RULES: dict[str, tuple[str, str]] = {
    "ck_users_email_folded": ("email must be in lower case.", "email"),
    "ck_users_email_form": ("email must be an address such as ada@example.org.", "email"),
    "ck_users_name_length": (
        "name must have 1 to 200 characters in one line, to be seen at both ends.",
        "name",
    ),
    "ck_users_time_zone_present": ("timeZone must be an IANA time zone such as Europe/Berlin.", "timeZone"),
    "ck_tokens_name_length": (
        "name must have 1 to 200 characters in one line, to be seen at both ends.",
        "name",
    ),
    "ck_tokens_scopes": ("scopes must name at least one scope, and no unknown one.", "scopes"),
    "ck_tokens_expires_after_creation": ("expiresAt must be in the future.", "expiresAt"),
    "ck_tasks_title_length": (
        "title must have 1 to 500 characters in one line, to be seen at both ends.",
        "title",
    ),
    "ck_tasks_description_length": ("description must have at most 10,000 characters.", "description"),
    "ck_tasks_tags": (
        "tags must be at most 20, of 1 to 50 visible characters, in lower case, each once.",
        "tags",
    ),
    "ck_tasks_completed_when_done": ("A task has a completion time exactly when it is done.", "status"),
}
# A rule of a model may bring its words along: `CheckConstraint(..., info={"rule": (words, field)})`.
RULES |= {
    str(check.name): check.info["rule"] for table in TABLES for check in table.constraints if "rule" in check.info
}
OWNERS = {
    str(key.name): model.__owner__
    for model, table in zip(entities().values(), TABLES, strict=True)
    for key in table.foreign_key_constraints
    if key.column_keys == [model.__owner__]
}


def violated(error: IntegrityError) -> DomainError | None:
    """The domain error for a broken constraint, or None where no client can mend it: a bug."""
    cause = getattr(error.orig, "__cause__", None)
    name = getattr(cause, "constraint_name", None) or ""
    if name in CONFLICTS:
        message, code, field = CONFLICTS[name]
        return Conflict(message, code=code, path=(field,))
    if name in RULES:
        message, field = RULES[name]
        return Invalid([Problem("INVALID", message, (field,))])
    if name in OWNERS:
        return NotFound("user", path=(OWNERS[name],))
    return None
