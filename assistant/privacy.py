"""The rights of visitors and the end of every record: find, export, erase, purge."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import Any

import phonenumbers
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assistant.channels.messaging.senders import conversations_of_phone
from assistant.contact import records
from assistant.contact.cipher import Cipher, UnreadableError
from assistant.contact.request import ENDED
from assistant.settings import Settings
from assistant.storage.channel_records import erase_channel_records, purge_channel_records
from assistant.storage.database import (
    StorageError,
    channel_senders,
    contact_drafts,
    contact_requests,
    contact_status_history,
    empty_log,
    ended_sessions,
    outbox,
    request_notes,
    transaction,
)
from assistant.storage.feedback import erase_feedback, erase_feedback_before, read_feedback
from assistant.storage.transcripts import erase_events_before, erase_transcript, read_transcript

logger = logging.getLogger(__name__)

_HOUR = 3600.0
_DAY = 24 * _HOUR
_BATCH = 1000


def is_over(retention: Retention, now: float) -> Any:
    """Return the condition on rows of `contact_requests` that may be kept no longer.

    Args:
        retention: how long requests are kept.
        now: seconds since 1970.
    """
    requests = contact_requests.c
    return sa.or_(
        sa.and_(requests.status.in_(ENDED), requests.changed_at < now - retention.handled * _DAY),
        requests.created_at < now - retention.request * _DAY,
    )


@dataclass(frozen=True)
class Found:
    """What belongs to a visitor: conversations, and requests by their number."""

    conversations: frozenset[str]
    numbers: frozenset[str]

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.conversations or self.numbers)


@dataclass(frozen=True)
class Deleted:
    """How much was deleted."""

    requests: int = 0
    drafts: int = 0
    events: int = 0

    def __bool__(self) -> bool:
        """Whether anything was."""
        return bool(self.requests or self.drafts or self.events)


@dataclass(frozen=True)
class Retention:
    """How long records are kept, in days.

    Attributes:
        transcript: what was said.
        handled: a request after the office handled it, or after it was withdrawn.
        request: any request.
    """

    transcript: float
    handled: float
    request: float

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        """Return what the settings say."""
        return cls(settings.transcript_days, settings.handled_request_days, settings.request_days)


class PersonalData:
    """Everything that is stored about visitors, over all tables.

    Each call raises `StorageError` if the database cannot do it.

    Args:
        engine: the database, with our tables.
        cipher: reads personal fields.
        secret: the server's; with it the chats of a phone number on SMS and WhatsApp are found.
    """

    def __init__(self, engine: Engine, cipher: Cipher, secret: str = "") -> None:
        self._engine = engine
        self._cipher = cipher
        self._secret = secret

    def find(
        self, conversation: str = "", number: str = "", phone: str = "", email: str = ""
    ) -> Found:
        """Find what belongs to a visitor. Requests lead to their conversations and back.

        Phones and addresses are found by reading every request: an office has thousands at most,
        and an index of them would tell those who have the database who wrote.

        Args:
            conversation: its id.
            number: public reference of a request.
            phone: in any usual form; without a country it is taken as one of the United States.
            email: the address; capital letters do not count.
        """
        conversations, numbers = set[str](), set[str]()
        with transaction(self._engine) as connection:
            if conversation and self._is_known(connection, conversation):
                conversations.add(conversation)
            if phone and self._secret:
                names = conversations_of_phone(self._secret, _in_e164(phone))
                conversations.update(name for name in names if self._is_known(connection, name))
            if number or phone or email:
                wanted = _Wanted(number.strip().upper(), _in_e164(phone), email.strip().lower())
                for table in (contact_requests, contact_drafts):
                    for row in connection.execute(sa.select(table)):
                        if self._matches(row, wanted):
                            conversations.update(filter(None, [row.conversation_id]))
                            if table is contact_requests:
                                numbers.add(row.number)
            numbers.update(
                connection.execute(
                    sa.select(contact_requests.c.number).where(
                        contact_requests.c.conversation_id.in_(conversations)
                    )
                ).scalars()
            )
        return Found(frozenset(conversations), frozenset(numbers))

    def export(self, found: Found) -> dict[str, Any]:
        """Return all that is stored of what was found, ready for JSON; leaves a receipt."""
        with transaction(self._engine) as connection:
            requests = connection.execute(
                sa.select(contact_requests)
                .where(contact_requests.c.number.in_(found.numbers))
                .order_by(contact_requests.c.created_at)
            ).all()
            drafts = connection.execute(
                sa.select(contact_drafts)
                .where(contact_drafts.c.conversation_id.in_(found.conversations))
                .where(contact_drafts.c.sealed.isnot(None))
            ).all()
            conversations = {
                name: read_transcript(connection, name) for name in sorted(found.conversations)
            }
            result = {
                "exported_at": _iso(time.time()),
                "requests": [self._exported(connection, row) for row in requests],
                "drafts": [self._opened(row.sealed) for row in drafts],
                "conversations": conversations,
                "feedback": {
                    name: read_feedback(connection, name) for name in sorted(found.conversations)
                },
            }
            records.leave_receipt(
                connection,
                "export",
                requests=len(requests),
                drafts=len(drafts),
                events=sum(len(events) for events in conversations.values()),
            )
        return result

    def erase(self, found: Found) -> Deleted:
        """Delete all that was found; of requests the number and its times stay. Leaves a receipt.

        The office is told of each request that it may have heard of.
        """
        drafts = events = 0
        with transaction(self._engine) as connection:
            for name in found.conversations:
                drafts += records.erase_conversation(connection, name)[1]
                events += erase_transcript(connection, name)
                erase_feedback(connection, name)
                erase_channel_records(connection, name)
            for row in connection.execute(
                sa.select(contact_requests)
                .where(contact_requests.c.number.in_(found.numbers))
                .where(contact_requests.c.status != "withdrawn")
            ).all():
                records.withdraw(connection, row.number)
            deleted = Deleted(len(found.numbers), drafts, events)
            records.leave_receipt(connection, "erase", **dataclasses.asdict(deleted))
        empty_log(self._engine)
        return deleted

    def purge(self, retention: Retention) -> Deleted:
        """Delete what is older than it may be; leaves a receipt if there was anything."""
        now = time.time()
        events = self._purge_events(now - retention.transcript * _DAY)
        with transaction(self._engine) as connection:
            connection.execute(sa.delete(ended_sessions).where(ended_sessions.c.expires_at < now))
            erase_feedback_before(connection, now - retention.transcript * _DAY)
            purge_channel_records(connection, now, retention.transcript)
            deleted = Deleted(
                # Their history and their rows in the outbox go with them.
                requests=connection.execute(
                    sa.delete(contact_requests).where(is_over(retention, now))
                ).rowcount,
                drafts=connection.execute(
                    sa.delete(contact_drafts).where(contact_drafts.c.expires_at < now)
                ).rowcount,
                events=events,
            )
            if deleted:
                records.leave_receipt(connection, "purge", **dataclasses.asdict(deleted))
        if deleted:
            empty_log(self._engine)
        return deleted

    def _purge_events(self, moment: float) -> int:
        total = 0
        while True:
            with transaction(self._engine) as connection:
                count = erase_events_before(connection, moment, _BATCH)
            total += count
            if count < _BATCH:
                return total

    def _is_known(self, connection: Connection, conversation: str) -> bool:
        for table in (contact_requests, contact_drafts, channel_senders):
            query = sa.select(table).where(table.c.conversation_id == conversation)
            if connection.execute(query).first():
                return True
        return bool(read_transcript(connection, conversation))

    def _matches(self, row: Any, wanted: _Wanted) -> bool:
        if wanted.number and wanted.number == getattr(row, "number", None):
            return True
        fields = self._opened(row.sealed) if wanted.phone or wanted.email else {}
        return bool(
            (wanted.phone and fields.get("phone") == wanted.phone)
            or (wanted.email and fields.get("email", "").lower() == wanted.email)
        )

    def _exported(self, connection: Connection, row: Any) -> dict[str, Any]:
        history = connection.execute(
            sa.select(contact_status_history)
            .where(contact_status_history.c.number == row.number)
            .order_by(contact_status_history.c.id)
        )
        deliveries = connection.execute(sa.select(outbox).where(outbox.c.number == row.number))
        notes = connection.execute(
            sa.select(request_notes)
            .where(request_notes.c.number == row.number)
            .order_by(request_notes.c.id)
        )
        return {
            "number": row.number,
            "status": row.status,
            **self._opened(row.sealed),
            "notes_of_the_office": [
                {"at": _iso(note.at), **self._opened(note.sealed)} for note in notes
            ],
            "history": [{"status": step.status, "at": _iso(step.at)} for step in history],
            "told": [
                {"target": delivery.target, "about": delivery.event, "state": delivery.state}
                for delivery in deliveries
            ],
        }

    def _opened(self, sealed: str | None) -> dict[str, str]:
        if sealed is None:
            return {}
        try:
            return self._cipher.open(sealed)
        except UnreadableError as error:
            logger.error("%s", error)
            return {}


async def purge_regularly(data: PersonalData, retention: Retention) -> None:
    """Purge now and every hour, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(data.purge, retention)
        except StorageError as error:
            logger.error("What is over could not be deleted; trying again in an hour. %s", error)
        await asyncio.sleep(_HOUR)


@dataclass(frozen=True)
class _Wanted:
    number: str
    phone: str
    email: str


def _in_e164(phone: str) -> str:
    """Return a phone number as requests hold it; "" for none.

    Raises:
        ValueError: it is not a phone number.
    """
    if not phone:
        return ""
    try:
        number = phonenumbers.parse(phone, "US")
    except phonenumbers.NumberParseException:
        raise ValueError(f"'{phone}' is not a phone number.") from None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _iso(seconds: float) -> str:
    return records.moment(seconds).isoformat(timespec="seconds")
