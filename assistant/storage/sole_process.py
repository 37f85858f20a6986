"""Keeps a second process away from a database that only one may serve from.

SQLite serves one process. On PostgreSQL several may serve if they agree who answers next, which takes
a Redis that all of them share; without, the second is refused.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.settings import SettingError
from assistant.storage.database import connected

_KEY = 5_005_003  # of PostgreSQL's advisory lock; any number, the same in all our processes


def claim(engine: Engine, shared: bool, seconds: float = 10.0) -> Any:
    """Claim a database for this process, until the process ends.

    Args:
        engine: the database.
        shared: whether other processes with the same wish may serve from it too.
        seconds: how long to wait for a process that is just stopping.

    Returns:
        What holds the claim; keep it.

    Raises:
        SettingError: another process serves from it.
        StorageError: the database failed.
    """
    deadline = time.monotonic() + seconds
    while True:
        held = _try_file(engine) if engine.dialect.name == "sqlite" else _try_lock(engine, shared)
        if held is not None:
            return held
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if engine.dialect.name == "sqlite":
        raise SettingError(
            "Another assistant already serves from this SQLite database. Stop it, or use PostgreSQL "
            "(DATABASE_URL) and Redis (REDIS_URL) for several."
        )
    raise SettingError(
        "Another assistant already serves from this PostgreSQL database. Several can, if REDIS_URL "
        "names the same Redis for each of them. Else stop the other."
    )


def _try_file(engine: Engine) -> Any:
    if engine.url.database in (None, "", ":memory:"):
        return engine  # nobody else can have it
    path = Path(f"{engine.url.database}.process")
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _try_lock(engine: Engine, shared: bool) -> Any:
    """Return a connection that holds an advisory lock, which ends with the connection."""
    ask = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    with connected(engine):  # so that a database that is away is told as everywhere
        pass
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    if connection.execute(sa.text(f"SELECT {ask}({_KEY})")).scalar():
        connection.detach()  # it leaves the pool, and stays open
        return connection
    connection.close()
    return None
