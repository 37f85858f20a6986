"""`/health/live` and `/health/ready`: for load balancers and for people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sanic import Blueprint, Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, json
from sqlalchemy.exc import SQLAlchemyError

from assistant.contact.records import NotStoredError
from assistant.delivery.outbox import Outbox
from assistant.storage.database import engine_for

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 1.0


def health_blueprint(database_url: str) -> Blueprint:
    """Return the routes.

    Args:
        database_url: the database that must answer for the assistant to be ready.
    """
    blueprint = Blueprint("health", url_prefix="/health")

    @blueprint.get("/live")
    async def live(request: Request) -> HTTPResponse:
        return json({"status": "live"})

    @blueprint.get("/ready")
    async def ready(request: Request) -> HTTPResponse:
        agent = getattr(request.app.ctx, "agent", None)
        checks = {
            "model": agent is not None and agent.is_ready(),
            "store": _store_answers(database_url),
            "lock": agent is not None and await _lock_answers(agent),
        }
        is_ready = all(checks.values())
        body = {
            "status": "ready" if is_ready else "not ready",
            "checks": checks,
            # For people: a mail server that is away must not take the assistant off the net.
            "outbox": await asyncio.to_thread(_undelivered, database_url),
        }
        return json(body, status=200 if is_ready else 503)

    return blueprint


async def read_gauges(app: Sanic, database_url: str) -> Mapping[str, float | None]:
    """Read what `/metrics` shows beside the counters; what cannot be read is None."""
    agent = getattr(app.ctx, "agent", None)
    store = await asyncio.to_thread(_store_answers, database_url)
    ready = agent is not None and agent.is_ready() and store and await _lock_answers(agent)
    counts = await asyncio.to_thread(_undelivered, database_url) or {}
    return {
        "ready": float(ready),
        "outbox_pending": counts.get("pending"),
        "outbox_dead": counts.get("dead"),
    }


def _store_answers(database_url: str) -> bool:
    try:
        with engine_for(database_url).connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except Exception:
        logger.exception("The database does not answer.")
        return False
    return True


def _undelivered(database_url: str) -> dict[str, int] | None:
    try:
        return Outbox(engine_for(database_url)).counts()
    except (NotStoredError, SQLAlchemyError):
        return None


async def _lock_answers(agent: Any) -> bool:
    async def take() -> None:
        async with agent.lock_store.lock("health"):
            pass

    try:
        await asyncio.wait_for(take(), _LOCK_SECONDS)
    except Exception:
        logger.exception("The lock store does not answer.")
        return False
    return True
