"""Kept answers are found by what they show: the entity and its owner.

Revision: 0004, after 0003. Written and reviewed by hand.

What a server of the revision before keeps while both run is not found by a purge; no retry shows it all the same, and
it is forgotten after a day.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEYS = "idempotency_keys"


def upgrade() -> None:
    op.add_column(KEYS, sa.Column("entity_id", sa.Uuid()))
    op.add_column(KEYS, sa.Column("owner_id", sa.Uuid()))
    op.execute(
        """
        UPDATE idempotency_keys SET
            entity_id = coalesce(answer->'task'->>'id', answer->'token'->>'id', answer->'user'->>'id')::uuid,
            owner_id = coalesce(answer->'task'->>'owner_id', answer->'token'->>'user_id', answer->'user'->>'id')::uuid
        WHERE answer IS NOT NULL AND entity_id IS NULL
        """
    )
    op.create_index("ix_idempotency_keys_entity_id", KEYS, ["entity_id"])
    op.create_index(
        "ix_idempotency_keys_owner_id", KEYS, ["owner_id"], postgresql_where=sa.text("owner_id <> scope_id")
    )


def downgrade() -> None:
    op.drop_column(KEYS, "owner_id")
    op.drop_column(KEYS, "entity_id")
