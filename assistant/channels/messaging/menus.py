"""The choices that were offered to a sender: numbers, words and presses lead back to them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from cachetools import TTLCache
from rapidfuzz import fuzz
from sqlalchemy.engine import Connection, Engine

from assistant.contact.cipher import Cipher, UnreadableError
from assistant.storage.database import channel_menus, connected
from assistant.storage.private_conversations import is_private

_SECONDS = 24 * 3600.0  # a menu's life
_MOST_MENUS = 8  # of one sender; buttons further up in a chat have no meaning any more
_MOST_PRIVATE = 5_000  # senders
_ALIKE = 88.0  # of 100; "parkng" is like "Parking", "Send" is not like "Sent it"
_SHORTEST = 4  # letters; shorter words are too much like others
_NUMBER = re.compile(r"(?:option|number|choice|no\.?|#)?\s*(\d{1,2})\s*[.):]?", re.IGNORECASE)


@dataclass(frozen=True)
class Offer:
    """A choice that was offered.

    Attributes:
        id: what a press of its button brings back.
        title: what was shown.
        payload: what it says to the assistant; never shown.
        number: in a numbered list; 0 for a button.
    """

    id: str
    title: str
    payload: str
    number: int = 0


@dataclass(frozen=True)
class Menus:
    """What was offered to one sender, the newest first. A turn without choices counts as one."""

    newest_first: tuple[tuple[Offer, ...], ...] = ()

    def pressed(self, choice_id: str) -> Offer | None:
        """Return the choice of a button; None if it is unknown or too old."""
        for menu in self.newest_first:
            for offer in menu:
                if offer.id == choice_id:
                    return offer
        return None

    def named(self, text: str) -> Offer | None:
        """Return the choice of the newest menu that a text names by number or title.

        Older menus don't count: in the contact form a bare number may be part of the answer.
        """
        newest = self.newest_first[0] if self.newest_first else ()
        number = _NUMBER.fullmatch(text.strip())
        if number:
            wanted = int(number.group(1))
            return next((offer for offer in newest if offer.number == wanted), None)
        plain = _plain(text)
        for offer in newest:
            if plain == _plain(offer.title):
                return offer
        if len(plain) < _SHORTEST:
            return None
        alike = [(fuzz.ratio(plain, _plain(offer.title)), offer) for offer in newest]
        best = max(alike, key=lambda pair: pair[0], default=(0.0, None))
        return best[1] if best[0] >= _ALIKE else None


class MenuBook:
    """Keeps menus for a day: encrypted in the database, those of private chats in memory.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it.
    """

    def __init__(self, engine: Engine, cipher: Cipher) -> None:
        self._engine = engine
        self._cipher = cipher
        self._private: TTLCache[str, Menus] = TTLCache(_MOST_PRIVATE, _SECONDS)

    def read(self, conversation_id: str) -> Menus:
        """Return what was offered in a conversation."""
        if is_private(conversation_id):
            return self._private.get(conversation_id, Menus())
        with connected(self._engine) as connection:
            return self._read(connection, conversation_id)

    def add(self, connection: Connection, conversation_id: str, menu: Sequence[Offer]) -> None:
        """Keep the choices of a turn; none are kept too, so that numbers mean nothing then."""
        if is_private(conversation_id):
            before = self._private.get(conversation_id, Menus())
            self._private[conversation_id] = _with(before, menu)
            return
        before = self._read(connection, conversation_id)
        if not menu and not before.newest_first:
            return
        menus = _with(before, menu)
        text = json.dumps([[asdict(offer) for offer in part] for part in menus.newest_first])
        self.forget(connection, conversation_id)
        connection.execute(
            sa.insert(channel_menus).values(
                conversation_id=conversation_id,
                sealed=self._cipher.seal({"menus": text}),
                expires_at=time.time() + _SECONDS,
            )
        )

    def forget(self, connection: Connection, conversation_id: str) -> None:
        """Delete what was offered in a conversation."""
        self._private.pop(conversation_id, None)
        connection.execute(
            sa.delete(channel_menus).where(channel_menus.c.conversation_id == conversation_id)
        )

    def _read(self, connection: Connection, conversation_id: str) -> Menus:
        row = connection.execute(
            sa.select(channel_menus.c.sealed)
            .where(channel_menus.c.conversation_id == conversation_id)
            .where(channel_menus.c.expires_at > time.time())
        ).first()
        if row is None:
            return Menus()
        try:
            menus = json.loads(self._cipher.open(row.sealed)["menus"])
        except UnreadableError:
            return Menus()  # the key is gone; the sender uses words instead
        return Menus(tuple(tuple(Offer(**offer) for offer in menu) for menu in menus))


def _with(menus: Menus, menu: Sequence[Offer]) -> Menus:
    return Menus((tuple(menu), *menus.newest_first)[:_MOST_MENUS])


def _plain(text: str) -> str:
    return re.sub(r"[^\w ]+", "", text.casefold()).strip()
