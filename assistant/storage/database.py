"""The one database: SQLite in a file by default, PostgreSQL by address."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from assistant.storage.migrate import migrate

metadata = sa.MetaData()
"""Our own tables, made by `assistant/storage/migrations`; Rasa's `events` is its tracker store's.

Points in time are seconds since 1970. Columns named `sealed` hold encrypted personal data.
"""

ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("expires_at", sa.Float, nullable=False),
)

red_flag_counts = sa.Table(
    "red_flag_counts",
    metadata,
    sa.Column("day", sa.Text, primary_key=True),  # UTC, as 2026-11-24
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("level", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("message_id", sa.String(64), primary_key=True),  # what was answered
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("helpful", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("given_at", sa.Float, nullable=False),
)

contact_drafts = sa.Table(
    "contact_drafts",
    metadata,
    sa.Column("conversation_id", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text, nullable=False),
    sa.Column("sealed", sa.Text),  # empty once the draft was sent
    sa.Column("expires_at", sa.Float, nullable=False),
)

contact_requests = sa.Table(
    "contact_requests",
    metadata,
    sa.Column("number", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text, nullable=False, unique=True),
    sa.Column("conversation_id", sa.Text, index=True),  # empty once it was erased
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("sealed", sa.Text),  # empty once the request was withdrawn
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

contact_status_history = sa.Table(
    "contact_status_history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "number",
        sa.Text,
        sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("message_id", sa.Text, primary_key=True),  # the same at every attempt
    sa.Column(
        "number",
        sa.Text,
        sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),  # new or withdrawn
    sa.Column("state", sa.Text, nullable=False),  # pending, delivered or dead
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("next_attempt_at", sa.Float, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.UniqueConstraint("number", "target", "event"),
    sa.Index("outbox_due", "state", "next_attempt_at"),
)

privacy_receipts = sa.Table(
    "privacy_receipts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # erase, export, purge or withdraw
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("drafts", sa.Integer, nullable=False),
    sa.Column("events", sa.Integer, nullable=False),  # of Rasa's conversations
)


@lru_cache(maxsize=4)
def engine_for(url: str) -> Engine:
    """Return the process's engine for a database address, with our tables made and up to date.

    SQLite keeps one connection open and writes ahead (a save then takes 5 ms instead of 27), waits
    for other writers, and overwrites what is deleted. PostgreSQL gets short time limits, since a
    call blocks the whole worker.

    Raises:
        SettingError: a newer version of the assistant made the database.
    """
    address = sa.engine.make_url(url)
    if address.get_backend_name() == "sqlite":
        engine = _sqlite_engine(address)
    else:
        engine = sa.create_engine(
            address,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 3, "options": "-c statement_timeout=5000"},
        )
    with transaction(engine) as connection:
        migrate(connection)
    return engine


@contextmanager
def transaction(engine: Engine) -> Generator[Connection, None, None]:
    """Provide a transaction that no other writer sees half of, and whose end survives a power cut.

    SQLite's driver would begin only at the first change and leave the last changes to the operating
    system; PostgreSQL does neither.
    """
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            with connection.begin():
                yield connection
            return
        connection.exec_driver_sql("PRAGMA synchronous=FULL")
        try:
            with connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        finally:
            connection.exec_driver_sql("PRAGMA synchronous=NORMAL")


def empty_log(engine: Engine) -> None:
    """Empty SQLite's write-ahead log, which still holds what was deleted."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _sqlite_engine(address: Any) -> Engine:
    if address.database and address.database != ":memory:":
        path = Path(address.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Conversations are private: nobody but the server's user reads the file.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=2,
        connect_args={"check_same_thread": False, "timeout": 5},
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "busy_timeout=5000",
            "secure_delete=ON",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
