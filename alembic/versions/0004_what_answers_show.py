"""Kept answers are found by what they show: the entity and its owner.

Revision: 0004, after 0003. Written and reviewed by hand.

What a server of the revision before keeps while both run is not found by a purge; no retry shows it all the same, and
it is forgotten after a day.
"""

import sqlalchemy as sa

from persistence import online

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEYS = "idempotency_keys"


def upgrade() -> None:
    online.column(KEYS, sa.Column("entity_id", sa.Uuid()))
    online.column(KEYS, sa.Column("owner_id", sa.Uuid()))
    online.batches(
        KEYS,
        """
        UPDATE idempotency_keys SET
            entity_id = coalesce(answer->'task'->>'id', answer->'token'->>'id', answer->'user'->>'id')::uuid,
            owner_id = coalesce(answer->'task'->>'owner_id', answer->'token'->>'user_id', answer->'user'->>'id')::uuid
        WHERE {batch} AND answer IS NOT NULL AND entity_id IS NULL
        """,
        key=("scope_id", "key_hash"),
    )
    online.index("ix_idempotency_keys_entity_id", KEYS, ["entity_id"])
    online.index("ix_idempotency_keys_owner_id", KEYS, ["owner_id"], where="owner_id <> scope_id")


def downgrade() -> None:
    online.drop_index("ix_idempotency_keys_owner_id")
    online.drop_index("ix_idempotency_keys_entity_id")
    online.drop_column(KEYS, "owner_id")
    online.drop_column(KEYS, "entity_id")
