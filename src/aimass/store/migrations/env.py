"""What Alembic runs. The connection, and its transaction, are the caller's."""

from __future__ import annotations

from alembic import context

from aimass.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True, compare_type=True)
context.run_migrations()
