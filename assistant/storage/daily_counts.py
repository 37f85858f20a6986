"""How often something happened on a day: no conversation, no words, no time of day.

Kept without end, so that a year can be compared with the one before.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from assistant.storage.database import daily_counts

FIRST_ANSWER_STEPS = (
    (3600.0, "within an hour"),
    (4 * 3600.0, "within 4 hours"),
    (24 * 3600.0, "within a day"),
    (72 * 3600.0, "within 3 days"),
    (float("inf"), "later"),
)
"""How long a request waited: up to so many seconds, and the words that it is counted under."""


def add_count(connection: Connection, kind: str, topic: str = "", number: int = 1) -> None:
    """Count something for today (UTC), in the caller's transaction; two at once do not collide.

    Args:
        connection: one in a transaction.
        kind: what happened, as `answered`.
        topic: what it was about; "" without.
        number: how often.
    """
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(daily_counts)
    day = dt.datetime.now(dt.timezone.utc).date().isoformat()
    connection.execute(
        insert.values(day=day, kind=kind, topic=topic, count=number).on_conflict_do_update(
            index_elements=["day", "kind", "topic"],
            set_={"count": daily_counts.c.count + insert.excluded.count},
        )
    )


def add_first_answer(connection: Connection, created_at: float) -> None:
    """Count that a request was taken up now, by how long it had waited.

    Args:
        connection: one in a transaction.
        created_at: when the request was stored, in seconds since 1970.
    """
    waited = time.time() - created_at
    words = next(words for limit, words in FIRST_ANSWER_STEPS if waited <= limit)
    add_count(connection, "first_answer", words)


def read_counts(connection: Connection, since: str) -> list[Any]:
    """Return the rows (day, kind, topic, count) from a day on, as `2026-11-24`."""
    return list(
        connection.execute(
            sa.select(daily_counts)
            .where(daily_counts.c.day >= since)
            .order_by(daily_counts.c.day, daily_counts.c.kind, daily_counts.c.topic)
        )
    )
