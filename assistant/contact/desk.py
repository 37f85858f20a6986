"""The desk that takes requests: drafts, requests and what is to be delivered, each in one step."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from assistant.contact import records
from assistant.contact.cipher import Cipher, UnreadableError
from assistant.contact.request import Draft, Receipt, new_number
from assistant.settings import load_settings
from assistant.storage.daily_counts import add_count
from assistant.storage.database import (
    StorageError,
    contact_drafts,
    contact_requests,
    engine_for,
    transaction,
)

logger = logging.getLogger(__name__)


class NoDraftError(Exception):
    """There is nothing to send: no draft was kept, or its time is over."""


class ContactDesk:
    """Keeps drafts and requests.

    Calls block for some milliseconds. Each is one transaction, and raises `StorageError` if the
    database cannot do it.

    Args:
        engine: the database, with our tables.
        cipher: encrypts personal fields.
        targets: names of those who are told about each request.
        draft_seconds: how long a draft is kept after it was last changed.
    """

    def __init__(
        self,
        engine: Engine,
        cipher: Cipher,
        targets: Sequence[str] = (),
        draft_seconds: float = 3600.0,
    ) -> None:
        self._engine = engine
        self._cipher = cipher
        self._targets = tuple(targets)
        self._draft_seconds = draft_seconds

    def keep_draft(self, conversation_id: str, draft: Draft) -> None:
        """Keep what a visitor has said so far, in place of the draft before."""
        fields = dataclasses.asdict(draft)
        key = fields.pop("key")
        with transaction(self._engine) as connection:
            connection.execute(sa.delete(contact_drafts).where(_draft_of(conversation_id)))
            connection.execute(
                sa.insert(contact_drafts).values(
                    conversation_id=conversation_id,
                    idempotency_key=key,
                    sealed=self._cipher.seal(fields),
                    expires_at=time.time() + self._draft_seconds,
                )
            )

    def draft(self, conversation_id: str) -> Draft | None:
        """Return the draft; None if there is none, it expired, or it was sent."""
        with transaction(self._engine) as connection:
            row = _live_draft(connection, conversation_id)
        if row is None or row.sealed is None:
            return None
        try:
            return Draft(**self._cipher.open(row.sealed), key=row.idempotency_key)
        except UnreadableError as error:
            logger.error("A draft is lost. %s", error)
            return None

    def discard_draft(self, conversation_id: str) -> None:
        """Forget the draft, if there is one."""
        with transaction(self._engine) as connection:
            connection.execute(sa.delete(contact_drafts).where(_draft_of(conversation_id)))

    def submit(self, conversation_id: str) -> Receipt:
        """Make the draft a request: stored, with its history and what is to be delivered, or not at all.

        Sending the same draft again returns the first receipt, also when the draft is gone because
        the first try got through.

        Raises:
            NoDraftError: there is nothing to send.
        """
        try:
            return self._submit(conversation_id)
        except _TakenError:  # by the same draft, sent twice at once, or by a number: look again
            return self._submit(conversation_id)

    def receipts(self, conversation_id: str) -> list[Receipt]:
        """Return the receipts of all requests of a conversation, the oldest first."""
        with transaction(self._engine) as connection:
            rows = connection.execute(
                sa.select(contact_requests)
                .where(contact_requests.c.conversation_id == conversation_id)
                .order_by(contact_requests.c.created_at)
            ).all()
        return [records.receipt_of(row) for row in rows]

    def withdraw(self, conversation_id: str, number: str) -> bool:
        """Delete what a visitor wrote in a request; number and times stay as proof.

        The office is told, unless it never heard of the request.

        Args:
            conversation_id: whose request it must be.
            number: its public reference.

        Returns:
            Whether there was such a request to withdraw.
        """
        with transaction(self._engine) as connection:
            row = connection.execute(
                sa.select(contact_requests)
                .where(contact_requests.c.number == number)
                .where(contact_requests.c.conversation_id == conversation_id)
                .with_for_update()
            ).first()
            if row is None or row.status == "withdrawn":
                return False
            records.withdraw(connection, number)
            records.leave_receipt(connection, "withdraw", requests=1)
        return True

    def erase(self, conversation_id: str) -> int:
        """Withdraw all requests of a conversation, delete its draft and the tie between them.

        Returns:
            How many requests there were.
        """
        with transaction(self._engine) as connection:
            requests, drafts = records.erase_conversation(connection, conversation_id)
            if requests or drafts:
                records.leave_receipt(connection, "erase", requests=requests, drafts=drafts)
        return requests

    def _submit(self, conversation_id: str) -> Receipt:
        with transaction(self._engine) as connection:
            draft = _live_draft(connection, conversation_id)
            if draft is None:
                raise NoDraftError
            row = connection.execute(
                sa.select(contact_requests).where(
                    contact_requests.c.idempotency_key == draft.idempotency_key
                )
            ).first()
            if row is None:
                row = self._store(connection, conversation_id, draft)
            # The emptied draft stays for its time: who did not see the receipt may send again.
            connection.execute(
                sa.update(contact_drafts).where(_draft_of(conversation_id)).values(sealed=None)
            )
        return records.receipt_of(row)

    def _store(self, connection: Connection, conversation_id: str, draft: Any) -> Any:
        number, now = new_number(), time.time()
        if draft.sealed is None:
            raise NoDraftError  # the request that it became was purged
        try:
            sealed = self._cipher.renew(draft.sealed)
        except UnreadableError as error:
            logger.error("A draft is lost. %s", error)
            raise NoDraftError from None
        try:
            connection.execute(
                sa.insert(contact_requests).values(
                    number=number,
                    idempotency_key=draft.idempotency_key,
                    conversation_id=conversation_id,
                    status="new",
                    sealed=sealed,
                    created_at=now,
                    changed_at=now,
                )
            )
        except IntegrityError:
            raise _TakenError("The key or the number is taken.") from None
        records.note_status(connection, number, "new", now)
        add_count(connection, "requests")
        for target in self._targets:
            records.announce(connection, number, target, "new", now)
        return connection.execute(
            sa.select(contact_requests).where(contact_requests.c.number == number)
        ).one()


class _TakenError(StorageError):
    """Another request has the key or the number."""


def _draft_of(conversation_id: str) -> Any:
    return contact_drafts.c.conversation_id == conversation_id


def _live_draft(connection: Connection, conversation_id: str) -> Any:
    return connection.execute(
        sa.select(contact_drafts)
        .where(_draft_of(conversation_id))
        .where(contact_drafts.c.expires_at > time.time())
        .with_for_update()
    ).first()


@lru_cache(maxsize=1)
def contact_desk() -> ContactDesk:
    """Return the desk of this process, as the settings say."""
    settings = load_settings()
    return ContactDesk(
        engine_for(settings.database_url),
        Cipher(settings.contact_keys),
        [target.name for target in settings.targets],
        settings.draft_minutes * 60,
    )
