"""What visitors thought of an answer: a thumb and a reason to choose, never free text."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.storage.database import metadata

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("message_id", sa.String(64), primary_key=True, comment="what was answered"),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("helpful", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("given_at", sa.Float, nullable=False, comment="seconds since 1970"),
)


class Feedback:
    """Keeps the last word of a visitor on each answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def give(
        self, conversation_id: str, message_id: str, topic: str, helpful: bool, reason: str
    ) -> None:
        """Keep what a visitor thought of an answer, in place of what was said of it before.

        Args:
            conversation_id: whose conversation.
            message_id: the visitor's message that was answered.
            topic: what the answer was about.
            helpful: thumb up or down.
            reason: one of the reasons that the channel offers; "" without.
        """
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(feedback).where(
                    feedback.c.conversation_id == conversation_id,
                    feedback.c.message_id == message_id,
                )
            )
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

    def erase(self, conversation_id: str) -> int:
        """Delete what was said in a conversation; return how many answers it was about."""
        with self._engine.begin() as connection:
            gone = connection.execute(
                sa.delete(feedback).where(feedback.c.conversation_id == conversation_id)
            )
        return int(gone.rowcount)
