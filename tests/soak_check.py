"""What the visitors of the soak saw, compared with what the store holds and the office got."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa
from rasa.shared.core.events import BotUttered, Event
from sqlalchemy.engine import Connection

from assistant.channels.conversation import as_messages
from assistant.contact.cipher import Cipher
from assistant.contact.inbox import Inbox
from assistant.contact.request import Request
from assistant.settings import load_settings
from assistant.storage.database import contact_drafts, ended_sessions, feedback, outbox
from assistant.storage.transcripts import read_transcript
from tests.receivers import Call
from tests.soak_visits import MARK, TIME, Conversation, Sent

_PLACE = re.compile(r"\[(?:name|reach|time|note)\]")
"""What stands in a stored answer for a word of the contact form."""


class Comparison:
    """Compares a run's conversations with the database.

    Args:
        engine: the database.
        conversations: what the visitors know of.
        calls: what the office's webhook got.

    Attributes:
        violations: what may never be, in words.
        figures: what was counted.
    """

    def __init__(
        self, engine: sa.engine.Engine, conversations: list[Conversation], calls: list[Call]
    ) -> None:
        self._engine = engine
        self._conversations = [one for one in conversations if one.conversation_id]
        self._calls = calls
        self.violations: list[str] = []
        self.figures: Counter[str] = Counter()

    def run(self) -> None:
        """Compare everything."""
        with self._engine.connect() as connection:
            known = {one.conversation_id for one in self._conversations}
            stored = connection.execute(sa.text("SELECT DISTINCT sender_id FROM events")).scalars()
            for stranger in set(stored) - known:
                self.violations.append(f"{stranger} is stored, and nobody had this conversation")
            for conversation in self._conversations:
                if conversation.deleted == "yes":
                    self._check_deleted(connection, conversation)
                elif not conversation.deleted:
                    self._check_kept(connection, conversation)
                else:
                    self.figures["conversations whose deletion got no answer"] += 1
        self._check_requests()

    def _check_kept(self, connection: Connection, conversation: Conversation) -> None:
        self.figures["conversations compared"] += 1
        events = read_transcript(connection, conversation.conversation_id)
        words = json.dumps(events)
        foreign = {mark.lower() for mark in MARK.findall(words)} - {conversation.mark}
        if foreign:
            self.violations.append(f"{conversation.mark} holds words of {foreign}")
        moments = [event["timestamp"] for event in events]
        if moments != sorted(moments):
            self.violations.append(f"{conversation.mark} has events that are out of order")
        turns = _turns(events)
        counts = Counter(message_id for message_id, _ in turns)
        for message_id, count in counts.items():
            if count > 1:
                self.violations.append(f"{message_id} stands there {count} times")
        unknown = counts.keys() - {sent.message_id for sent in conversation.sent}
        if unknown:
            self.violations.append(f"{conversation.mark} holds {unknown}, which nobody sent to it")
        places = {message_id: place for place, (message_id, _) in enumerate(turns)}
        answers = dict(turns)
        for sent in conversation.sent:
            self._check_message(conversation, sent, answers)
        self._check_order(conversation, places)

    def _check_message(
        self,
        conversation: Conversation,
        sent: Sent,
        stored: dict[str, list[dict[str, Any]]],
    ) -> None:
        is_there = sent.message_id in stored
        if sent.answer is None:
            self.figures["given up, stored" if is_there else "given up, not stored"] += 1
            return
        if sent.is_apology:
            self.figures["apologies, stored" if is_there else "apologies, not stored"] += 1
            return
        if not is_there and sent.is_advice_alone:
            self.figures["advice on a red flag given, turn not stored"] += 1
            return
        self.figures["answers compared"] += 1
        if not is_there:
            self.violations.append(f"{sent.message_id} ({sent.kind}) was answered and is lost")
            return
        kept = [message for event in stored[sent.message_id] for message in as_messages(event)]
        if not _agree(sent.answer, kept, conversation):
            self.violations.append(
                f"{sent.message_id} ({sent.kind}) was answered {sent.answer}, and the store has {kept}"
            )

    def _check_order(self, conversation: Conversation, places: dict[str, int]) -> None:
        """What was sent after an answer had come must stand behind it.

        Advice on a red flag does not wait for its turn, so a message may be sent and stored before it.
        """
        there = [
            sent
            for sent in conversation.sent
            if sent.answer and sent.message_id in places and not sent.is_advice_alone
        ]
        for before in there:
            for after in there:
                if before.answered_at <= after.due_at:
                    self.figures["pairs in order"] += 1
                    if places[before.message_id] > places[after.message_id]:
                        self.violations.append(
                            f"{before.message_id} ({before.kind}) stands behind "
                            f"{after.message_id} ({after.kind})"
                        )

    def _check_deleted(self, connection: Connection, conversation: Conversation) -> None:
        self.figures["conversations deleted"] += 1
        name = conversation.conversation_id
        events = read_transcript(connection, name)
        if events:
            self.violations.append(f"{conversation.mark} was deleted and has {len(events)} events")
        for table in (contact_drafts, feedback):
            if connection.execute(sa.select(table).where(table.c.conversation_id == name)).first():
                self.violations.append(f"{conversation.mark} was deleted but for its {table.name}")
        over = sa.select(ended_sessions).where(ended_sessions.c.conversation_id == name)
        if not connection.execute(over).first():
            self.violations.append(f"{conversation.mark} was deleted and its session is not over")

    def _check_requests(self) -> None:
        requests = Inbox(self._engine, Cipher(load_settings().contact_keys)).requests()
        by_number = {request.receipt.number: request for request in requests}
        if len(by_number) != len(requests):
            self.violations.append("two requests have the same number")
        confirmed = {one.number: one for one in self._conversations if one.number}
        for number, conversation in confirmed.items():
            self.figures["bookings confirmed"] += 1
            if number not in by_number:
                self.violations.append(f"{number} of {conversation.mark} was confirmed and is lost")
            elif not conversation.deleted:
                self._check_request(by_number[number], conversation)
            elif conversation.deleted == "yes":
                self.figures["bookings withdrawn by deleting the chat"] += 1
                if by_number[number].receipt.status != "withdrawn":
                    self.violations.append(f"{number} was deleted and is not withdrawn")
        owners = Counter(request.conversation_id for request in requests)
        for name, count in owners.items():
            if name and count > 1:
                self.violations.append(f"{name} has {count} requests")
        self._check_unconfirmed(set(by_number) - set(confirmed), by_number)
        self._check_deliveries(by_number)

    def _check_request(self, request: Request, conversation: Conversation) -> None:
        wanted = (conversation.name, conversation.email, TIME, conversation.note)
        wishes = request.wishes
        found = wishes and (wishes.name, wishes.email, wishes.preferred_time, wishes.note)
        gave_up = any(sent.answer is None for sent in conversation.sent)
        right = found == wanted or (gave_up and all(_is_own(w, conversation) for w in found or ()))
        if not found or not right or request.receipt.status != "new":
            self.violations.append(f"{request.receipt.number} holds {found}, not {wanted}")
        if request.conversation_id != conversation.conversation_id:
            self.violations.append(f"{request.receipt.number} is tied to another conversation")

    def _check_unconfirmed(self, numbers: set[str], by_number: dict[str, Request]) -> None:
        """A request that nobody saw confirmed is one of whose confirmation there was no answer."""
        conversations = {one.conversation_id: one for one in self._conversations}
        for number in numbers:
            self.figures["bookings stored, confirmation not seen"] += 1
            owner = conversations.get(by_number[number].conversation_id)
            if owner and all(
                sent.answer and not sent.is_apology
                for sent in owner.sent
                if sent.kind == "confirmation"
            ):
                self.violations.append(f"{number} is stored, and its visitor was told otherwise")

    def _check_deliveries(self, by_number: dict[str, Request]) -> None:
        arrived: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for call in self._calls:
            body = json.loads(call.body)
            arrived[body["data"]["number"], body["type"]][call.headers["webhook-id"]] += 1
        for (number, event), ids in arrived.items():
            self.figures["deliveries"] += ids.total()
            self.figures["deliveries again"] += ids.total() - len(ids)
            if len(ids) > 1:
                self.violations.append(f"{number} was told ({event}) under {len(ids)} ids")
            if number not in by_number:
                self.violations.append(f"{number} was told to the office and is not stored")
        told = {number for number, _ in arrived}
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(outbox)).all()
        for row in rows:
            if row.state != "delivered":
                self.violations.append(f"{row.number} ({row.event}) is {row.state} in the outbox")
            elif row.message_id not in {one for ids in arrived.values() for one in ids}:
                self.violations.append(f"{row.number} ({row.event}) did not arrive")
        for number, request in by_number.items():
            if request.receipt.status == "new" and number not in told:
                self.violations.append(f"{number} was never told to the office")


def _turns(events: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the ids of the visitor's messages, each with the assistant's messages that follow."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for stored in events:
        if stored["event"] == "user":
            found.append((str(stored.get("message_id")), []))
            continue
        event = Event.from_parameters(stored)
        if isinstance(event, BotUttered):
            found[-1][1].append(event.message())
    return found


def _agree(
    seen: list[dict[str, Any]], kept: list[dict[str, Any]], conversation: Conversation
) -> bool:
    """Whether a visitor saw what is stored, in which places stand for the words of the form.

    Behind a message that was given up, the form may have taken a question for a name or a note. What
    it shows is this visitor's in any case: each word carries the conversation's mark.
    """
    return len(seen) == len(kept) and all(
        {**one, "text": ""} == {**other, "text": ""}
        and _is_filled(one["text"], other["text"], conversation)
        for one, other in zip(seen, kept, strict=True)
    )


def _is_filled(shown: str, stored: str, conversation: Conversation) -> bool:
    if shown == stored:  # an answer that was asked for again, from the store
        return True
    parts = _PLACE.split(stored)
    pattern = "(.+?)".join(re.escape(part) for part in parts)
    match = re.fullmatch(pattern, shown, re.DOTALL)
    return match is not None and all(_is_own(word, conversation) for word in match.groups())


def _is_own(word: str | None, conversation: Conversation) -> bool:
    """Whether a word of the form is this visitor's; what all say alike is everybody's."""
    return word in (TIME, None) or conversation.mark in str(word).lower()
