"""Nodes begin with full standing, and it is told with the second that it was true in: the chain is read again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _forget()


def downgrade() -> None:
    _forget()


def _forget() -> None:
    for name in ("cursor", "entries", "tasks", "audits", "seats", "nodes", "models", "bundles"):
        op.execute(sa.table(name).delete())
