"""Audits, and who took part in them. The index begins anew, because it never read the arbiter's events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("node", sa.String(42), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
    )
    op.create_index("ix_audits_state", "audits", ["state", "position"])
    op.create_index("ix_audits_node", "audits", ["node", "position"])
    op.create_table(
        "seats",
        sa.Column("audit", sa.String(80), primary_key=True),
        sa.Column("role", sa.String(8), primary_key=True),
        sa.Column("account", sa.String(42), primary_key=True),
        sa.Column("level", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("said", sa.String(16), nullable=True),
    )
    op.create_index("ix_seats_account", "seats", ["account", "position"])
    for name in ("cursor", "entries", "tasks", "nodes", "models"):
        op.execute(sa.table(name).delete())


def downgrade() -> None:
    for name in ("seats", "audits"):
        op.drop_table(name)
