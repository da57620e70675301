"""The index: what the chain's events say, kept in SQL so that it can be asked. Dropping it loses nothing.

entries.py    one event, in the index's own words         tables.py, migrations/   what the database holds
project.py    pure: entries of one subject to a document  database.py              open and migrate
writer.py     apply, roll back, with the cursor, at once  queries.py               pages of tasks, nodes, models
    facts.py      the chain adapter's events to entries
follow.py     the loop from the chain to the writer
"""
