"""Bundles of listings, whose uses are counted for each member. The index begins anew, because they never were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("cursor", "entries", "tasks", "audits", "seats", "nodes", "models"):
        op.execute(sa.table(name).delete())
    op.create_table(
        "bundles",
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False, unique=True),
        sa.Column("document", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("bundles")
