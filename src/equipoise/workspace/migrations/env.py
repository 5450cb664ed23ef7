"""Run by Alembic: applies the migrations on the connection that the workspace hands over."""

from alembic import context

from equipoise.workspace.schema import Table

with context.config.attributes["engine"].begin() as connection:
    context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
