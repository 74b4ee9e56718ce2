"""Postgres: the only SQL in the project. No decisions, and no commits of its own but `lone`'s: callers open transactions."""
