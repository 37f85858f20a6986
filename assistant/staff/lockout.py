"""Slows down who guesses passwords, by name and by network, over all workers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assistant.storage.database import staff_tries, transaction

FREE_TRIES_OF_NAME = 5
FREE_TRIES_OF_NETWORK = 20
_FIRST_LOCK = 30.0  # seconds
_LONGEST_LOCK = 900.0  # more would let anybody keep the office out of its own pages
_FORGOTTEN_AFTER = 24 * 3600.0


class Lockout:
    """Counts tries; after some, each further one must wait twice as long.

    A try is counted before the password is looked at, so that many at once gain nothing. A name that
    nobody has is locked like any other.

    Args:
        engine: the database, with our tables.
        clock: returns seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def begin(self, name: str, network: str) -> float:
        """Count a try.

        Args:
            name: who wants to sign in, as given.
            network: where from.

        Returns:
            0 if it may go on, else the seconds to wait, and it is not counted.

        Raises:
            StorageError: the database cannot do it; then nobody may go on.
        """
        now = self._clock()
        limits = {
            _key("name", name): FREE_TRIES_OF_NAME,
            _key("network", network): FREE_TRIES_OF_NETWORK,
        }
        with transaction(self._engine) as connection:
            connection.execute(
                sa.delete(staff_tries).where(staff_tries.c.last_at < now - _FORGOTTEN_AFTER)
            )
            rows = {key: self._row(connection, key, now) for key in sorted(limits)}
            wait = max(locked_until - now for _, locked_until in rows.values())
            if wait > 0:
                return wait
            for key, (count, _) in rows.items():
                connection.execute(
                    sa.update(staff_tries)
                    .where(staff_tries.c.key == key)
                    .values(
                        count=count + 1,
                        last_at=now,
                        locked_until=now + _lock(count + 1 - limits[key]),
                    )
                )
        return 0.0

    def succeed(self, connection: Connection, name: str, network: str) -> None:
        """Forget the tries of who signed in, in the caller's transaction.

        Of the network only this one try: else an account of one's own would let one guess others'.
        """
        connection.execute(sa.delete(staff_tries).where(staff_tries.c.key == _key("name", name)))
        connection.execute(
            sa.update(staff_tries)
            .where(staff_tries.c.key == _key("network", network))
            .where(staff_tries.c.count > 0)
            .values(count=staff_tries.c.count - 1, locked_until=0.0)
        )

    def _row(self, connection: Connection, key: str, now: float) -> tuple[int, float]:
        """Return count and end of the lock of a key, whose row is made and held if need be."""
        query = sa.select(staff_tries).where(staff_tries.c.key == key).with_for_update()
        row = connection.execute(query).first()
        if row is None:
            connection.execute(
                sa.insert(staff_tries).values(key=key, count=0, last_at=now, locked_until=0.0)
            )
            return 0, 0.0
        return row.count, row.locked_until


def _lock(tries_too_many: int) -> float:
    if tries_too_many < 0:
        return 0.0
    return float(min(_FIRST_LOCK * 2.0 ** min(tries_too_many, 20), _LONGEST_LOCK))


def _key(kind: str, value: str) -> str:
    # Not the value itself: people type their password where the name belongs.
    return hashlib.sha256(f"{kind}:{value.strip().lower()}".encode()).hexdigest()
