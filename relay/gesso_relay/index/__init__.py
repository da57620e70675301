"""The index: what the chain's events say, kept in SQL so that it can be asked. Dropping it loses nothing.

entries.py      one event, in the index's own words
facts.py        the chain adapter's events to entries
audit_facts.py  the arbiter's, each under the id of its task
project.py      pure: entries of one subject to a document
audits.py       pure: a task's audit events to a document
writer.py       apply, roll back, with the cursor, at once
follow.py       the loop from the chain to the writer
tables.py       what the database holds, with migrations/
database.py     open and migrate
queries.py      pages of tasks, nodes and audits
market.py       pages of models
listings.py     what stands beside a listing's document, to filter and sort by
"""
