"""`/health/live` and `/health/ready`: for load balancers and for people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any

import sqlalchemy as sa
from sanic import Blueprint, Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, json
from sqlalchemy.engine import Engine

from assistant.channels.turns import turns
from assistant.delivery.outbox import Outbox
from assistant.storage.channel_records import message_counts
from assistant.storage.database import StorageError, connected, event_outbox, in_thread

logger = logging.getLogger(__name__)

_SECONDS = 2.0  # for each check
_STUCK_SECONDS = 30.0  # with one message; all others wait behind it


def health_blueprint(engine: Engine) -> Blueprint:
    """Return the routes.

    Args:
        engine: the database that must answer for the assistant to be ready.
    """
    blueprint = Blueprint("health", url_prefix="/health")

    @blueprint.get("/live")
    async def live(request: Request) -> HTTPResponse:
        if is_live(getattr(request.app.ctx, "agent", None)):
            return json({"status": "live"})
        return json({"status": "stuck"}, status=503)

    @blueprint.get("/ready")
    async def ready(request: Request) -> HTTPResponse:
        agent = getattr(request.app.ctx, "agent", None)
        checks = await _checks(agent, engine)
        is_ready = all(checks.values())
        body = {
            "status": "ready" if is_ready else "not ready",
            "checks": checks,
            # For people: a Redis, mail server or broker that is away must not take the assistant off
            # the net.
            "shared_order": not getattr(agent and agent.lock_store, "degraded", False),
            **await in_thread(waiting, engine),
        }
        return json(body, status=200 if is_ready else 503)

    return blueprint


def is_live(agent: Any) -> bool:
    """Whether messages get on; if not, only a new start helps.

    Args:
        agent: ours, or None while the model is being loaded.
    """
    return agent is None or not agent.is_stuck(_STUCK_SECONDS)


async def read_gauges(app: Sanic, engine: Engine) -> Mapping[str, float | None]:
    """Read what `/metrics` shows beside the counters; what cannot be read is None."""
    waits = await in_thread(waiting, engine)
    counts = waits["outbox"] or {}
    channels = waits["channels"] or {}
    agent = getattr(app.ctx, "agent", None)
    return {
        "ready": float(all((await _checks(agent, engine)).values())),
        "lock_degraded": float(getattr(agent and agent.lock_store, "degraded", False)),
        "outbox_pending": counts.get("pending"),
        "outbox_dead": counts.get("dead"),
        "event_stream_pending": waits["stream"],
        "channel_pending": channels.get("pending"),
        "channel_dead": channels.get("dead"),
        "turns_under_way": float(turns().count),
    }


def waiting(engine: Engine) -> dict[str, Any]:
    """Return how much waits: for the office, the event stream, and on messaging channels.

    Each is None if that is unknown.
    """
    try:
        with connected(engine) as connection:
            stream = connection.execute(
                sa.select(sa.func.count()).select_from(event_outbox)
            ).scalar()
        return {
            "outbox": Outbox(engine).counts(),
            "stream": stream,
            "channels": message_counts(engine),
        }
    except StorageError:
        return {"outbox": None, "stream": None, "channels": None}


async def _checks(agent: Any, engine: Engine) -> dict[str, bool]:
    return {
        "model": agent is not None and agent.is_ready(),
        "store": await _answers("database", in_thread(_read_something, engine)),
        "lock": agent is not None and await _answers("lock", _take_lock(agent.lock_store)),
        "open": not turns().are_over,
    }


def _read_something(engine: Engine) -> None:
    with connected(engine) as connection:
        connection.execute(sa.text("SELECT 1"))


async def _take_lock(locks: Any) -> None:
    async with locks.lock("health"):
        pass


async def _answers(name: str, check: Awaitable[None]) -> bool:
    try:
        await asyncio.wait_for(check, _SECONDS)
    except Exception as error:  # whatever it is, the answer is "no"
        logger.error("The %s does not answer: %s %s", name, type(error).__name__, error)
        return False
    return True
