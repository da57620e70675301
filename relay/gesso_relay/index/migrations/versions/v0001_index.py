"""The index as it began: cursor, entries, and one table a subject."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("network", sa.String(128), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("trail", sa.JSON(), nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("position", sa.BigInteger(), autoincrement=False, primary_key=True),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.String(66), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("tx", sa.String(66), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
    )
    op.create_index("ix_entries_block", "entries", ["block"])
    op.create_index("ix_entries_of", "entries", ["subject", "key", "position"])
    _subject_table(
        "tasks",
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requester", sa.String(42), nullable=False),
        sa.Column("node", sa.String(42), nullable=True),
        sa.Column("model", sa.String(20), nullable=False),
    )
    for column in ("state", "requester", "node", "model"):
        op.create_index(f"ix_tasks_{column}", "tasks", [column, "position"])
    _subject_table("nodes", sa.Column("state", sa.String(16), nullable=False))
    op.create_index("ix_nodes_state", "nodes", ["state"])
    _subject_table(
        "models",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("yanked", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_models_name", "models", ["name", "version"])
    op.create_table(
        "results",
        sa.Column("root", sa.String(66), primary_key=True),
        sa.Column("manifest", sa.String(67), nullable=False),
    )


def downgrade() -> None:
    for name in ("results", "models", "nodes", "tasks", "entries", "cursor"):
        op.drop_table(name)


def _subject_table(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False, unique=True),
        *columns,
        sa.Column("document", sa.JSON(), nullable=False),
    )
