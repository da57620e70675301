"""The index: what the chain's events say, kept in SQL so that it can be asked. Dropping it loses nothing.

entries.py    one event of the chain, in the index's own words      tables.py, migrations/   what the database holds
project.py    pure: entries of one subject -> its document          database.py              open and migrate
writer.py     apply and roll back, with the cursor, in one step     queries.py               pages of tasks, nodes, models
follow.py     the loop from the chain to the writer
"""
