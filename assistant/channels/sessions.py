"""Web chat sessions: the server names the conversation and signs it; the browser only carries it.

Rasa lets whoever knows a conversation's name read it and speak in it, so the name is random and is
accepted only inside a token that this server signed.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass

import jwt

from assistant.storage.private_conversations import PRIVATE

_AUDIENCE = "webchat"
_ALGORITHM = "HS256"


class InvalidSession(Exception):  # noqa: N818 - a state of the session, told to the visitor
    """The token is missing, forged, expired or of a conversation that was erased."""


@dataclass(frozen=True)
class Session:
    """A visitor's session: its conversation and when it ends."""

    conversation_id: str
    expires_at: dt.datetime


class SessionSigner:
    """Mints and verifies session tokens.

    Args:
        secret: at least 32 characters, the same in all workers.
        life: how long a session lasts.
    """

    def __init__(self, secret: str, life: dt.timedelta) -> None:
        self._secret = secret
        self._life = life

    def mint(self, private: bool = False) -> tuple[str, Session]:
        """Return a token and the new session that it stands for.

        Args:
            private: whether nothing of its conversation may be stored.
        """
        now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
        session = Session(
            f"{PRIVATE if private else 'web-'}{secrets.token_urlsafe(18)}", now + self._life
        )
        claims = {
            "sub": session.conversation_id,
            "aud": _AUDIENCE,
            "iat": now,
            "exp": session.expires_at,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM), session

    def verify(self, token: str) -> Session:
        """Return the session of a token.

        Raises:
            InvalidSession: the token is not one of ours, or its time is over.
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                # When it was made is not asked: a clock that was set back would refuse good sessions.
                options={"require": ["sub", "exp", "aud"], "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise InvalidSession(str(error)) from error
        expires_at = dt.datetime.fromtimestamp(claims["exp"], dt.timezone.utc)
        return Session(str(claims["sub"]), expires_at)
