"""The access log: who did what on the staff pages, when, and to which object.

It names accounts, request numbers and topics, and holds nothing that a visitor wrote.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assistant.storage.database import connected, staff_log

KEPT_DAYS = 365.0
"""How long a line of the log is kept."""


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        at: seconds since 1970.
        name: the account; "" if nobody has the name that was given.
        what: what was done, in a few words.
        about: number, topic or account that it was done to; "" without.
    """

    at: float
    name: str
    what: str
    about: str


def note(connection: Connection, name: str, what: str, about: str = "") -> None:
    """Add a line, in the caller's transaction, so that nothing is done that is not noted."""
    connection.execute(
        sa.insert(staff_log).values(at=time.time(), name=name, what=what, object=about)
    )


def entries(engine: Engine, name: str = "", most: int = 200) -> list[Entry]:
    """Return the newest lines, the oldest of them first.

    Args:
        engine: the database, with our tables.
        name: only what this account did; "" for all.
        most: how many.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(staff_log).order_by(staff_log.c.id.desc()).limit(most)
    if name:
        query = query.where(staff_log.c.name == name)
    with connected(engine) as connection:
        rows = connection.execute(query).all()
    return [Entry(row.at, row.name, row.what, row.object) for row in reversed(rows)]


def forget_old_entries(connection: Connection) -> None:
    """Delete what is older than `KEPT_DAYS`."""
    connection.execute(sa.delete(staff_log).where(staff_log.c.at < time.time() - KEPT_DAYS * 86400))
