"""The office's side: requests in plain words, for staff on the machine."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.contact import records
from assistant.contact.cipher import Cipher, UnreadableError
from assistant.contact.request import ENDED, Draft, Request
from assistant.storage.database import (
    contact_drafts,
    contact_requests,
    request_notes,
    transaction,
)


class Inbox:
    """Reads requests and marks them.

    Each call raises `StorageError` if the database cannot do it.

    Args:
        engine: the database, with our tables.
        cipher: reads personal fields.
    """

    def __init__(self, engine: Engine, cipher: Cipher) -> None:
        self._engine = engine
        self._cipher = cipher

    def requests(self, status: str = "") -> list[Request]:
        """Return the requests, the oldest first.

        Args:
            status: only those with this status; "" for all.
        """
        query = sa.select(contact_requests).order_by(contact_requests.c.created_at)
        if status:
            query = query.where(contact_requests.c.status == status)
        with transaction(self._engine) as connection:
            return [opened_request(row, self._cipher) for row in connection.execute(query)]

    def request(self, number: str) -> Request | None:
        """Return one request; None if there is none with this number."""
        query = sa.select(contact_requests).where(contact_requests.c.number == number)
        with transaction(self._engine) as connection:
            row = connection.execute(query).first()
        return opened_request(row, self._cipher) if row else None

    def mark_handled(self, number: str) -> bool:
        """Mark a request as handled; it is deleted some time after.

        Returns:
            Whether there was a new request, or one in progress, with this number.
        """
        new = sa.select(contact_requests.c.number).where(
            contact_requests.c.number == number, contact_requests.c.status.notin_(ENDED)
        )
        with transaction(self._engine) as connection:
            if connection.execute(new.with_for_update()).first() is None:
                return False
            records.set_status(connection, number, "handled")
        return True

    def renew_encryption(self) -> tuple[int, int]:
        """Encrypt every request, draft and note with the newest key.

        Returns:
            How many were encrypted anew, and how many no key can read.
        """
        renewed = unreadable = 0
        with transaction(self._engine) as connection:
            for table, key in (
                (contact_requests, contact_requests.c.number),
                (contact_drafts, contact_drafts.c.conversation_id),
                (request_notes, request_notes.c.id),
            ):
                query = sa.select(key.label("key"), table.c.sealed).where(
                    table.c.sealed.isnot(None)
                )
                for row in connection.execute(query.with_for_update()).all():
                    try:
                        sealed = self._cipher.renew(row.sealed)
                    except UnreadableError:
                        unreadable += 1
                        continue
                    connection.execute(sa.update(table).where(key == row.key).values(sealed=sealed))
                    renewed += 1
        return renewed, unreadable


def opened_request(row: Any, cipher: Cipher) -> Request:
    """Return the request of a row that holds the columns of `contact_requests`."""
    fields: dict[str, str] | None = {}
    if row.sealed is not None:
        try:
            fields = cipher.open(row.sealed)
        except UnreadableError:
            fields = None
    return Request(
        receipt=records.receipt_of(row),
        changed_at=records.moment(row.changed_at),
        conversation_id=row.conversation_id or "",
        wishes=None if fields is None else Draft(**fields, key=row.idempotency_key),
    )
