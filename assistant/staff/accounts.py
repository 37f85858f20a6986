"""Who may sign in to the staff pages. Accounts are made on the command line; there is no default one."""

from __future__ import annotations

import re
import secrets
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.engine import Connection, Engine

from assistant.staff.log import note
from assistant.storage.database import connected, staff_accounts, staff_sessions, transaction

STAFF = "staff"
EDITOR = "editor"
ROLES = (STAFF, EDITOR)
"""`staff` answers requests, `editor` changes what the assistant says. An account may have both."""

COMMAND_LINE = "command line"
"""Stands in the access log for whoever runs the server."""

SHORTEST_PASSWORD = 12
_LONGEST_PASSWORD = 200
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])?")

# RFC 9106, its second choice for machines with little memory, on one core: visitors need the other.
_hasher = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1, type=Type.ID)


class AccountError(ValueError):
    """An account cannot be made or changed; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """Somebody who may sign in.

    Attributes:
        name: in small letters.
        roles: some of `ROLES`.
        created_at, changed_at: seconds since 1970; the latter of password or roles.
    """

    name: str
    roles: frozenset[str]
    created_at: float
    changed_at: float


class Accounts:
    """The accounts in the database.

    Each call raises `StorageError` if the database cannot do it.

    Args:
        engine: the database, with our tables.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[Account]:
        """Return all accounts, by name."""
        query = sa.select(staff_accounts).order_by(staff_accounts.c.name)
        with connected(self._engine) as connection:
            return [account_of(row) for row in connection.execute(query)]

    def add(self, name: str, password: str, roles: Iterable[str]) -> Account:
        """Make an account.

        Args:
            name: letters, digits, dots, hyphens and underscores; capital letters become small.
            password: at least `SHORTEST_PASSWORD` characters.
            roles: one or more of `ROLES`.

        Raises:
            AccountError: the name is taken, or something cannot be used.
        """
        name, wanted = _checked_name(name), frozenset(roles)
        if not wanted or wanted - set(ROLES):
            raise AccountError(f"Choose one or more of these roles: {', '.join(ROLES)}.")
        hashed = _hashed(name, password)
        now = time.time()
        with transaction(self._engine) as connection:
            if _row(connection, name) is not None:
                raise AccountError(
                    f"There is an account {name} already. `assistant staff password {name}` gives "
                    f"it a new password."
                )
            connection.execute(
                sa.insert(staff_accounts).values(
                    name=name,
                    password_hash=hashed,
                    roles=" ".join(role for role in ROLES if role in wanted),
                    created_at=now,
                    changed_at=now,
                )
            )
            note(connection, COMMAND_LINE, "made an account", name)
        return Account(name, wanted, now, now)

    def set_password(
        self, name: str, password: str, by: str = COMMAND_LINE, keep: str = ""
    ) -> None:
        """Give an account a new password and end its sessions.

        Args:
            name: whose.
            password: the new one.
            by: who does it, for the access log.
            keep: digest of the session that stays; "" for none.

        Raises:
            AccountError: there is no such account, or the password cannot be used.
        """
        name = name.strip().lower()
        hashed = _hashed(name, password)
        with transaction(self._engine) as connection:
            changed = connection.execute(
                sa.update(staff_accounts)
                .where(staff_accounts.c.name == name)
                .values(password_hash=hashed, changed_at=time.time())
            ).rowcount
            if not changed:
                raise AccountError(_unknown(name))
            connection.execute(
                sa.delete(staff_sessions)
                .where(staff_sessions.c.name == name)
                .where(staff_sessions.c.digest != keep)
            )
            note(connection, by, "changed a password", name)

    def remove(self, name: str) -> None:
        """Delete an account, with its sessions and what was assigned to it.

        Raises:
            AccountError: there is no such account.
        """
        name = name.strip().lower()
        with transaction(self._engine) as connection:
            gone = connection.execute(
                sa.delete(staff_accounts).where(staff_accounts.c.name == name)
            ).rowcount
            if not gone:
                raise AccountError(_unknown(name))
            note(connection, COMMAND_LINE, "removed an account", name)

    def check(self, name: str, password: str) -> Account | None:
        """Return the account if the password is its own; None if not, or if there is no such account.

        Both take as long, some tenths of a second, so that nobody can find out who has an account.
        """
        name = name.strip().lower()
        with connected(self._engine) as connection:
            row = _row(connection, name)
        password = _normal(password)
        try:
            _hasher.verify(row.password_hash if row else _nobody(), password)
        except (VerificationError, InvalidHashError):
            return None
        if row is None:
            return None
        if _hasher.check_needs_rehash(row.password_hash):
            with transaction(self._engine) as connection:
                connection.execute(
                    sa.update(staff_accounts)
                    .where(staff_accounts.c.name == name)
                    .where(staff_accounts.c.password_hash == row.password_hash)
                    .values(password_hash=_hasher.hash(password))
                )
        return account_of(row)


def account_of(row: Any) -> Account:
    """Return the account of a row that holds the columns of `staff_accounts`."""
    return Account(row.name, frozenset(row.roles.split()), row.created_at, row.changed_at)


def _row(connection: Connection, name: str) -> Any:
    return connection.execute(
        sa.select(staff_accounts).where(staff_accounts.c.name == name)
    ).first()


def _unknown(name: str) -> str:
    return f"There is no account {name}. `assistant staff list` shows those that there are."


def _checked_name(name: str) -> str:
    name = name.strip().lower()
    if not _NAME.fullmatch(name):
        raise AccountError(
            f"'{name}' cannot be a name: use up to 40 letters (a to z), digits, dots, hyphens and "
            f"underscores, as in ana or ana.garcia."
        )
    return name


def _hashed(name: str, password: str) -> str:
    """Return the hash of a new password.

    Raises:
        AccountError: it is too easy to guess.
    """
    password = _normal(password)
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise AccountError(
            f"The password has {len(password)} characters; it needs {SHORTEST_PASSWORD} to "
            f"{_LONGEST_PASSWORD}. Four or five random words make a good one."
        )
    if len(set(password)) < 5 or (name in password.lower() and len(password) < len(name) + 8):
        raise AccountError("The password is too easy to guess. Four or five random words are not.")
    return _hasher.hash(password)


def _normal(password: str) -> str:
    # The same letters may come as other bytes from another keyboard (NIST SP 800-63B, 5.1.1.2).
    return unicodedata.normalize("NFKC", password)


@lru_cache(maxsize=1)
def _nobody() -> str:
    """Return the hash that a password for an unknown name is compared with."""
    return _hasher.hash(secrets.token_urlsafe())
