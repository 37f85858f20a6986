"""How often something happened on a day: no conversation, no words, no time of day.

Kept without end, so that a year can be compared with the one before.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from assistant.storage.database import StorageError, daily_counts, transaction

logger = logging.getLogger(__name__)

TURNED_AWAY = "out_of_scope"
"""The topic of answers to what was not understood, or is not for the assistant."""

_FLUSHED_EVERY = 10.0  # seconds

FIRST_ANSWER_STEPS = (
    (3600.0, "within an hour"),
    (4 * 3600.0, "within 4 hours"),
    (24 * 3600.0, "within a day"),
    (72 * 3600.0, "within 3 days"),
    (float("inf"), "later"),
)
"""How long a request waited: up to so many seconds, and the words that it is counted under."""


class DailyCounter:
    """Counts in memory what happens in conversations, until it is written down: a turn waits for nothing.

    A process that is killed loses the last seconds of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def conversation_began(self) -> None:
        """Count a conversation."""
        self._add("conversations", "")

    def answered(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Count the answer to one message, by topic; of what was turned away by step.

        Args:
            messages: the answer, as the web chat sends it.
        """
        metadata = [message.get("metadata") or {} for message in messages]
        topics = {str(item["topic"]) for item in metadata if item.get("topic")}
        if TURNED_AWAY in topics:
            steps = {str(item["step"]) for item in metadata if item.get("step")}
            self._add("turned_away", min(steps, default=""))
        elif topics:
            self._add("answered", "")
            for topic in topics:
                self._add("topic", topic)
        else:
            self._add("without_answer", "")

    def write(self, engine: Engine) -> None:
        """Add all to the database; it is kept for the next time if that fails.

        Raises:
            StorageError: the database cannot do it.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            with transaction(engine, durable=False) as connection:
                for (day, kind, topic), number in sorted(counts.items()):
                    add_count(connection, kind, topic, number, day)
        except StorageError:
            with self._lock:
                self._counts.update(counts)
            raise

    def _add(self, kind: str, topic: str) -> None:
        with self._lock:
            self._counts[(_today(), kind, topic)] += 1


@lru_cache(maxsize=1)
def process_counter() -> DailyCounter:
    """Return the counter of this process. Only a server writes it down."""
    return DailyCounter()


async def write_regularly(counter: DailyCounter, engine: Engine) -> None:
    """Write the counts down every some seconds until cancelled, and once more then."""
    try:
        while True:
            await asyncio.sleep(_FLUSHED_EVERY)
            try:
                await asyncio.to_thread(counter.write, engine)
            except StorageError as error:
                logger.error("The day's counts could not be stored; trying again. %s", error)
    finally:
        try:
            counter.write(engine)
        except StorageError as error:
            logger.error("The last counts of the day are lost. %s", error)


def add_count(
    connection: Connection, kind: str, topic: str = "", number: int = 1, day: str = ""
) -> None:
    """Count something, in the caller's transaction; two at once do not collide.

    Args:
        connection: one in a transaction.
        kind: what happened, as `answered`.
        topic: what it was about; "" without.
        number: how often; negative to take back.
        day: when (UTC, as 2026-11-24); "" for today.
    """
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(daily_counts)
    connection.execute(
        insert.values(
            day=day or _today(), kind=kind, topic=topic, count=number
        ).on_conflict_do_update(
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


def day_of(seconds: float) -> str:
    """Return the day (UTC) of a moment in seconds since 1970."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).date().isoformat()


def _today() -> str:
    return day_of(time.time())
