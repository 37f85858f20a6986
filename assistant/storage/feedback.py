"""What visitors thought of an answer: a thumb and a reason to choose, never free text."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from assistant.storage.daily_counts import add_count, day_of
from assistant.storage.database import feedback


def keep_feedback(
    connection: Connection,
    conversation_id: str,
    message_id: str,
    topic: str,
    helpful: bool,
    reason: str,
) -> None:
    """Keep what a visitor thought of an answer, in place of what was said of it before; count it.

    Args:
        connection: one in a transaction.
        conversation_id: whose conversation.
        message_id: the visitor's message that was answered.
        topic: what the answer was about.
        helpful: thumb up or down.
        reason: one of the reasons that the channel offers; "" without.
    """
    this = (feedback.c.conversation_id == conversation_id, feedback.c.message_id == message_id)
    before = connection.execute(sa.select(feedback).where(*this)).first()
    if before is not None:
        add_count(connection, _kind(before.helpful), before.topic, -1, day_of(before.given_at))
        connection.execute(sa.delete(feedback).where(*this))
    add_count(connection, _kind(helpful), topic)
    connection.execute(
        sa.insert(feedback).values(
            conversation_id=conversation_id,
            message_id=message_id,
            topic=topic,
            helpful=helpful,
            reason=reason,
            given_at=time.time(),
        )
    )


def _kind(helpful: bool) -> str:
    return "helpful" if helpful else "not_helpful"


def read_feedback(connection: Connection, conversation_id: str) -> list[dict[str, Any]]:
    """Return what was said of the answers of a conversation, the oldest first."""
    rows = connection.execute(
        sa.select(feedback)
        .where(feedback.c.conversation_id == conversation_id)
        .order_by(feedback.c.given_at)
    )
    return [dict(row._mapping) for row in rows]


def erase_feedback(connection: Connection, conversation_id: str) -> None:
    """Delete what was said of the answers of a conversation."""
    connection.execute(sa.delete(feedback).where(feedback.c.conversation_id == conversation_id))


def erase_feedback_before(connection: Connection, moment: float) -> None:
    """Delete what was said before a moment, in seconds since 1970."""
    connection.execute(sa.delete(feedback).where(feedback.c.given_at < moment))
