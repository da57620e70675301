"""Openings that a node gave and that were proved, so that a relay that starts again need not ask for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "openings",
        sa.Column("question", sa.String(64), primary_key=True),
        sa.Column("bundle", sa.String(67), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False, index=True),
    )


def downgrade() -> None:
    op.drop_table("openings")
