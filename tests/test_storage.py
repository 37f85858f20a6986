"""The database: migrations take over what is there, and two starts at once do not collide."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from assistant.settings import SettingError
from assistant.storage.database import (
    StorageError,
    connected,
    ended_sessions,
    engine_for,
    metadata,
    red_flag_counts,
)
from tests.conftest import PROJECT


def plain_engine(url: str) -> sa.engine.Engine:
    """An engine that makes no tables."""
    return sa.create_engine(url)


def test_the_migrations_make_the_tables_that_the_code_names(database_url: str) -> None:
    with engine_for(database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    assert differences == []


def test_a_database_of_before_the_migrations_is_taken_over(database_url: str) -> None:
    before = plain_engine(database_url)
    metadata.create_all(before, tables=[ended_sessions, red_flag_counts])
    with before.begin() as connection:
        connection.execute(sa.insert(ended_sessions).values(conversation_id="one", expires_at=5.0))
    before.dispose()
    with engine_for(database_url).connect() as connection:
        assert connection.execute(sa.select(ended_sessions.c.conversation_id)).scalar() == "one"
        assert "contact_requests" in sa.inspect(connection).get_table_names()


def test_processes_that_start_at_once_do_not_collide(database_url: str) -> None:
    start = "import sys; from assistant.storage.database import engine_for; engine_for(sys.argv[1])"
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", start, database_url], cwd=PROJECT, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in starting:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    engine = engine_for(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine_for.cache_clear()
    with pytest.raises(SettingError, match="newer version"):
        engine_for(database_url)
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing(database_url: str) -> None:
    before = plain_engine(database_url)
    with before.begin() as connection:  # stands in the way of the last table but one
        connection.execute(sa.text("CREATE TABLE outbox (id INTEGER)"))
    with pytest.raises(StorageError):
        engine_for(database_url)
    assert sa.inspect(before).get_table_names() == ["outbox"]
    before.dispose()


def test_every_package_is_listed_for_installing() -> None:
    listed = (PROJECT / "pyproject.toml").read_text()
    folders = {path.parent for path in (PROJECT / "assistant").rglob("*.py")}
    assert PROJECT / "assistant" / "storage" / "migrations" / "versions" in folders
    for folder in folders:
        assert f'"{".".join(folder.relative_to(PROJECT).parts)}"' in listed


def test_as_many_connections_as_threads_are_opened_once(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'assistant.db'}")
    opened: list[Any] = []
    sa.event.listen(engine, "connect", lambda connection, record: opened.append(connection))
    threads, all_have_one = 6, threading.Barrier(6)  # asyncio's, on two cores

    def read(_: int) -> None:
        with connected(engine):
            all_have_one.wait(timeout=30)

    for _ in range(3):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(threads)))
    assert len(opened) <= threads
