"""Alembic migrations of the index, shipped with the package and run when a relay opens its database."""
