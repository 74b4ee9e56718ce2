"""Runs the revisions on the connection that `app.storage.migrations` hands over, or prints their SQL (`--sql`)."""

from alembic import context

from app.storage.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
else:
    schema = context.config.attributes.get("schema")
    context.configure(connection=connection, target_metadata=metadata, version_table_schema=schema)
with context.begin_transaction():
    context.run_migrations()
