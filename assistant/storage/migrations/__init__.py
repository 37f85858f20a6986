"""Alembic's migrations, applied by `assistant.storage.migrate`."""
