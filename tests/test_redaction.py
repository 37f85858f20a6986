"""What is taken out of text before it is stored or logged, and what must stay readable."""

from __future__ import annotations

import phonenumbers
import pytest

from assistant.redaction import redact


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("my number is 818 555 0134", "my number is [phone]"),
        ("call (818) 555-0134 or +44 20 7946 0958", "call [phone] or [phone]"),
        ("555-0134", "[phone]"),
        ("write to ana.lopez@example.com ok", "write to [e-mail] ok"),
        ("ana at example dot com", "[e-mail]"),
        ("home@work@example.com, x@@example.com", "[e-mail], [e-mail]"),
        ("@" * 1000, "@" * 1000),  # with nested @ the pattern took minutes
        ("my ssn is 123-45-6789", "my ssn is [social security number]"),
        ("dob 4/5/1962", "[date of birth]"),
        ("born march 3, 1961", "[date of birth]"),
        ("card 4111 1111 1111 1111", "card [card number]"),
        ("member id XYZ123456", "[member number]"),
        ("I live at 123 Main St apt 4", "I live at [address]"),
        ("my name is Ana Lopez and my back hurts", "my name is [name] and my back hurts"),
        ("my name is josé maría de la cruz", "my name is [name]"),
        ("I'm Ana and this is Ben Stone", "I'm [name] and this is [name]"),
    ],
)
def test_personal_data_is_taken_out(text: str, kept: str) -> None:
    assert redact(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "call 911", "L5 S1 disc", "10 sessions in 4 weeks", "hold 30 seconds 3 times", "I am 45",
        "Delete request R-7K3M-92QF", "call me back please", "this is the worst pain", "im in pain",
        "ask for the price", "the 405 and 101", "how many sessions in 2024", "200 mg 3 times",
        "at 10-12 on Tuesday", "my name on the list", "are you open on 12/3",
    ],
)  # fmt: skip
def test_what_is_not_personal_stays(text: str) -> None:
    assert redact(text) == text


def test_every_event_of_a_form_turn_is_kept_without_its_words() -> None:
    from rasa.shared.core.events import ActionExecuted, BotUttered, SlotSet, UserUttered

    from assistant.storage.kept_events import kept_events

    parse_data = {
        "text": "Ana Lopez",
        "intent": {"name": "x"},
        "questions": [{"text": "Ana Lopez"}],
    }
    answer = UserUttered("Ana Lopez", {"name": "x"}, [{"value": "Ana"}], parse_data)  # type: ignore[arg-type]
    shown = BotUttered(
        "Thanks, Ana Lopez.", {}, {"metadata": {"stored_text": "Thanks, [contact_name]."}}
    )
    button = BotUttered("Ask", {"buttons": [{"title": "Skip", "payload": "Skip this"}]})
    given = [
        SlotSet("requested_slot", "contact_name"), answer, ActionExecuted("contact_form"), shown,
        button, UserUttered("Skip this", {"name": "x"}),
    ]  # fmt: skip
    kept = kept_events(given)
    assert "Ana" not in repr([event.as_dict() for event in kept])
    assert [e.text for e in kept if isinstance(e, UserUttered)] == ["[answer: name]", "Skip this"]
    assert kept[3].text == "Thanks, [contact_name]."  # type: ignore[attr-defined]
    assert answer.text == "Ana Lopez", "the conversation itself must stay as it is"


def test_nothing_is_read_from_disk_when_a_text_is_redacted() -> None:
    """A file that cannot be opened would leave the library's lock held for good."""
    to_load = phonenumbers.PhoneMetadata._region_available.values()
    assert set(to_load) == {None}


def test_of_the_selector_the_ranking_of_topics_is_kept() -> None:
    from rasa.shared.core.events import UserUttered
    from rasa.shared.nlu.training_data.message import Message

    from assistant.storage.kept_events import kept_events
    from assistant.understanding.results import ranked_topics, set_result
    from assistant.understanding.topic_model import TopicScore

    message = Message({"text": "bread"})
    scores = [
        TopicScore("diet/gluten", 0.9),
        TopicScore("greet", 0.2),
        TopicScore("office/price", 0.1),
    ]
    set_result(message, scores, ["bot", "diet", "office"])
    parse_data = message.as_dict(only_output_properties=True)
    said = UserUttered("bread", parse_data["intent"], [], parse_data)
    (kept,) = kept_events([said])
    assert isinstance(kept, UserUttered)
    assert ranked_topics(dict(kept.parse_data)) == scores
    assert kept.parse_data["intent"] == parse_data["intent"]
    stored = kept.parse_data["response_selector"]  # type: ignore[typeddict-item]
    assert list(stored) == ["diet", "office"]
    assert all(list(entry) == ["ranking"] for entry in stored.values())
    assert "all_retrieval_intents" in said.parse_data["response_selector"]  # type: ignore[typeddict-item]
