"""What the messaging channels keep beside the conversations: erased with them, purged with time."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assistant.storage.database import (
    channel_menus,
    channel_messages,
    channel_senders,
    connected,
)

_KEY_SECONDS = 7 * 24 * 3600.0
"""How long it is known that a message was answered; platforms send it again for a day at most."""


def erase_channel_records(connection: Connection, conversation_id: str) -> None:
    """Delete what is kept of a sender, and cut the tie to what they wrote before.

    Messages that were not answered yet, such as the one that asks for this, stay until they are.
    """
    connection.execute(
        sa.delete(channel_menus).where(channel_menus.c.conversation_id == conversation_id)
    )
    connection.execute(
        sa.update(channel_messages)
        .where(channel_messages.c.conversation_id == conversation_id)
        .where(channel_messages.c.state != "pending")
        .values(conversation_id="")
    )
    connection.execute(
        sa.update(channel_senders)
        .where(channel_senders.c.conversation_id == conversation_id)
        .values(disclosed_at=None, seen_at=0.0)
    )


def purge_channel_records(connection: Connection, now: float, transcript_days: float) -> None:
    """Delete what is over: keys of answered messages, menus, and senders who write no more.

    Args:
        connection: one in a transaction.
        now: seconds since 1970.
        transcript_days: how long conversations are kept, and with them who is known.
    """
    connection.execute(sa.delete(channel_menus).where(channel_menus.c.expires_at < now))
    connection.execute(
        sa.delete(channel_messages)
        .where(channel_messages.c.state != "pending")
        .where(channel_messages.c.received_at < now - _KEY_SECONDS)
    )
    connection.execute(
        sa.delete(channel_senders)
        .where(channel_senders.c.due_at.is_(None))
        .where(channel_senders.c.leased_until < now)
        .where(channel_senders.c.private_until < now)
        .where(channel_senders.c.seen_at < now - transcript_days * 24 * 3600.0)
    )


def message_counts(engine: Engine) -> dict[str, int]:
    """Return how many messages wait for their answer (pending), and how many got none (dead).

    Raises:
        StorageError: the database cannot be read.
    """
    query = (
        sa.select(channel_messages.c.state, sa.func.count())
        .where(channel_messages.c.state.in_(["pending", "dead"]))
        .group_by(channel_messages.c.state)
    )
    with connected(engine) as connection:
        found = {row[0]: row[1] for row in connection.execute(query)}
    return {state: found.get(state, 0) for state in ("pending", "dead")}
