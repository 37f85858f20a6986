"""What holds in every messaging channel beside the conversation itself.

Who writes for the first time is told whom they write to and what is kept. Some words act at once:
those of the carrier, a private chat, erasing everything.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import phonenumbers
from rasa.core.channels.channel import UserMessage
from sqlalchemy.engine import Engine

from assistant.channels.conversation import TROUBLE, Message, as_messages, converse, notice
from assistant.channels.message_text import LONGEST_MESSAGE, UnreadableTextError, clean
from assistant.channels.messaging.inbound import Changes, Claim, Waiting
from assistant.channels.messaging.menus import MenuBook, Menus
from assistant.contact.desk import contact_desk
from assistant.content.office import OfficeFileError, load_office
from assistant.safety.advice import advice_for
from assistant.safety.counter import RedFlagCounter
from assistant.settings import Settings, office_file
from assistant.storage.channel_records import erase_channel_records
from assistant.storage.database import empty_log, in_thread, transaction
from assistant.storage.feedback import erase_feedback
from assistant.storage.private_conversations import PRIVATE

logger = logging.getLogger(__name__)

CARRIER_WORDS = frozenset(
    [
        "stop",
        "stopall",
        "unsubscribe",
        "cancel",
        "end",
        "quit",
        "revoke",
        "optout",
        "help",
        "info",
        "start",
        "unstop",
    ]
)
"""What a carrier or Twilio answers itself on SMS, if a message holds nothing else.

https://help.twilio.com/articles/223134027 names them. After STOP it takes no message from us, and
after HELP ours would be a second answer. "YES" is among its words, too, but only means "start" after
a STOP; here it answers questions.
"""

ONLY_TEXT = (
    "I can only read text: no pictures, voice messages or files. Please type your question. "
    "In an emergency, call 911."
)
OLD_BUTTON = "That button is from an earlier answer and does not work any more. Please type it."
TOO_LONG = (
    f"That is more than I can read at once. Please ask again in {LONGEST_MESSAGE} characters or "
    "fewer. In an emergency, call 911."
)
UNREADABLE = "I could not read that. Please type it again."

_PRIVATE_WORDS = re.compile(
    r"(?:please )?(?:(?:start|begin|open|make this) (?:an? )?)?private(?: (?:chat|mode|conversation))?"
)
_PUBLIC_WORDS = re.compile(
    r"(?:please )?(?:end|stop|leave|exit|close) (?:the |this )?private(?: (?:chat|mode|conversation))?"
)
_ERASE_WORDS = re.compile(
    r"(?:please )?(?:erase|delete|remove|forget) (?:all )?(?:of )?(?:my|this|the|our)"
    r"(?: own| personal| entire| whole)? (?:data|chat|conversation|messages|chat history|history)"
    r"(?: please| now)?"
)
_PRIVATE_SECONDS = 30 * 24 * 3600.0  # who wants no chat kept means the one of tomorrow, too
_TRIES = 3  # of a conversation that cannot be answered, before the sender gets an apology

_WORDINGS = (  # of the web chat, and what holds here
    (
        "A chat that you did not save is stored nowhere. If you saved it, it is kept on the "
        "office's own server. So you see it again after a reload.",
        'This chat is kept on the office\'s own server, unless you write "private chat".',
    ),
    ("If you saved this chat, it is kept", "This chat is kept"),
    ('Choose "Delete this chat" in this web chat.', 'Write "erase my data" here.'),
    ('"Delete this chat"', '"Erase my data"'),
)

Handle = Callable[[UserMessage], Awaitable[Any]]


class NotAnsweredError(Exception):
    """The conversation could not be answered just now; the message is to be tried again."""


@dataclass(frozen=True)
class Answer:
    """What answers a message: nothing, if the carrier does; and what changes about the sender."""

    messages: list[Message]
    changes: Changes = field(default_factory=Changes)


def for_channel(messages: Sequence[Message], channel: str) -> list[Message]:
    """Return messages without the words that are true of the web chat alone.

    On SMS no choice is named by a word of the carrier: who typed "Cancel" would unsubscribe.
    """

    def button(given: dict[str, str]) -> dict[str, str]:
        if channel == "sms" and given["title"].lower() in CARRIER_WORDS:
            return {**given, "title": f"{given['title']} it"}
        return given

    return [
        {
            **message,
            "text": _worded(message.get("text", "")),
            "buttons": [button(given) for given in message.get("buttons") or []],
        }
        for message in messages
    ]


class ConversationRules:
    """Answers a message of any channel.

    Args:
        agent: Rasa's agent, loaded.
        engine: the database.
        menus: what was offered to each sender.
        settings: how long an answer may take, how long chats are kept.
    """

    def __init__(self, agent: Any, engine: Engine, menus: MenuBook, settings: Settings) -> None:
        self._agent = agent
        self._engine = engine
        self._menus = menus
        self._settings = settings
        self._red_flags = RedFlagCounter(engine)

    async def answer(self, claim: Claim, waiting: Waiting, channel: str) -> Answer:
        """Return what answers a message.

        Args:
            claim: the sender.
            waiting: the message.
            channel: where it came from.

        Raises:
            NotAnsweredError: it is to be tried again.
            StorageError: likewise.
        """
        incoming = waiting.incoming
        if channel == "sms" and incoming.text.strip().lower() in CARRIER_WORDS:
            return Answer([])
        name = waiting.private_id or claim.conversation_id
        menus = await in_thread(self._menus.read, name)
        text, problem = _read(waiting, menus)
        typed = text == incoming.text.strip() and not incoming.choice
        plain = re.sub(r"[^\w ]", "", text).strip().lower() if typed else ""
        if problem:
            answer = Answer(_urgent(incoming.text) or notice(problem))
        elif _ERASE_WORDS.fullmatch(plain):
            answer = await self._erase(claim, waiting)
        elif _PRIVATE_WORDS.fullmatch(plain):
            answer = _private(waiting)
        elif waiting.private_id and _PUBLIC_WORDS.fullmatch(plain):
            answer = Answer(notice(PUBLIC), Changes(private_id=""))
        else:
            answer = Answer(await self._converse(name, text, waiting, channel))
        if problem:
            self._red_flags.count(incoming.text, answer.messages)
        return self._with_first_words(waiting, channel, answer)

    async def _converse(
        self, name: str, text: str, waiting: Waiting, channel: str
    ) -> list[Message]:
        messages = await converse(
            self._agent.handle_message,
            name,
            text,
            self._settings.answer_seconds,
            waiting.key,
            channel,
        )
        if messages == notice(TROUBLE) and waiting.attempts < _TRIES:
            raise NotAnsweredError
        self._red_flags.count(text, messages)
        return for_channel(_with_phone(messages, waiting.incoming.phone), channel)

    async def _erase(self, claim: Claim, waiting: Waiting) -> Answer:
        """Erase all that is kept of a sender, as the web chat's own button does.

        Raises:
            StorageError: the sender is told nothing yet, and it is tried again.
        """
        names = [name for name in (claim.conversation_id, waiting.private_id) if name]
        for name in names:
            async with self._agent.lock_store.lock(name):
                await in_thread(contact_desk().erase, name)
                await self._agent.tracker_store.erase(name)
                await in_thread(self._forget, name)
        await in_thread(empty_log, self._engine)
        return Answer(notice(ERASED), Changes(disclosed=False, private_id=""))

    def _forget(self, name: str) -> None:
        with transaction(self._engine) as connection:
            erase_feedback(connection, name)
            erase_channel_records(connection, name)
            self._menus.forget(connection, name)

    def _with_first_words(self, waiting: Waiting, channel: str, answer: Answer) -> Answer:
        """Put the channel's first words before the first answer, but after advice on a red flag."""
        erased = answer.changes.disclosed is False
        until = time.time() + _PRIVATE_SECONDS
        changes = Changes(
            disclosed=False if erased else True if not waiting.disclosed else None,
            private_id=answer.changes.private_id,
            private_until=until,
        )
        if waiting.disclosed or erased:
            return Answer(answer.messages, changes)
        first = notice(first_words(channel, self._settings.transcript_days))
        urgent = [m for m in answer.messages if m["metadata"].get("urgency")]
        rest = [m for m in answer.messages if not m["metadata"].get("urgency")]
        return Answer([*urgent, *first, *rest], changes)


def first_words(channel: str, transcript_days: float) -> str:
    """Return what somebody is told who writes for the first time."""
    try:
        facts = load_office(office_file()).facts(dt.datetime.now(dt.timezone.utc))
    except OfficeFileError as error:
        logger.error("The first words name no office: %s", error)
        facts = {}
    whose = f"of {facts['name']}" if facts.get("name") else "of the acupuncture office"
    lines = [
        f"Hi, this is the automated assistant {whose}. I'm a bot, not a person, and I can't give "
        "medical advice. In an emergency, call 911.",
        f"This chat is kept on the office's own server for {transcript_days:g} days, without phone "
        'numbers and e-mail addresses. Write "private chat" and it is not kept, or "erase my data" '
        "to erase it.",
    ]
    if facts.get("privacy_url"):
        lines.append(f"Privacy: {facts['privacy_url']}")
    if channel == "sms":
        lines.append("Reply STOP to get no more texts, HELP for help.")
    return "\n".join(lines)


PRIVATE_BEGUN = (
    'This is a private chat now, until you write "end private chat". It is not kept, and I forget '
    "what was said two hours after your last message. The app that you write with may keep its own "
    "copy. "
    "A request to the office is kept only if you say yes to it."
)
PUBLIC = "The private chat is over and forgotten. From here on this chat is kept again."
ERASED = (
    "Done. Everything that I kept of this chat is erased, and a request that you sent from here is "
    "taken back. The app that you write with may keep its own copy."
)


def _private(waiting: Waiting) -> Answer:
    name = waiting.private_id or f"{PRIVATE}{secrets.token_hex(16)}"
    return Answer(notice(PRIVATE_BEGUN), Changes(private_id=name))


def _read(waiting: Waiting, menus: Menus) -> tuple[str, str]:
    """Return what a message says, and a sentence instead if that cannot be known."""
    incoming = waiting.incoming
    if incoming.choice:
        offer = menus.pressed(incoming.choice)
        if offer is not None:
            return clean(offer.payload), ""
        if not incoming.text:
            return "", OLD_BUTTON
    if incoming.unreadable and not incoming.text.strip():
        return "", ONLY_TEXT
    try:
        text = clean(incoming.text)
    except UnreadableTextError:
        return "", UNREADABLE
    if len(text) > LONGEST_MESSAGE:
        return "", TOO_LONG
    offer = menus.named(text)
    return (clean(offer.payload) if offer else text), ""


def _urgent(text: str) -> list[Message]:
    """Return the advice on a red flag in a text that cannot be answered otherwise."""
    return as_messages(advice_for(text) or {})


def _with_phone(messages: list[Message], phone: str) -> list[Message]:
    """Offer the number that the channel knows where the contact form asks for one.

    It is a button: only who chooses it gives that number to the office.
    """
    asking = [message for message in messages if message["metadata"].get("asks") == "reach"]
    if not phone or not asking or asking[-1]["buttons"]:
        return messages
    try:
        number = phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        return messages
    if not phonenumbers.is_valid_number(number):
        return messages  # the form would not take it
    shape = (
        phonenumbers.PhoneNumberFormat.NATIONAL
        if number.country_code == 1
        else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    )
    shown = phonenumbers.format_number(number, shape)
    button = {"title": f"Use {shown}", "payload": shown}
    return [
        {**message, "buttons": [button]} if message is asking[-1] else message
        for message in messages
    ]


def _worded(text: str) -> str:
    for theirs, ours in _WORDINGS:
        text = text.replace(theirs, ours)
    return text
