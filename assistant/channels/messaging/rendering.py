"""The assistant's messages as a platform can show them: split, numbered, plain, nothing lost.

The bubbles of one turn are put together as far as they fit: each message costs money on SMS, and no
platform promises that many arrive in order.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

from assistant.channels.conversation import Message
from assistant.channels.messaging.menus import Offer
from assistant.channels.messaging.platform import Choice, Limits, Outgoing

HOW_TO_CHOOSE = "Reply with a number."
_LINK = re.compile(r"\[([^\]\n]+)\]\(((?:https?|tel|mailto):[^)\s]+)\)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*|(?<![\w*])\*([^*\s](?:[^*\n]*[^*\s])?)\*(?![\w*])")
_WHOLE = re.compile(
    r"https?://\S+|[\w.+-]+@[\w.-]+\.\w+"
    r"|(?<!\w)(?:\+?\d{1,3}[ .-]?)?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\w)"
)
"""Addresses and phone numbers: nothing is split inside."""

_SENTENCE = re.compile(r"(?<=[.!?])(?=\s)|(?<=[.!?][\"')”])(?=\s)")
_JOINT = "\x00"  # stands for a space that may not be split at


@dataclass(frozen=True)
class Rendered:
    """What is to be sent, in order, and what its choices mean."""

    parts: tuple[Outgoing, ...]
    menu: tuple[Offer, ...]


def length(text: str) -> int:
    """Return the length as platforms count it: in UTF-16 units, an emoji is two."""
    return len(text.encode("utf-16-le")) // 2


def render(messages: Iterable[Message], limits: Limits, public_url: str = "") -> Rendered:
    """Return messages within the limits of a platform.

    What has an urgency comes first. Nothing is left out but the buttons that dial, whose numbers
    then stand in the text.

    Args:
        messages: of the web chat contract.
        limits: the platform's.
        public_url: put before addresses of images that are the server's own.
    """
    pile = _Pile(limits)
    for message in _urgent_first(messages):
        buttons, dialled = _buttons(message)
        text = "\n".join([plain(message.get("text", "")), *dialled, *_sources(message)]).strip()
        image = message.get("image", "")
        if image:
            pile.picture(urljoin(f"{public_url}/", image), text)
        elif text:
            pile.text(text)
        if buttons:
            pile.choices(buttons)
    return pile.rendered()


def plain(text: str) -> str:
    """Return text without Markdown: a link becomes its words and its address."""

    def link(match: re.Match[str]) -> str:
        words, address = match.groups()
        shown = address.removeprefix("tel:").removeprefix("mailto:")
        return shown if words.strip() == shown else f"{words}: {shown}"

    return _BOLD.sub(lambda match: match.group(1) or match.group(2), _LINK.sub(link, text))


def split(text: str, most: int) -> list[str]:
    """Return a text in parts of a greatest length: at paragraphs, lines, sentences, then words.

    Addresses and phone numbers stay whole, unless one alone is longer than that.
    """
    joined = _WHOLE.sub(lambda match: re.sub(r"\s", _JOINT, match.group()), text.strip())
    parts = _split(joined, most, [r"\n\s*\n", r"\n", _SENTENCE.pattern, r"[ \t]+"])
    return [part.replace(_JOINT, " ") for part in parts]


def _split(text: str, most: int, levels: Sequence[str]) -> list[str]:
    if length(text) <= most:
        return [text] if text else []
    if not levels:
        return _cut(text, most)
    parts: list[str] = []
    for gap, piece in _pieces(text, levels[0]):
        if parts and length(parts[-1] + gap + piece) <= most:
            parts[-1] += gap + piece
        else:
            parts.extend(_split(piece, most, levels[1:]))
    return parts


def _pieces(text: str, separator: str) -> Iterable[tuple[str, str]]:
    """Return the pieces between separators, each with the white space before it."""
    gap, start = "", 0
    for match in re.finditer(separator, text):
        if match.start() <= start:
            continue
        yield gap, text[start : match.start()]
        rest = text[match.start() :]
        gap = rest[: len(rest) - len(rest.lstrip())]
        start = match.start() + len(gap)
    yield gap, text[start:]


def _cut(text: str, most: int) -> list[str]:
    parts = [""]
    for character in text:
        if length(parts[-1] + character) > most:
            parts.append("")
        parts[-1] += character
    return parts


class _Pile:
    """Puts a turn together, part by part."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[Outgoing] = []
        self._open = False  # whether more text may be added to the last part
        self._menu: list[Offer] = []
        self._numbered = 0

    def text(self, text: str) -> None:
        """Add a paragraph."""
        if self._open:
            together = f"{self._parts[-1].text}\n\n{text}"
            if length(together) <= self._limits.text:
                self._parts[-1] = Outgoing(together)
                return
        self._parts.extend(Outgoing(part) for part in split(text, self._limits.text))
        self._open = True

    def picture(self, address: str, text: str) -> None:
        """Add a picture; its text says what it shows."""
        if not self._limits.images or not address.startswith("https://"):
            self.text(
                "\n".join(filter(None, [text, address if address.startswith("http") else ""]))
            )
            return
        first, *rest = split(text, self._limits.text) or [""]
        self._parts.append(Outgoing(first, image=address, image_text=first))
        self._open = False
        for part in rest:
            self.text(part)

    def choices(self, buttons: Sequence[tuple[str, str]]) -> None:
        """Offer choices under the last text, as buttons if they fit there."""
        limits = self._limits
        fit = len(buttons) <= limits.choices and all(
            length(title) <= limits.choice_title for title, _ in buttons
        )
        if not fit:
            self._list(buttons)
            return
        offers = [Offer(_new_id(limits), title, payload) for title, payload in buttons]
        if not self._open:
            self._parts.append(Outgoing("Please choose:"))
        text = self._parts.pop().text
        last = split(text, limits.text_with_choices)[-1]
        if before := text.removesuffix(last).rstrip():
            self._parts.append(Outgoing(before))
        self._parts.append(Outgoing(last, tuple(Choice(o.id, o.title) for o in offers)))
        self._menu.extend(offers)
        self._open = False

    def _list(self, buttons: Sequence[tuple[str, str]]) -> None:
        lines = []
        for title, payload in buttons:
            self._numbered += 1
            self._menu.append(Offer(_new_id(self._limits), title, payload, self._numbered))
            lines.append(f"{self._numbered}. {title}")
        self.text("\n".join([*lines, HOW_TO_CHOOSE]))

    def rendered(self) -> Rendered:
        return Rendered(tuple(self._parts), tuple(self._menu))


def _new_id(limits: Limits) -> str:
    """Return an id that nobody can guess and that tells nothing."""
    room = (limits.choice_id or 32) // 2
    return secrets.token_hex(min(room, 12))


def _urgent_first(messages: Iterable[Message]) -> list[Message]:
    return sorted(messages, key=lambda message: not message.get("metadata", {}).get("urgency"))


def _buttons(message: Message) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the buttons as title and payload, and a line for each that dials a number."""
    buttons, dialled = [], []
    for button in message.get("buttons") or []:
        title, payload = plain(button["title"]).strip(), button["payload"]
        if not payload.startswith("tel:"):
            buttons.append((title, payload))
        elif payload.removeprefix("tel:") not in message.get("text", ""):
            dialled.append(f"{title}.")
    return buttons, dialled


def _sources(message: Message) -> list[str]:
    """Return a line with what an answer rests on; "Where does that come from?" gets the addresses."""
    metadata = message.get("metadata") or {}
    labels = [source["label"] for source in metadata.get("sources") or [] if source.get("url")]
    if not labels or metadata.get("urgency"):
        return []
    return [f"Sources: {', '.join(dict.fromkeys(labels))}"]
