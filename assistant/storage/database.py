"""The one database: SQLite in a file by default, PostgreSQL by address."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool

metadata = sa.MetaData()
"""Our own tables; Rasa's `events` is its tracker store's."""

ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("expires_at", sa.Float, nullable=False, comment="seconds since 1970"),
)

red_flag_counts = sa.Table(
    "red_flag_counts",
    metadata,
    sa.Column("day", sa.Text, primary_key=True, comment="UTC, as 2026-11-24"),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("level", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)


@lru_cache(maxsize=4)
def engine_for(url: str) -> Engine:
    """Return the process's engine for a database address, with our tables made.

    SQLite keeps one connection open and writes ahead (a save then takes 5 ms instead of 27), waits
    for other writers, and overwrites what is deleted. PostgreSQL gets short time limits, since a
    call blocks the whole worker.
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
    metadata.create_all(engine)
    return engine


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
