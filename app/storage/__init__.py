"""Postgres: the only SQL in the application, but for the function that migrations make. Callers open transactions."""
