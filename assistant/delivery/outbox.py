"""The outbox: what is still to be told to the office, and how each attempt went.

A row is stored together with its request. A worker takes a row by moving its next attempt into the
future; if the worker dies, the row comes up again by itself. So a message can arrive twice, with the
same id, but is never lost.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.storage.database import outbox, transaction

MOST_ATTEMPTS = 80
"""After these, about three days, a message is dead: it waits until somebody says "retry"."""

_FIRST_PAUSE = 15.0
_LONGEST_PAUSE = 3600.0
_random = secrets.SystemRandom()


@dataclass(frozen=True)
class Delivery:
    """One message for one target.

    Attributes:
        message_id: the same at every attempt.
        number: public reference of the request.
        target: name of the target.
        event: "new" or "withdrawn".
        state: "pending", "delivered" or "dead".
        attempts: how many were begun, this one among them.
        created_at, next_attempt_at: seconds since 1970.
        last_error: what the last attempt failed of; None if none did.
    """

    message_id: str
    number: str
    target: str
    event: str
    state: str
    attempts: int
    created_at: float
    next_attempt_at: float
    last_error: str | None


class Outbox:
    """Hands out deliveries and takes back how they went.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it.

    Args:
        engine: the database, with our tables.
        lease_seconds: how long a delivery that was taken is left alone; longer than an attempt.
        first_pause: seconds between the first two attempts; each further pause is twice as long.
    """

    def __init__(
        self, engine: Engine, lease_seconds: float = 60.0, first_pause: float = _FIRST_PAUSE
    ) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._first_pause = first_pause

    def take(self, target: str) -> Delivery | None:
        """Take the delivery of a target that is due for longest; None if none is.

        Of several workers one gets it.
        """
        now = time.time()
        due = (
            sa.select(outbox)
            .where(outbox.c.target == target)
            .where(outbox.c.state == "pending")
            .where(outbox.c.next_attempt_at <= now)
            .order_by(outbox.c.next_attempt_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with transaction(self._engine) as connection:
            row = connection.execute(due).first()
            if row is None:
                return None
            taken = {"attempts": row.attempts + 1, "next_attempt_at": now + self._lease_seconds}
            connection.execute(
                sa.update(outbox).where(outbox.c.message_id == row.message_id).values(**taken)
            )
        return Delivery(**{**row._mapping, **taken})

    def settle(self, delivery: Delivery, error: str | None) -> str:
        """Record how an attempt went.

        Args:
            delivery: what `take` returned.
            error: what went wrong; None if the target has it.

        Returns:
            The state of the message now.
        """
        state = "delivered"
        if error is not None:
            state = "dead" if delivery.attempts >= MOST_ATTEMPTS else "pending"
        # If the lease ran out and another worker took the row, the end is for that one to tell;
        # but who delivered it, delivered it.
        mine = outbox.c.message_id == delivery.message_id
        if error is not None:
            mine = sa.and_(mine, outbox.c.attempts == delivery.attempts)
        with transaction(self._engine) as connection:
            connection.execute(
                sa.update(outbox)
                .where(mine)
                .values(
                    state=state,
                    last_error=error,
                    next_attempt_at=time.time() + self._pause(delivery.attempts),
                )
            )
        return state

    def bury_strangers(self, targets: list[str]) -> int:
        """Make what is for a target that is no longer in the settings dead; return how many."""
        with transaction(self._engine) as connection:
            return int(
                connection.execute(
                    sa.update(outbox)
                    .where(outbox.c.state == "pending")
                    .where(outbox.c.target.notin_(targets))
                    .values(state="dead", last_error="the target is no longer in the settings")
                ).rowcount
            )

    def counts(self) -> dict[str, int]:
        """Return how many messages are pending, and how many dead."""
        query = sa.select(outbox.c.state, sa.func.count()).group_by(outbox.c.state)
        with transaction(self._engine) as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state, 0) for state in ("pending", "dead")}

    def undelivered(self) -> list[Delivery]:
        """Return what is pending or dead, the oldest first."""
        query = sa.select(outbox).where(outbox.c.state != "delivered").order_by(outbox.c.created_at)
        with transaction(self._engine) as connection:
            return [Delivery(**row._mapping) for row in connection.execute(query)]

    def retry_dead(self) -> int:
        """Make all dead messages pending, due now; return how many."""
        with transaction(self._engine) as connection:
            return int(
                connection.execute(
                    sa.update(outbox)
                    .where(outbox.c.state == "dead")
                    # Not 0: the target may have heard of it, and hears of a withdrawal then.
                    .values(state="pending", attempts=1, next_attempt_at=time.time())
                ).rowcount
            )

    def _pause(self, attempts: int) -> float:
        """Return seconds to the next attempt: doubling, capped, and never in step with others."""
        full = min(self._first_pause * 2.0 ** min(attempts - 1, 20), _LONGEST_PAUSE)
        return full * _random.uniform(0.5, 1.0)
