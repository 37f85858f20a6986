"""The stored conversations, without Rasa: to export them, and to delete them when their time is over."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_events = sa.table(
    "events",
    sa.column("id", sa.Integer),
    sa.column("sender_id", sa.String),
    sa.column("timestamp", sa.Float),
    sa.column("data", sa.Text),
)
"""The table of Rasa's SQL tracker store, which makes it at its first start."""


def read_transcript(connection: Connection, conversation_id: str) -> list[dict[str, Any]]:
    """Return the events of a conversation as Rasa stored them, the oldest first."""
    if not _is_there(connection):
        return []
    rows = connection.execute(
        sa.select(_events.c.data)
        .where(_events.c.sender_id == conversation_id)
        .order_by(_events.c.id)
    ).scalars()
    return [json.loads(data) for data in rows]


def erase_transcript(connection: Connection, conversation_id: str) -> int:
    """Delete a conversation; return how many events it had."""
    return _delete(connection, _events.c.sender_id == conversation_id)


def erase_events_before(connection: Connection, moment: float, most: int) -> int:
    """Delete what was said before a moment, the oldest first; return how many events.

    Args:
        connection: one in a transaction.
        moment: seconds since 1970.
        most: how many events at once, so that nobody waits long for this transaction.
    """
    oldest = (
        sa.select(_events.c.id)
        .where(_events.c.timestamp < moment)
        .order_by(_events.c.id)
        .limit(most)
    )
    return _delete(connection, _events.c.id.in_(oldest))


def _delete(connection: Connection, condition: Any) -> int:
    if not _is_there(connection):
        return 0
    return int(connection.execute(sa.delete(_events).where(condition)).rowcount)


def _is_there(connection: Connection) -> bool:
    return bool(sa.inspect(connection).has_table("events"))
