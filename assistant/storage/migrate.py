"""Brings the tables of a database up to date when the assistant starts."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection

from assistant.settings import SettingError

_LOCK = 5_005_001  # any number, the same in all our processes


def migrate(connection: Connection) -> None:
    """Apply the migrations that the database lacks.

    Args:
        connection: one in a transaction. All migrations are applied or none; of two processes that
            start at once, one waits (on SQLite because its transaction holds the write lock).

    Raises:
        SettingError: a newer version of the assistant made the database.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    config = Config()
    config.set_main_option("script_location", "assistant.storage:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingError(
            f"The database is of a newer version of the assistant ({error}). Start that version, "
            f"or set DATABASE_URL to another database."
        ) from error
