"""The desk that takes requests: drafts, requests and what is to be delivered, each in one step."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from assistant.contact.cipher import Cipher
from assistant.contact.request import Draft, Receipt, new_number
from assistant.settings import load_settings
from assistant.storage.database import (
    contact_drafts,
    contact_requests,
    contact_status_history,
    engine_for,
    outbox,
    privacy_receipts,
    transaction,
)


class NotStoredError(Exception):
    """The database did not take it, or cannot be read; nothing is half stored."""


class NoDraftError(Exception):
    """There is nothing to send: no draft was kept, or its time is over."""


class ContactDesk:
    """Keeps drafts and requests.

    Calls block for some milliseconds. Each is one transaction, and raises `NotStoredError` if the
    database cannot do it.

    Args:
        engine: the database, with our tables.
        cipher: encrypts personal fields.
        targets: names of those who are told about each request.
        draft_seconds: how long a draft is kept after it was last changed.
        clock: the time, in seconds since 1970.
    """

    def __init__(
        self,
        engine: Engine,
        cipher: Cipher,
        targets: Sequence[str] = (),
        draft_seconds: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._cipher = cipher
        self._targets = tuple(targets)
        self._draft_seconds = draft_seconds
        self._clock = clock

    def keep_draft(self, conversation_id: str, draft: Draft) -> None:
        """Keep what a visitor has said so far, in place of the draft before."""
        fields = dataclasses.asdict(draft)
        key = fields.pop("key")
        with self._transaction() as connection:
            connection.execute(sa.delete(contact_drafts).where(_draft_of(conversation_id)))
            connection.execute(
                sa.insert(contact_drafts).values(
                    conversation_id=conversation_id,
                    idempotency_key=key,
                    sealed=self._cipher.seal(fields),
                    expires_at=self._clock() + self._draft_seconds,
                )
            )

    def draft(self, conversation_id: str) -> Draft | None:
        """Return the draft; None if there is none, it expired, or it was sent."""
        with self._transaction() as connection:
            row = self._live_draft(connection, conversation_id)
        return self._opened(row) if row and row.sealed else None

    def discard_draft(self, conversation_id: str) -> None:
        """Forget the draft, if there is one."""
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            rows = connection.execute(
                sa.select(contact_requests)
                .where(contact_requests.c.conversation_id == conversation_id)
                .order_by(contact_requests.c.created_at)
            ).all()
        return [_receipt(row) for row in rows]

    def withdraw(self, conversation_id: str, number: str) -> bool:
        """Delete what a visitor wrote in a request; number and times stay as proof.

        The office is told, unless it never heard of the request.

        Args:
            conversation_id: whose request it must be.
            number: its public reference.

        Returns:
            Whether there was such a request to withdraw.
        """
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(contact_requests)
                .where(contact_requests.c.number == number)
                .where(contact_requests.c.conversation_id == conversation_id)
                .with_for_update()
            ).first()
            if row is None or row.status == "withdrawn":
                return False
            self._withdraw(connection, number)
            self._record(connection, "withdraw", requests=1)
        return True

    def erase(self, conversation_id: str) -> int:
        """Delete the draft and all requests of a conversation, and the tie between them.

        Returns:
            How many requests there were.
        """
        mine = contact_requests.c.conversation_id == conversation_id
        with self._transaction() as connection:
            drafts = connection.execute(
                sa.delete(contact_drafts).where(_draft_of(conversation_id))
            ).rowcount
            rows = connection.execute(
                sa.select(contact_requests).where(mine).with_for_update()
            ).all()
            for row in rows:
                if row.status != "withdrawn":
                    self._withdraw(connection, row.number)
            connection.execute(sa.update(contact_requests).where(mine).values(conversation_id=None))
            self._record(connection, "erase", requests=len(rows), drafts=drafts)
        return len(rows)

    def _submit(self, conversation_id: str) -> Receipt:
        with self._transaction() as connection:
            draft = self._live_draft(connection, conversation_id)
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
        return _receipt(row)

    def _store(self, connection: Connection, conversation_id: str, draft: Any) -> Any:
        number, now = new_number(), self._clock()
        try:
            connection.execute(
                sa.insert(contact_requests).values(
                    number=number,
                    idempotency_key=draft.idempotency_key,
                    conversation_id=conversation_id,
                    status="new",
                    sealed=draft.sealed,
                    created_at=now,
                    changed_at=now,
                )
            )
        except IntegrityError as error:
            raise _TakenError from error
        self._note_status(connection, number, "new")
        for target in self._targets:
            self._announce(connection, number, target, "new")
        return connection.execute(
            sa.select(contact_requests).where(contact_requests.c.number == number)
        ).one()

    def _withdraw(self, connection: Connection, number: str) -> None:
        connection.execute(
            sa.update(contact_requests)
            .where(contact_requests.c.number == number)
            .values(status="withdrawn", sealed=None, changed_at=self._clock())
        )
        self._note_status(connection, number, "withdrawn")
        mine = outbox.c.number == number
        told = connection.execute(
            sa.select(outbox.c.target).where(mine).where(outbox.c.attempts > 0).with_for_update()
        ).scalars()
        targets = list(told)
        connection.execute(sa.delete(outbox).where(mine).where(outbox.c.state == "pending"))
        for target in targets:
            self._announce(connection, number, target, "withdrawn")

    def _note_status(self, connection: Connection, number: str, status: str) -> None:
        connection.execute(
            sa.insert(contact_status_history).values(number=number, status=status, at=self._clock())
        )

    def _announce(self, connection: Connection, number: str, target: str, event: str) -> None:
        now = self._clock()
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

    def _record(
        self, connection: Connection, action: str, requests: int = 0, drafts: int = 0
    ) -> None:
        connection.execute(
            sa.insert(privacy_receipts).values(
                at=self._clock(), action=action, requests=requests, drafts=drafts, events=0
            )
        )

    def _live_draft(self, connection: Connection, conversation_id: str) -> Any:
        return connection.execute(
            sa.select(contact_drafts)
            .where(_draft_of(conversation_id))
            .where(contact_drafts.c.expires_at > self._clock())
            .with_for_update()
        ).first()

    def _opened(self, row: Any) -> Draft:
        return Draft(**self._cipher.open(row.sealed), key=row.idempotency_key)

    @contextmanager
    def _transaction(self) -> Generator[Connection, None, None]:
        try:
            with transaction(self._engine) as connection:
                yield connection
        except SQLAlchemyError as error:
            # Its words may hold what was to be stored, so they do not go on.
            raise NotStoredError(f"The database failed: {type(error).__name__}.") from None


class _TakenError(NotStoredError):
    """Another request has the key or the number."""


def _draft_of(conversation_id: str) -> Any:
    return contact_drafts.c.conversation_id == conversation_id


def _receipt(row: Any) -> Receipt:
    created_at = dt.datetime.fromtimestamp(row.created_at, dt.timezone.utc)
    return Receipt(row.number, row.status, created_at)


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
