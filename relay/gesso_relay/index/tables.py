"""What the database holds. Columns beside `document` exist only because something filters or sorts by them."""

from __future__ import annotations

from typing import Any

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


def _subject(name: str, *columns: Column[Any], sorted_by: tuple[str, ...] = ()) -> Table:
    """A table of documents under their subjects' keys, in the order of their first events; each column of `sorted_by`
    is filtered by, newest first."""
    indices = [Index(f"ix_{name}_{one}", one, "position") for one in sorted_by]
    return Table(
        name,
        metadata,
        Column("key", String(80), primary_key=True),
        Column("position", BigInteger, nullable=False, unique=True),
        *columns,
        Column("document", JSON, nullable=False),
        *indices,
    )


tasks = _subject(
    "tasks",
    Column("state", String(16), nullable=False),
    Column("requester", String(42), nullable=False),
    Column("node", String(42), nullable=True),
    Column("model", String(20), nullable=False),
    sorted_by=("state", "requester", "node", "model"),
)

# The audit of a task, under the task's id.
audits = _subject(
    "audits",
    Column("state", String(16), nullable=False),
    Column("node", String(42), nullable=True),
    sorted_by=("state", "node"),
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

nodes = _subject("nodes", Column("state", String(16), nullable=False, index=True))

models = _subject(
    "models",
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
    sorted_by=("uses", "base"),
)
Index("ix_models_name", models.c.name, models.c.version)
Index("ix_models_price", models.c.price_bps, models.c.position)

# Which listings a task uses that names a number of no listing.
bundles = _subject("bundles")

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

# Not from the chain's log: which blobs answer a question to a node, for as long as `until` (Unix seconds). What was
# proved against a root stays proved, and another fork's commit or draw is another question.
openings = Table(
    "openings",
    metadata,
    Column("question", String(64), primary_key=True),
    Column("bundle", String(67), nullable=False),
    Column("files", JSON, nullable=False),
    Column("until", BigInteger, nullable=False, index=True),
)
