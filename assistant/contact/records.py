"""What the desk, the inbox and the visitor's rights share: rows of requests, read and changed.

Each function works in the transaction of its caller.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from assistant.contact.request import Receipt
from assistant.storage.daily_counts import add_first_answer
from assistant.storage.database import (
    contact_drafts,
    contact_requests,
    contact_status_history,
    outbox,
    privacy_receipts,
    request_notes,
)


def receipt_of(row: Any) -> Receipt:
    """Return the receipt of a row of `contact_requests`."""
    return Receipt(row.number, row.status, moment(row.created_at))


def moment(seconds: float) -> dt.datetime:
    """Return a stored time in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def set_status(connection: Connection, number: str, status: str, **values: Any) -> None:
    """Change the status of a request, with its history.

    When the office takes a request up for the first time, it is counted how long that took.
    """
    now = time.time()
    if status in ("in_progress", "handled"):
        _count_first_answer(connection, number)
    connection.execute(
        sa.update(contact_requests)
        .where(contact_requests.c.number == number)
        .values(status=status, changed_at=now, **values)
    )
    note_status(connection, number, status, now)


def _count_first_answer(connection: Connection, number: str) -> None:
    history = contact_status_history.c
    steps = connection.execute(
        sa.select(history.status, history.at)
        .where(history.number == number)
        .order_by(history.id)
        .limit(2)
    ).all()
    if len(steps) == 1:  # it was new, and nothing else
        add_first_answer(connection, steps[0].at)


def note_status(connection: Connection, number: str, status: str, now: float) -> None:
    """Add to the history of a request."""
    connection.execute(
        sa.insert(contact_status_history).values(number=number, status=status, at=now)
    )


def announce(connection: Connection, number: str, target: str, event: str, now: float) -> None:
    """Put into the outbox that a target is to hear of a request."""
    connection.execute(
        sa.insert(outbox).values(
            message_id=uuid.uuid4().hex,
            number=number,
            target=target,
            event=event,
            state="pending",
            attempts=0,
            created_at=now,
            next_attempt_at=now,
        )
    )


def withdraw(connection: Connection, number: str) -> None:
    """Delete what is personal in a request; tell those who may have heard of it already."""
    set_status(connection, number, "withdrawn", sealed=None)
    connection.execute(sa.delete(request_notes).where(request_notes.c.number == number))
    mine = outbox.c.number == number
    # All rows are held first, so that none is taken for delivery meanwhile.
    rows = connection.execute(sa.select(outbox).where(mine).with_for_update()).all()
    connection.execute(sa.delete(outbox).where(mine).where(outbox.c.state != "delivered"))
    for row in rows:
        if row.attempts:
            announce(connection, number, row.target, "withdrawn", time.time())


def erase_conversation(connection: Connection, conversation_id: str) -> tuple[int, int]:
    """Withdraw all requests of a conversation, delete its draft and the tie between them.

    Returns:
        How many requests and drafts there were.
    """
    drafts = connection.execute(
        sa.delete(contact_drafts).where(contact_drafts.c.conversation_id == conversation_id)
    ).rowcount
    mine = contact_requests.c.conversation_id == conversation_id
    rows = connection.execute(sa.select(contact_requests).where(mine).with_for_update()).all()
    for row in rows:
        if row.status != "withdrawn":
            withdraw(connection, row.number)
    connection.execute(sa.update(contact_requests).where(mine).values(conversation_id=None))
    return len(rows), drafts


def leave_receipt(
    connection: Connection, action: str, requests: int = 0, drafts: int = 0, events: int = 0
) -> None:
    """Record that personal data was erased, exported or purged; not whose."""
    connection.execute(
        sa.insert(privacy_receipts).values(
            at=time.time(), action=action, requests=requests, drafts=drafts, events=events
        )
    )
