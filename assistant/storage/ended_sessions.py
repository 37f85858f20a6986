"""Sessions that a visitor ended by erasing the chat: their tokens count no more."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.storage.database import connected, ended_sessions, transaction

_ID = sa.bindparam("conversation_id")
_FIND = sa.select(ended_sessions.c.conversation_id).where(ended_sessions.c.conversation_id == _ID)


class EndedSessions:
    """Remembers ended sessions until their tokens would expire anyway.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, conversation_id: str, expires_at: float) -> None:
        """End a session.

        Args:
            conversation_id: its conversation.
            expires_at: when its token expires, in seconds since 1970.
        """
        with transaction(self._engine) as connection:
            connection.execute(
                sa.delete(ended_sessions).where(ended_sessions.c.expires_at < time.time())
            )
            connection.execute(
                sa.delete(ended_sessions).where(ended_sessions.c.conversation_id == conversation_id)
            )
            connection.execute(
                sa.insert(ended_sessions).values(
                    conversation_id=conversation_id, expires_at=expires_at
                )
            )

    def __contains__(self, conversation_id: str) -> bool:
        """Whether the session was ended."""
        with connected(self._engine) as connection:
            found = connection.execute(_FIND, {_ID.key: conversation_id}).first()
        return found is not None
