"""A process takes over what another has published, and nothing that is damaged or cannot be loaded."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from assistant.settings import Settings
from assistant.staff.publishing import Publisher, PublishError, served_model
from assistant.storage.database import engine_for, published_models, transaction
from tests.conftest import PROJECT


@pytest.fixture
def app(agent: Any) -> Any:
    """What the publisher knows of a server."""
    return SimpleNamespace(ctx=SimpleNamespace(agent=agent))


async def test_another_process_takes_over_what_was_published_and_nothing_damaged(
    app: Any, model: Path, tmp_path: Path
) -> None:
    for name in ("data", "models"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    other = tmp_path / "models" / "assistant-0123456789abcdef.tar.gz"
    shutil.copy(model, other)
    digest = model.with_name(f"{model.name}.sha256").read_text().split()[0]
    engine = engine_for(f"sqlite:///{tmp_path / 'shared.db'}")
    publisher = Publisher(engine, Settings(folder=tmp_path, answer_seconds=1))

    def publish(name: str, sha256: str) -> None:
        with transaction(engine) as connection:
            connection.execute(
                sa.insert(published_models).values(
                    at=time.time(), account="ann", name=name, sha256=sha256
                )
            )

    publish("assistant-of-before.tar.gz", "0" * 64)  # before this process started: not its business
    follows = asyncio.create_task(publisher.follow(app))
    old = app.ctx.agent
    try:
        while publisher._known != 1:
            await asyncio.sleep(0.05)
        publish(other.name, "f" * 64)  # not the bytes that were published
        while publisher._known != 2:
            await asyncio.sleep(0.05)
        assert app.ctx.agent is old
        publish(other.name, digest)
        async with asyncio_timeout(120):
            while app.ctx.agent is old:
                await asyncio.sleep(0.1)
    finally:
        follows.cancel()
    assert served_model(app) == other.name
    assert app.ctx.agent.tracker_store is old.tracker_store
    assert app.ctx.agent.lock_store is old.lock_store


def asyncio_timeout(seconds: float) -> Any:
    from async_timeout import timeout

    return timeout(seconds)


@pytest.mark.parametrize("error", [MemoryError, OSError("disk")])
async def test_a_load_that_fails_leaves_the_old_model(
    app: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'a.db'}")
    publisher = Publisher(engine, Settings(folder=PROJECT))
    old, domain = app.ctx.agent, app.ctx.agent.domain

    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("assistant.staff.publishing.load_agent", fails)
    with pytest.raises((MemoryError, OSError)):
        await publisher.swap(app, model)
    assert app.ctx.agent is old
    assert old.tracker_store.domain is domain


def test_a_pinned_model_is_not_replaced(app: Any, tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'a.db'}")
    publisher = Publisher(engine, Settings(folder=PROJECT, model_sha256="0" * 64))
    with pytest.raises(PublishError, match="MODEL_SHA256 pins"):
        publisher.start(app, "ann")
