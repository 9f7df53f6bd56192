"""Enumerations of the persistence layer as the API describes them."""

import enum
from collections.abc import Mapping
from typing import TypeVar

import strawberry

from persistence.lists.listing import Trash
from persistence.models import Role, Scope, TaskPriority, TaskStatus, TokenKind

E = TypeVar("E", bound=type[enum.Enum])


def described(kind: E, description: str, values: Mapping[str, str], name: str | None = None) -> E:
    """Make an enumeration part of the schema; `values` describes each member by its name.

    `name` is its own in the schema, where it carries its noun: what is a `Role` here is a `UserRole` there.
    """
    strawberry.enum(kind, name=name, description=description)
    for value in kind.__strawberry_definition__.values:  # type: ignore[attr-defined]  # set by strawberry.enum
        value.description = values[value.name]
    return kind


described(
    Role,
    "What a user may do.",
    {"MEMBER": "Their own things.", "ADMIN": "Everything, for everybody."},
    name="UserRole",
)
described(
    TokenKind,
    "What a token is for.",
    {"SESSION": "Made by signing in, ended by signing out.", "PERSONAL": "Made by its user for a program or a script."},
)
described(
    Scope,
    "What a token allows.",
    {
        "READ": "Queries and subscriptions.",
        "WRITE": "Mutations.",
        "ADMIN": "What needs the role ADMIN, for users who have it.",
    },
    name="TokenScope",
)
described(
    TaskStatus,
    "How far a task is.",
    {
        "TODO": "Not begun.",
        "IN_PROGRESS": "Begun.",
        "DONE": "Completed; the task has a `completedAt`.",
        "CANCELLED": "Given up.",
    },
)
described(
    TaskPriority,
    "How much a task matters. Sorted from LOW to URGENT.",
    {"LOW": "When there is time.", "MEDIUM": "As usual.", "HIGH": "Before others.", "URGENT": "Now."},
)
described(
    Trash,
    "Whether a list shows what is in the trash.",
    {
        "EXCLUDE": "Only what is not in the trash.",
        "INCLUDE": "What is in the trash as well.",
        "ONLY": "Only what is in the trash.",
    },
    name="TrashMode",
)
