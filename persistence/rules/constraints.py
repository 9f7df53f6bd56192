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
    str(check.name): check.info["rule"] for table in TABLES for check in table.constraints if "rule" in check.info
}
"""What the rules of models say, and of which field (`persistence.models.base.rule`)."""
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
