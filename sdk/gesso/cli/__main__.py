"""`python -m gesso.cli` is the `gesso` program."""

from gesso.cli.app import run

run()
