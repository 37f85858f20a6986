"""What the contact form understands of single messages, without a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from actions.contact_form import phrases
from actions.contact_form.person_name import read_name
from actions.contact_form.preferred_time import read_time
from actions.contact_form.reach import find_reach
from actions.contact_form.reading import Message, Reading, read
from actions.contact_form.steps import CONSENT, DECISION, NAME, NOTE, REACH, TIME


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ana", "Ana"), ("X", "X"), ("José María de la Cruz", "José María de la Cruz"),
        ("Nguyễn", "Nguyễn"), ("Ngô Đình Diệm", "Ngô Đình Diệm"), ("O'Neil", "O'Neil"),
        ("D’Angelo", "D’Angelo"), ("Jean-Luc Picard", "Jean-Luc Picard"), ("王芳", "王芳"),
        ("محمد علي", "محمد علي"), ("Björn Ødegård", "Björn Ødegård"), ("van der Berg", "van der Berg"),
        ("Dr. Ruth Klein", "Dr. Ruth Klein"), ("Chris P. Bacon", "Chris P. Bacon"),
        ("my name is ana lopez", "Ana Lopez"), ("its bob", "Bob"), ("it's Bob!", "Bob"),
        ("I'm Dana", "Dana"), ("im dana", "Dana"), ("this is Mary-Jane Watson", "Mary-Jane Watson"),
        ("call me Al", "Al"), ("Maria here", "Maria"), ("name: Ana Lopez", "Ana Lopez"),
        ("Yes, I'm Ana", "Ana"), ("Will Smith", "Will Smith"), ("May Chen", "May Chen"),
        ("Thi Hoa Do", "Thi Hoa Do"), ("Grace", "Grace"), ("Kim and Lee", "Kim and Lee"),
        ("ANA LOPEZ", "ANA LOPEZ"), ("Juan Carlos Pérez García", "Juan Carlos Pérez García"),
    ],
)  # fmt: skip
def test_a_name_is_taken(text: str, name: str) -> None:
    assert read_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "where can i park", "where can i park?", "818 555 0134", "my back hurts", "I have sciatica",
        "why do you need that", "not sure yet", "what are your hours", "do you take insurance",
        "I'm in a lot of pain", "its my back", "im 15", "my leg is numb", "no", "ok", "yes please",
        "skip", "i want to book", "tuesday", "mornings", "does it hurt", "heat or ice",
        "I'd rather not say", "lower back pain for 3 weeks", "ana@example.com", "i need it soon",
        "do needles hurt", "the pain is bad", "I am a new patient", "cancel", "never mind", "???",
        "12", "", "a" * 200, "none of your business",
    ],
)  # fmt: skip
def test_what_is_no_name_is_not_taken(text: str) -> None:
    assert read_name(text) == ""


@pytest.mark.parametrize(
    ("text", "phone", "email", "wrong"),
    [
        ("818 555 0134", "+18185550134", "", ""), ("(818) 555-0134", "+18185550134", "", ""),
        ("+1 818.555.0134", "+18185550134", "", ""), ("8185550134", "+18185550134", "", ""),
        ("my cell is 818-555-0134 ok?", "+18185550134", "", ""),
        ("+44 20 7946 0958", "+442079460958", "", ""), ("ana@example.com", "", "ana@example.com", ""),
        ("Write to Ana.Lopez@Example.com.", "", "Ana.Lopez@example.com", ""),
        ("ana at example dot com", "", "ana@example.com", ""),
        ("818 555 0134 or ana@example.com", "+18185550134", "ana@example.com", ""),
        ("555 0134", "", "", "phone"), ("12345", "", "", "phone"), ("81855501345555", "", "", "phone"),
        ("ana@", "", "", "email"), ("ana@example..com", "", "", "email"), ("@@", "", "", "email"),
        ("no phone", "", "", ""), ("tuesday at 3", "", "", ""), ("in 2024", "", "", ""),
    ],
)  # fmt: skip
def test_ways_to_reach_somebody(text: str, phone: str, email: str, wrong: str) -> None:
    found = find_reach(text)
    assert (found.phone, found.email, found.wrong) == (phone, email, wrong)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("Tuesday afternoon", "Tuesday afternoon"), ("tues aft", "Tuesday afternoon"),
        ("mornings work best for me", "Mornings"), ("how about wednesday at 10", "Wednesday at 10"),
        ("I'm free weds n fri", "Wednesday n Friday"), ("asap", "As soon as possible"),
        ("not before 10 on weekdays", "Not before 10 on weekdays"), ("any time", "Any time"),
        ("I can do any day except Thursday", "Any day except Thursday"), ("the 14th", "The 14th"),
        ("after work please", "After work"), ("12/3 at 5:30 pm", "12/3 at 5:30 pm"),
        ("whenever", "Whenever"), ("it doesn't matter", "It doesn't matter"),
        ("blue", ""), ("ana", ""), ("yes", ""), ("", ""), ("monday " * 50, ""),
    ],
)  # fmt: skip
def test_a_time_is_read_back_as_understood(text: str, understood: str) -> None:
    assert read_time(text) == understood


@pytest.mark.parametrize(
    "text",
    [
        "I'm 15",
        "im 12 years old",
        "i am 17",
        "I'm only 16",
        "i am a minor",
        "I'm a 15 year old girl",
        "I'm in high school",
    ],
)
def test_minors_are_noticed(text: str) -> None:
    assert phrases.is_minor(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm 45",
        "i am 15 minutes away",
        "my son is 15",
        "an appointment for my 12 year old",
        "I'm her mother, she is 15",
        "I'm free at 5",
        "im 10 miles away",
    ],
)
def test_adults_are_not_taken_for_minors(text: str) -> None:
    assert not phrases.is_minor(text)


def at(step: str, text: str, intent: str = "nlu_fallback") -> Reading:
    return read(Message(text, intent), step)


def test_a_red_flag_goes_before_everything_at_each_step() -> None:
    for step in (CONSENT, NAME, REACH, TIME, NOTE, DECISION):
        assert at(step, "yes, send it, 818 555 0134", "safety").kind == "aside"


@pytest.mark.parametrize(
    "text", ["cancel", "never mind", "Stop!", "forget it", "actually cancel that please"]
)
def test_cancelling_needs_no_model(text: str) -> None:
    for step in (CONSENT, NAME, REACH, TIME, NOTE, DECISION):
        assert at(step, text, "diet").kind == "cancel"


def test_a_sure_topic_is_left_to_the_rules_and_an_unsure_one_is_an_answer() -> None:
    assert at(NAME, "parking", "office").kind == "aside"
    assert at(NAME, "Parker", "office").values == {"name": "Parker"}
    assert at(NAME, "my name is Bill", "office").values == {"name": "Bill"}
    assert at(NOTE, "do you take insurance?", "office").kind == "aside"
    assert at(NOTE, "I take insurance questions seriously", "office").kind == "answer"


def test_several_fields_of_one_message() -> None:
    assert at(NAME, "Ana, 818 555 0134, mornings").values == {
        "name": "Ana", "phone": "+18185550134", "preferred_time": "Mornings",
    }  # fmt: skip
    assert at(REACH, "cell: 818 555 0134").values == {"phone": "+18185550134"}
    assert at(CONSENT, "yes, my name is Ana").values == {"name": "Ana"}


def test_a_correction_is_heard_at_the_last_steps() -> None:
    assert at(NOTE, "actually my number is 818 555 0199").values == {"phone": "+18185550199"}
    assert at(NOTE, "My sister (818 555 0199) drives me").values == {
        "note": "My sister (818 555 0199) drives me"
    }
    assert at(DECISION, "my name is Anita").values == {"name": "Anita"}
    assert at(DECISION, "make it Wednesday").values == {"preferred_time": "Make it Wednesday"}


@dataclass
class Turns:
    """A tracker as rasa-sdk hands it over, as far as the form's actions read it."""

    events: list[dict[str, Any]]
    latest_message: dict[str, Any] = field(default_factory=dict)


def test_what_happened_since_the_last_message_is_told_from_what_was_before() -> None:
    from actions.contact_form.steps import stepped_aside, was_finished

    rejected = {"event": "action_execution_rejected", "name": "contact_form"}
    finished = {"event": "action", "name": "action_finish_contact_request"}
    before = Turns([{"event": "user"}, rejected, finished, {"event": "user"}])
    assert not stepped_aside(before)  # type: ignore[arg-type]
    assert not was_finished(before)  # type: ignore[arg-type]
    now = Turns([{"event": "user"}, rejected, finished])
    assert stepped_aside(now)  # type: ignore[arg-type]
    assert was_finished(now)  # type: ignore[arg-type]
