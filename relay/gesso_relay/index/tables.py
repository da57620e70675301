"""What the database holds. Columns beside `document` exist only because something filters or sorts by them."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

cursor = Table(
    "cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("network", String(128), nullable=False),
    Column("block", BigInteger, nullable=False),
    Column("trail", JSON, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("block", BigInteger, nullable=False, index=True),
    Column("block_hash", String(66), nullable=False),
    Column("log_index", Integer, nullable=False),
    Column("tx", String(66), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("subject", String(8), nullable=False),
    Column("key", String(80), nullable=False),
    Column("name", String(32), nullable=False),
    Column("data", JSON, nullable=False),
    Index("ix_entries_of", "subject", "key", "position"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("key", String(80), primary_key=True),
    Column("position", BigInteger, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("requester", String(42), nullable=False),
    Column("node", String(42), nullable=True),
    Column("model", String(20), nullable=False),
    Column("document", JSON, nullable=False),
    Index("ix_tasks_state", "state", "position"),
    Index("ix_tasks_requester", "requester", "position"),
    Index("ix_tasks_node", "node", "position"),
    Index("ix_tasks_model", "model", "position"),
)

# The audit of a task, under the task's id.
audits = Table(
    "audits",
    metadata,
    Column("key", String(80), primary_key=True),
    Column("position", BigInteger, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("node", String(42), nullable=True),
    Column("document", JSON, nullable=False),
    Index("ix_audits_state", "state", "position"),
    Index("ix_audits_node", "node", "position"),
)

# Who sat where, made anew with each audit's document: so that an auditor's or juror's own work can be asked for.
seats = Table(
    "seats",
    metadata,
    Column("audit", String(80), primary_key=True),
    Column("role", String(8), primary_key=True),
    Column("account", String(42), primary_key=True),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("said", String(16), nullable=True),
    Index("ix_seats_account", "account", "position"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("key", String(80), primary_key=True),
    Column("position", BigInteger, nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("document", JSON, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("key", String(80), primary_key=True),
    Column("position", BigInteger, nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("yanked", Boolean, nullable=False),
    Column("kind", String(16), nullable=True),
    Column("owner", String(42), nullable=False),
    Column("manifest", String(67), nullable=False),
    Column("parent", String(20), nullable=True, index=True),
    Column("base", String(20), nullable=False),
    Column("price_bps", Integer, nullable=False),
    Column("uses", BigInteger, nullable=False),
    Column("document", JSON, nullable=False),
    Index("ix_models_name", "name", "version"),
    Index("ix_models_uses", "uses", "position"),
    Index("ix_models_price", "price_bps", "position"),
    Index("ix_models_base", "base", "position"),
)

# Not from the chain's log, but bound to it by a hash, so it never changes: what a manifest and its card say.
cards = Table(
    "cards",
    metadata,
    Column("manifest", String(67), primary_key=True),
    Column("summary", String(200), nullable=False),
    Column("words", Text, nullable=False),
    Column("document", JSON, nullable=False),
)

# Not from the chain's log, but checked against it: the manifest whose hash is this root. A root never changes its
# meaning, so neither a fork nor a rebuild touches these rows.
results = Table(
    "results",
    metadata,
    Column("root", String(66), primary_key=True),
    Column("manifest", String(67), nullable=False),
)
