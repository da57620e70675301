"""A whole gesso network on one machine, for people and for tests; carries the tiny base model."""
