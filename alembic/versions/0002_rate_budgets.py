"""Rate budgets that several processes share.

Revision: 0002, after 0001. Written and reviewed by hand.
"""

import sqlalchemy as sa
from alembic import op

from persistence import online

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Written by every operation, so not worth a WAL: after a crash everybody has a full budget.
    op.create_table(
        "rate_budgets",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("points", sa.Double(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="pk_rate_budgets"),
        prefixes=["UNLOGGED"],
    )


def downgrade() -> None:
    online.drop_table("rate_budgets")
