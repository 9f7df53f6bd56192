"""Tasks: what is to be done."""

import enum
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from persistence.models.base import Base, Identified, SoftDeleted, Timestamped, Versioned, choices, rule
from persistence.models.characters import one_line
from persistence.models.derived import derived
from persistence.words import mark
from persistence.words.cutting import document
from persistence.words.folding import folded
from persistence.words.ordering import sort_key

TITLE_MAX = 500
DESCRIPTION_MAX = 10_000
TAGS_MAX = 20
TAG_MAX = 50


class TaskStatus(enum.StrEnum):
    TODO = "todo"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    CANCELLED = "cancelled"


class TaskPriority(enum.StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


class Task(Identified, Timestamped, Versioned, SoftDeleted, Base):
    __tablename__ = "tasks"
    __entity__ = "Task"
    __owner__ = "owner_id"
    __table_args__ = (
        # Few rules: PostgreSQL plans all of them anew for every row that is written.
        rule(
            one_line("title"),
            "title_length",
            "title",
            "title must have 1 to 500 characters in one line, to be seen at both ends.",
        ),
        rule(
            f"char_length(description) <= {DESCRIPTION_MAX}",
            "description_length",
            "description",
            "description must have at most 10,000 characters.",
        ),
        # A function of the migrations: at most 20 tags of 1 to 50 characters, each once (`characters.one_tag`).
        rule(
            "tags_are_valid(tags)",
            "tags",
            "tags",
            "tags must be at most 20, of 1 to 50 visible characters, in lower case, each once.",
        ),
        rule(
            "(status = 'done') = (completed_at IS NOT NULL)",
            "completed_when_done",
            "status",
            "A task has a completion time exactly when it is done.",
        ),
        # The last sort key is always the id; every list is one walk along one of these.
        Index(None, "owner_id", "created_at", "id"),
        Index(None, "owner_id", "due_at", "id"),
        Index(None, "owner_id", "status", "created_at", "id"),
        Index(None, "owner_id", "priority", "created_at", "id"),
        Index(None, "owner_id", "title_key", "id"),
        Index(None, "created_at", "id"),
        Index(None, "tags", postgresql_using="gin"),
        Index(None, "search", postgresql_using="gin"),
        Index("ix_tasks_uncut", "id", postgresql_where=text("text_mark IS NULL")),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(TITLE_MAX, collation="C"))
    description: Mapped[str] = mapped_column(Text(collation="C"), default="", server_default="")
    status: Mapped[TaskStatus] = mapped_column(
        *choices(TaskStatus, "status"), default=TaskStatus.TODO, server_default=TaskStatus.TODO.value
    )
    priority: Mapped[TaskPriority] = mapped_column(
        *choices(TaskPriority, "priority"), default=TaskPriority.MEDIUM, server_default=TaskPriority.MEDIUM.value
    )
    tags: Mapped[list[str]] = mapped_column(ARRAY(String(TAG_MAX)), default=list, server_default="{}")
    due_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    search: Mapped[str] = derived(TSVECTOR(), document, "title", "description", default="''")
    title_key: Mapped[str] = derived(Text(collation="C"), sort_key, "title", default="''")
    title_folded: Mapped[str | None] = derived(Text(collation="C"), folded, "title")
    description_folded: Mapped[str | None] = derived(Text(collation="C"), folded, "description")
    text_mark: Mapped[int | None] = derived(BigInteger(), mark, "title", "description")

    def move_to(self, status: TaskStatus, at: datetime) -> None:
        """Change the status; the completion time is there exactly while it is DONE, and the first one stays."""
        self.completed_at = self.completion(status, self.completed_at or at)
        self.status = status

    @staticmethod
    def completion(status: TaskStatus, at: datetime) -> datetime | None:
        """The completion time of a task that has had this status since then."""
        return at if status is TaskStatus.DONE else None
