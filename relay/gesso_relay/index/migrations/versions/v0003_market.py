"""The marketplace to search in: uses, prices, bases, cards. The index begins anew, because uses were never counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = ("kind", "owner", "manifest", "parent", "base", "price_bps", "uses")


def upgrade() -> None:
    for name in ("cursor", "entries", "tasks", "audits", "seats", "nodes", "models"):
        op.execute(sa.table(name).delete())
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("kind", sa.String(16), nullable=True))
        models.add_column(sa.Column("owner", sa.String(42), nullable=False))
        models.add_column(sa.Column("manifest", sa.String(67), nullable=False))
        models.add_column(sa.Column("parent", sa.String(20), nullable=True))
        models.add_column(sa.Column("base", sa.String(20), nullable=False))
        models.add_column(sa.Column("price_bps", sa.Integer(), nullable=False))
        models.add_column(sa.Column("uses", sa.BigInteger(), nullable=False))
    op.create_index("ix_models_uses", "models", ["uses", "position"])
    op.create_index("ix_models_price", "models", ["price_bps", "position"])
    op.create_index("ix_models_base", "models", ["base", "position"])
    op.create_index("ix_models_parent", "models", ["parent"])
    op.create_table(
        "cards",
        sa.Column("manifest", sa.String(67), primary_key=True),
        sa.Column("summary", sa.String(200), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("cards")
    for name in ("uses", "price", "base", "parent"):
        op.drop_index(f"ix_models_{name}", "models")
    with op.batch_alter_table("models") as models:
        for name in _COLUMNS:
            models.drop_column(name)
