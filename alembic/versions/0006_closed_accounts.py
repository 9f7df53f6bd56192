"""Accounts that are gone for everybody while their rows are deleted in steps.

Revision: 0006, after 0005. Written and reviewed by hand.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "closed_accounts",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_closed_accounts"),
        if_not_exists=True,
    )


def downgrade() -> None:
    # The release before would show them again: what is left of them goes with them.
    op.execute("DELETE FROM users WHERE id IN (SELECT user_id FROM closed_accounts)")
    op.drop_table("closed_accounts")
