"""Users, tokens, tasks, the change log, and what retries and sign-ins need.

Revision: 0001, after nothing. Written and reviewed by hand.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

from persistence import online
from persistence.models.changes import TransactionId

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def time(name: str, *, now: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not now, server_default=sa.func.now() if now else None)


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(320, collation="C"), nullable=False),
        sa.Column("name", sa.String(200, collation="C"), nullable=False),
        sa.Column("time_zone", sa.String(64), server_default="UTC", nullable=False),
        sa.Column("role", sa.String(20), server_default="member", nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        time("created_at", now=True),
        time("updated_at", now=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.CheckConstraint("email = lower(email)", name="email_folded"),
        sa.CheckConstraint("email ~ '^[^@[:space:]]+@[^@[:space:]]+$'", name="email_form"),
        sa.CheckConstraint("char_length(name) BETWEEN 1 AND 200 AND name = btrim(name)", name="name_length"),
        sa.CheckConstraint("char_length(time_zone) > 0", name="time_zone_present"),
        sa.CheckConstraint("role IN ('member', 'admin')", name="role"),
    )
    op.create_index("ix_users_created_at_id", "users", ["created_at", "id"])
    op.create_index("ix_users_name_id", "users", ["name", "id"])

    op.create_table(
        "tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.String(20)), nullable=False),
        sa.Column("prefix", sa.String(12), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        time("expires_at"),
        time("revoked_at"),
        time("last_used_at"),
        time("created_at", now=True),
        time("updated_at", now=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id_users", ondelete="CASCADE"),
        sa.UniqueConstraint("secret_hash", name="uq_tokens_secret_hash"),
        sa.CheckConstraint("char_length(name) BETWEEN 1 AND 200 AND name = btrim(name)", name="name_length"),
        sa.CheckConstraint("kind IN ('session', 'personal')", name="kind"),
        sa.CheckConstraint(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin']::varchar[]",
            name="scopes",
        ),
        sa.CheckConstraint("octet_length(secret_hash) = 32", name="secret_hash_length"),
        sa.CheckConstraint("expires_at > created_at", name="expires_after_creation"),
    )
    op.create_index("ix_tokens_user_id_created_at_id", "tokens", ["user_id", "created_at", "id"])

    # In a function because a CHECK may hold no subquery.
    op.execute(
        """
        CREATE FUNCTION tags_are_valid(tags varchar[]) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN cardinality(tags) <= 20
           AND NOT EXISTS (SELECT FROM unnest(tags) AS tag
                           WHERE tag IS NULL OR char_length(tag) NOT BETWEEN 1 AND 50
                              OR tag <> btrim(tag) OR tag <> lower(tag))
           AND cardinality(tags) = (SELECT count(DISTINCT tag) FROM unnest(tags) AS tag)
        """
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(500, collation="C"), nullable=False),
        sa.Column("description", sa.Text(collation="C"), server_default="", nullable=False),
        sa.Column("status", sa.String(20), server_default="todo", nullable=False),
        sa.Column("priority", sa.String(20), server_default="medium", nullable=False),
        sa.Column("tags", sa.ARRAY(sa.String(50)), server_default="{}", nullable=False),
        time("due_at"),
        time("completed_at"),
        sa.Column(
            "search",
            TSVECTOR(),
            sa.Computed(
                "setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', description), 'D')",
                persisted=True,
            ),
            nullable=False,
        ),
        time("created_at", now=True),
        time("updated_at", now=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        time("deleted_at"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_tasks_owner_id_users", ondelete="CASCADE"),
        sa.CheckConstraint("char_length(title) BETWEEN 1 AND 500 AND title = btrim(title)", name="title_length"),
        sa.CheckConstraint("char_length(description) <= 10000", name="description_length"),
        sa.CheckConstraint("status IN ('todo', 'in_progress', 'done', 'cancelled')", name="status"),
        sa.CheckConstraint("priority IN ('low', 'medium', 'high', 'urgent')", name="priority"),
        sa.CheckConstraint("tags_are_valid(tags)", name="tags"),
        sa.CheckConstraint("(status = 'done') = (completed_at IS NOT NULL)", name="completed_when_done"),
    )
    op.create_index("ix_tasks_created_at_id", "tasks", ["created_at", "id"])
    for column in ("created_at", "due_at"):
        op.create_index(f"ix_tasks_owner_id_{column}_id", "tasks", ["owner_id", column, "id"])
    for column in ("status", "priority"):
        op.create_index(f"ix_tasks_owner_id_{column}_created_at_id", "tasks", ["owner_id", column, "created_at", "id"])
    for column in ("tags", "search"):
        op.create_index(f"ix_tasks_{column}", "tasks", [column], postgresql_using="gin")

    op.create_table(
        "changes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("xact", TransactionId(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("entity", sa.String(20), nullable=False),
        sa.Column("entity_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("fields", JSONB(), nullable=True),
        time("at", now=True),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sa.CheckConstraint("action IN ('created', 'updated', 'deleted', 'restored', 'purged')", name="action"),
    )
    op.create_index("ix_changes_xact_seq", "changes", ["xact", "seq"])
    op.create_index("ix_changes_owner_id_xact_seq", "changes", ["owner_id", "xact", "seq"])
    op.create_index("ix_changes_entity_id_xact_seq", "changes", ["entity_id", "xact", "seq"])

    op.create_table(
        "idempotency_keys",
        sa.Column("scope_id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(), nullable=False),
        sa.Column("answer", JSONB(), nullable=True),
        time("created_at", now=True),
        sa.PrimaryKeyConstraint("scope_id", "key_hash", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])

    op.create_table(
        "sign_in_attempts",
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        time("last_at", now=True),
        sa.PrimaryKeyConstraint("subject", name="pk_sign_in_attempts"),
    )


def downgrade() -> None:
    for table in ("sign_in_attempts", "idempotency_keys", "changes", "tasks", "tokens", "users"):
        online.drop_table(table)
    online.execute("DROP FUNCTION IF EXISTS tags_are_valid(varchar[])")
