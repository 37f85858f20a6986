"""What a message means at a step of the contact form. Pure: text in, meaning out."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from actions.contact_form import phrases
from actions.contact_form.person_name import is_everyday, is_introduced, read_name
from actions.contact_form.preferred_time import read_time
from actions.contact_form.reach import Reach, find_reach
from actions.contact_form.steps import CONSENT, DECISION, NAME, NOTE, REACH, RESUMES, TIME

LONGEST_NOTE = 500  # characters

_SHORT = 6  # words; a longer message that speaks of going back or changing something is an answer
_FALLBACK = "nlu_fallback"

_COURTESIES = {"greet", "thank", "repeat", "book", "affirm", "deny", "maybe", "follow_up"}
_OUTSIDE = "out_of_scope"
_CORRECTION = re.compile(
    r"\b(?:actually|instead|rather|correction|new (?:number|phone|e-?mail)|"
    r"my (?:\w+ )?(?:number|phone|cell|mobile|e-?mail(?: address)?) is|(?:call|text|reach|e-?mail) me)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Message:
    """A visitor's message: its text, and what it was understood as without the form.

    What the pipeline is not sure of has the intent `nlu_fallback`.
    """

    text: str
    intent: str = _FALLBACK

    @classmethod
    def of(cls, latest: dict[str, Any]) -> Message:
        """Make it from a tracker's latest message."""
        intent = latest.get("intent") or {}
        return cls(str(latest.get("text") or ""), str(intent.get("name") or _FALLBACK))

    @property
    def is_sure_topic(self) -> bool:
        """Whether it asks for something that the assistant has an answer to."""
        return self.intent not in (_COURTESIES | RESUMES | {_FALLBACK, _OUTSIDE})


@dataclass(frozen=True)
class Reading:
    """What a message means at a step.

    Attributes:
        kind: `aside` (the rules answer), `answer` (takes `values`), `cancel`, `decline`, `minor`,
            `back`, `why`, `change`, `send`, `ask_again`, or `miss`.
        values: fields of the draft that it gives, as the draft holds them.
        asks_too: whether it also holds a question, which the rules are to answer.
        detail: for `miss` how to ask again, if there is a better way than usual (`phone`, `email`,
            `why`), for `change` the field.
    """

    kind: str
    values: dict[str, str] = field(default_factory=dict)
    detail: str = ""
    asks_too: bool = False


def read(message: Message, step: str) -> Reading:
    """Return what a message means when the form has just asked for a step."""
    text, intent = message.text, message.intent
    if intent == "safety":
        return Reading("aside")
    if phrases.is_minor(text):
        return Reading("minor")
    if phrases.is_cancel(text):
        return Reading("cancel")
    if step == CONSENT:
        return _consent(message)
    reach = find_reach(text)
    if phrases.is_why(text) and not reach.given:
        return Reading("why")
    is_short = not reach.given and len(text.split()) <= _SHORT
    if phrases.is_back(text) or (intent == "go_back" and is_short):
        return Reading("back")
    changed = phrases.field_to_change(text)
    if changed and not reach.given and (step != NOTE or is_short):
        return Reading("change", detail=changed)
    reading = {
        NAME: _name, REACH: _reach, TIME: _time, NOTE: _note, DECISION: _decision,
    }[step](message, reach)  # fmt: skip
    if reading.kind == "answer" and step in (NAME, REACH):
        return dataclasses.replace(reading, asks_too=_asks_too(message, reach))
    if reading.kind != "miss" or reading.detail:
        return reading
    if intent in ("cancel", "goodbye"):
        return Reading("cancel")
    no_answers = _COURTESIES - {"deny"}
    if step != NAME:
        no_answers -= {"book"}  # "just call me" needs a number
    return Reading("ask_again") if intent in no_answers else reading


def _consent(message: Message) -> Reading:
    text = message.text
    if phrases.is_why(text):
        return Reading("why")
    if not text.rstrip().endswith("?"):
        if phrases.is_yes(text) or message.intent == "affirm":
            return Reading("answer", _several(text, name_asked=find_reach(text).given))
        if phrases.is_no(text) or message.intent in ("deny", "cancel", "goodbye"):
            return Reading("decline")
    return _aside_or(message, Reading("ask_again" if message.intent in _COURTESIES else "miss"))


def _name(message: Message, _: Reach) -> Reading:
    if phrases.is_about_child(message.text):
        return Reading("ask_again")
    values = _several(message.text, name_asked=True)
    name = values.get("name", "")
    if name and not is_introduced(message.text) and message.is_sure_topic and is_everyday(name):
        return Reading("aside")  # "parking" looks like a name, "Park" is one
    if values:
        return Reading("answer", values)
    if phrases.is_skip(message.text):
        return Reading("miss", detail="why")
    return _aside_or(message, Reading("miss"))


def _reach(message: Message, reach: Reach) -> Reading:
    if reach.given:
        return Reading("answer", _several(message.text, name_asked=False))
    if reach.wrong:
        return Reading("miss", detail=reach.wrong)
    if is_introduced(message.text) and (name := read_name(message.text)):
        return Reading("answer", {"name": name})
    if phrases.is_skip(message.text):
        return Reading("miss", detail="why")
    return _aside_or(message, Reading("miss"))


def _time(message: Message, reach: Reach) -> Reading:
    values = _correction(message.text, reach)
    when = read_time(reach.rest)
    if when and (not phrases.is_question(message.text) or _is_proposal(message)):
        return Reading("answer", {**values, "preferred_time": when})
    if values:
        return Reading("answer", values)
    if phrases.is_skip(message.text):
        return Reading("answer", {"preferred_time": "Any time"})
    return _aside_or(message, Reading("miss"))


def _note(message: Message, reach: Reach) -> Reading:
    text = message.text
    if phrases.is_skip(text):
        return Reading("answer", {"note": ""})
    if (reach.given or is_introduced(text)) and (values := _correction(text, reach)):
        return Reading("answer", values)
    if phrases.is_question(text) and (message.is_sure_topic or message.intent == _OUTSIDE):
        return Reading("aside")
    if len(text.split()) == 1 and message.intent in _COURTESIES:
        return Reading("miss")
    return Reading("answer", {"note": text[:LONGEST_NOTE].strip()})


def _decision(message: Message, reach: Reach) -> Reading:
    text = message.text
    if values := _correction(text, reach):
        return Reading("answer", values)
    if phrases.is_change(text) or phrases.named_field(text):
        return Reading("change", detail=phrases.named_field(text))
    if phrases.is_question(text):
        return _aside_or(message, Reading("miss"))
    if when := read_time(text):
        return Reading("answer", {"preferred_time": when})
    if phrases.is_send(text) or phrases.is_yes(text) or message.intent == "affirm":
        return Reading("send")
    if phrases.is_no(text) or message.intent == "deny":
        return Reading("change")
    return _aside_or(message, Reading("miss"))


def _asks_too(message: Message, reach: Reach) -> bool:
    """Whether an answer comes with a question: "I'm Ana. Do you take insurance?"."""
    parts = re.split(r"(?<=[.!?,;])\s+|\n+", reach.rest)
    return message.is_sure_topic and any(
        phrases.is_question(part) and not _CORRECTION.search(part) for part in parts
    )


def _aside_or(message: Message, otherwise: Reading) -> Reading:
    """Leave a question, or a sure topic, to the rules."""
    if phrases.is_question(message.text) and message.intent not in _COURTESIES:
        return Reading("aside")
    if message.is_sure_topic and message.intent not in ("cancel", "goodbye"):
        return Reading("aside")
    return otherwise


def _is_proposal(message: Message) -> bool:
    """Whether a question proposes a time: "Could I come Tuesday at 3?", "Tuesday at 3?"."""
    if message.intent == "book":
        return True
    opener = re.match(
        r"(?:could|can|may) (?:i|we)\b|(?:how|what) about\b", phrases.plain(message.text)
    )
    return bool(opener) or (
        bool(re.fullmatch(r"[\w\s:]{1,30}\?", message.text.strip()))
        and not (phrases.is_question(message.text.strip().rstrip("?")))
    )


def _correction(text: str, reach: Reach) -> dict[str, str]:
    """Return what a message corrects of what was said before: "actually my number is ..."."""
    values: dict[str, str] = {}
    if reach.given and (_CORRECTION.search(text) or not reach.rest.strip(" \n,.")):
        values.update(_ways(reach))
    if is_introduced(text) and (name := read_name(text)):
        values["name"] = name
    return values


def _several(text: str, name_asked: bool) -> dict[str, str]:
    """Return every field that a message gives: "Ana, 818 555 0134, mornings".

    Args:
        text: the message.
        name_asked: whether words alone may be a name; otherwise they must say so.
    """
    reach = find_reach(text)
    values = _ways(reach)
    times = []
    for part in re.split(r"[,;\n]+|(?<=\w{3})[.!]\s+", reach.rest):
        if not part.strip():
            continue
        when = read_time(part)
        name = read_name(part) if is_introduced(part) or (name_asked and not when) else ""
        if name:
            values.setdefault("name", name)
        elif when:
            times.append(when)
    if times and not phrases.is_question(text):
        values["preferred_time"] = ", ".join(
            [times[0], *(t[:1].lower() + t[1:] for t in times[1:])]
        )
    return values


def _ways(reach: Reach) -> dict[str, str]:
    """Return the ways to reach somebody that were given; the other one stays as it was."""
    ways = {"phone": reach.phone, "email": reach.email}
    return {name: value for name, value in ways.items() if value}
