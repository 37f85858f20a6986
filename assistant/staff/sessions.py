"""Sessions of the staff pages. The database holds a digest of each token, so a copy opens nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assistant.staff.accounts import Account, account_of
from assistant.staff.log import forget_old_entries
from assistant.storage.database import connected, staff_accounts, staff_sessions, transaction

IDLE_SECONDS = 30 * 60.0
LONGEST_SECONDS = 10 * 3600.0
_NOTED_EVERY = 60.0  # seconds between two writes of "was here"


@dataclass(frozen=True)
class Session:
    """A session that is under way.

    Attributes:
        account: whose.
        digest: SHA-256 of its token, in hexadecimal.
        csrf: what each of its forms must bring back.
    """

    account: Account
    digest: str
    csrf: str


@dataclass(frozen=True)
class Opened:
    """A new session: the token goes into the cookie and nowhere else."""

    token: str
    digest: str


class Sessions:
    """Opens, finds and ends sessions.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it.

    Args:
        engine: the database, with our tables.
        clock: returns seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def open(self, connection: Connection, name: str, before: str = "") -> Opened:
        """Open a session, in the caller's transaction; clear away what is over.

        Args:
            connection: one in a transaction.
            name: whose account.
            before: the token that the browser brought, whose session ends; "" without.
        """
        now = self._clock()
        token = secrets.token_urlsafe(32)
        connection.execute(
            sa.delete(staff_sessions).where(
                sa.or_(
                    staff_sessions.c.seen_at < now - IDLE_SECONDS,
                    staff_sessions.c.created_at < now - LONGEST_SECONDS,
                    staff_sessions.c.digest == _digest(before),
                )
            )
        )
        forget_old_entries(connection)
        connection.execute(
            sa.insert(staff_sessions).values(
                digest=_digest(token), name=name, created_at=now, seen_at=now
            )
        )
        return Opened(token, _digest(token))

    def find(self, token: str, counts: bool = True) -> tuple[bool, Session | None]:
        """Look up a session.

        Args:
            token: what the browser brought; "" for nothing.
            counts: whether somebody is there; a page that asks by itself must not keep it open.

        Returns:
            Whether there is any account at all, and the session; None if it is unknown or over.
        """
        now = self._clock()
        digest = _digest(token)
        live = (
            sa.select(staff_accounts, staff_sessions.c.seen_at)
            .select_from(staff_sessions.join(staff_accounts))
            .where(staff_sessions.c.digest == digest)
            .where(staff_sessions.c.seen_at >= now - IDLE_SECONDS)
            .where(staff_sessions.c.created_at >= now - LONGEST_SECONDS)
        )
        with connected(self._engine) as connection:
            row = connection.execute(live).first() if token else None
            if row is None:
                some = connection.execute(sa.select(staff_accounts.c.name).limit(1)).first()
                return some is not None, None
        if counts and now - row.seen_at > _NOTED_EVERY:
            with transaction(self._engine, durable=False) as connection:
                connection.execute(
                    sa.update(staff_sessions)
                    .where(staff_sessions.c.digest == digest)
                    .values(seen_at=now)
                )
        return True, Session(account_of(row), digest, csrf_token(token))

    def end(self, connection: Connection, digest: str) -> None:
        """End one session, in the caller's transaction."""
        connection.execute(sa.delete(staff_sessions).where(staff_sessions.c.digest == digest))

    def end_all(self, connection: Connection, name: str, keep: str = "") -> int:
        """End all sessions of an account but one, in the caller's transaction; return how many.

        Args:
            connection: one in a transaction.
            name: whose.
            keep: digest of the session that stays; "" for none.
        """
        return int(
            connection.execute(
                sa.delete(staff_sessions)
                .where(staff_sessions.c.name == name)
                .where(staff_sessions.c.digest != keep)
            ).rowcount
        )


def csrf_token(token: str) -> str:
    """Return what the forms of a session bring back: known to its browser, and kept nowhere."""
    code = hmac.new(token.encode(errors="surrogateescape"), b"csrf", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(code).decode().rstrip("=")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
