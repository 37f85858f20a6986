"""One talk of thirty turns, the same on every messaging channel and in the web chat.

Questions, "did you mean", the contact form with a question in between, a red flag, a private moment
of nothing kept, and erasing: what is asked and what must be in the answer stand in `TALK`.
`docs/renderings.py` shows what it looks like on each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pytest

from tests.channel_server import STAND_INS, Channels, Line, shown
from tests.conftest import Chat

CHANNELS = [stand_in.channel or stand_in.name for kind in STAND_INS for stand_in in kind.make()]


class Patient(Protocol):
    """Somebody on one channel."""

    def say(self, text: str) -> str:
        """Write something, and return what is shown."""

    def choose(self, title: str) -> str:
        """Choose what was offered."""

    def erase(self) -> str:
        """Have everything erased."""


class WebPatient:
    """A visitor of the web chat."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._offered: dict[str, str] = {}

    def say(self, text: str) -> str:
        return self._post(text=text)

    def choose(self, title: str) -> str:
        return self._post(postback=self._offered[title])

    def erase(self) -> str:
        response = self._chat.http.delete("/webchat/session", headers=self._chat.headers)
        assert response.status_code == 204
        return "erased"

    def _post(self, **body: str) -> str:
        response = self._chat.post(**body)
        assert response.status_code == 200, response.text
        messages = response.json()["messages"]
        self._offered = {b["title"]: b["payload"] for m in messages for b in m["buttons"]}
        return "\n".join([m["text"] for m in messages] + [f"[{title}]" for title in self._offered])


class ChannelPatient:
    """Somebody on a messaging channel."""

    def __init__(self, line: Line) -> None:
        self.sender = line.platform.new_sender()
        self._line = line

    def say(self, text: str) -> str:
        return shown(self._line.say(self.sender, text))

    def choose(self, title: str) -> str:
        return shown(self._line.choose(self.sender, title))

    def erase(self) -> str:
        return self.say("erase my data")


@dataclass(frozen=True)
class Step:
    """What the patient does: `how` with the patient, `words` for who reads about it."""

    words: str
    how: Callable[[Patient], str]

    def __call__(self, patient: Patient) -> str:
        return self.how(patient)


def say(text: str) -> Step:
    return Step(text, lambda patient: patient.say(text))


def choose(title: str) -> Step:
    return Step(f"[{title}]", lambda patient: patient.choose(title))


TALK: list[tuple[str, Step, str]] = [
    ("hello", say("hello"), "automated assistant"),
    ("a question", say("What is sciatica?"), "runs from the low back"),
    ("its sources", say("where does this information come from?"), "https://"),
    ("the office", say("Where can I park?"), "There is a lot behind the building."),
    ("a button", choose("Opening hours"), "Monday"),
    ("prices", say("How much is the first visit?"), "$111"),
    ("a follow-up", say("and insurance?"), "Imaginary Mutual"),
    ("two questions", say("do you take cash and where are you?"), "1 Imaginary Way"),
    ("not understood", say("leg thing food"), "Did you mean"),
    ("what was meant", choose("Does diet matter?"), "No food or diet"),
    ("a typing error", say("does acupuncure hurt"), "prick"),
    ("again", say("sorry, can you repeat that?"), "prick"),
    ("more", say("tell me more"), "visit"),
    ("not our field", say("What is the capital of France?"), "I only"),
    ("diet", say("should i avoid gluten"), "giving up gluten"),
    ("who is it", say("are you a robot"), "I am a bot"),
    ("thanks", say("thanks"), "welcome"),
    (
        "the form",
        say("I want to book an appointment, please pass on my request"),
        "Is that okay?",
    ),
    ("consent", choose("Yes, that's okay"), "What name"),
    ("the name", say("My name is Ana Lopez"), "How can the office reach you"),
    ("an interruption", say("Where can I park?"), "Back to your request."),
    ("the number", say("818 555 0134"), "(818) 555-0134"),
    ("the time", say("Tuesday afternoon"), "anything else"),
    ("no note", choose("Skip"), "Shall I send it"),
    ("a change", choose("Change"), "What should I change?"),
    ("of the note", choose("The note"), "short note"),
    ("the note", say("Please leave the door open"), "Please leave the door open"),
    ("sent", choose("Send"), "The office has your request."),
    ("a red flag", say("I can't feel my groin and I wet myself"), "911"),
    ("erased", Step("erase my data", lambda patient: patient.erase()), "erased"),
]
"""Name, what the patient does, and what must be in the answer."""


def talk(patient: Patient) -> list[tuple[str, str]]:
    """Have the whole talk; return each turn's name and what was shown."""
    turns = []
    for name, do, expected in TALK:
        answer = do(patient)
        assert expected in answer, (name, expected, answer)
        assert "/ask" not in answer
        assert "Sorry, something went wrong" not in answer
        turns.append((name, answer))
    return turns


def test_the_talk_has_thirty_turns() -> None:
    assert len(TALK) == 30


def test_the_talk_in_the_web_chat(channels: Channels) -> None:
    talk(WebPatient(channels.server.open()))


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_talk_on_a_channel(channels: Channels, channel: str) -> None:
    line = channels.line(channel)
    patient = ChannelPatient(line)
    talk(patient)
    line.settle()
    assert line.platform.problems == []
    # After an erasure nothing tells that there was a talk.
    assert "automated assistant of" in patient.say("hello")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_red_flag_and_a_private_chat_on_a_channel(channels: Channels, channel: str) -> None:
    patient = ChannelPatient(channels.line(channel))
    first = patient.say("I have chest pain and can't breathe")
    assert first.index("911") < first.index("automated assistant of")
    assert "private chat now" in patient.say("private chat")
    assert "There is a lot" in patient.say("Where can I park?")
