"""What a visitor gets, over real HTTP, from the invented practice and in several turns."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.conftest import DATA, Chat, Server


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert found, f"{path.name} holds no rows"
    return found


def text_of(messages: list[dict[str, object]]) -> str:
    return "\n".join(str(message["text"]) for message in messages)


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("where is your office?", "1 Imaginary Way"),
        ("what are your hours", "Monday to Thursday: 9 am to 12:30 pm and 2 pm to 6 pm"),
        ("how can i contact the office", "(818) 555-0100"),
        ("how much is a visit", "$111"),
        ("do you take insurance", "Imaginary Mutual"),
        ("is there parking", "lot behind the building"),
        ("i want to book an appointment", "https://moonbeam.example/book"),
        ("what should i wear", "loose clothes"),
    ],
)
def test_the_offices_own_facts_are_told(chat: Chat, question: str, fact: str) -> None:
    assert fact in text_of(chat.say(question))


def test_a_fact_that_is_missing_is_said_to_be_missing(visitor: object) -> None:
    for question in ["what are your hours", "how much does a visit cost", "do you take blue cross"]:
        words = text_of(visitor.say(question))  # type: ignore[attr-defined]
        assert "don't have" in words or "do not have" in words
        assert "{" not in words


def test_a_message_with_two_questions_gets_both_answers(chat: Chat) -> None:
    topics = chat.topics("is it safe and how much does it cost")
    assert topics == ["treatment/safety", "office/price"]


def test_two_questions_are_both_answered_in_most_messages(server: Server) -> None:
    cases = rows(DATA / "two_questions.tsv")
    assert len(cases) >= 40
    right = 0
    for case in cases:
        topics = server.open().topics(case["text"])
        wanted = [case["first"].split("|"), case["second"].split("|")]
        right += all(any(topic in accepted for topic in topics) for accepted in wanted)
    assert right / len(cases) >= 0.80, f"{right} of {len(cases)}"


def test_follow_ups_use_what_was_answered(server: Server) -> None:
    cases = rows(DATA / "follow_ups.tsv")
    assert len(cases) >= 60
    right = 0
    for case in cases:
        chat = server.open()
        chat.say(case["question"])
        accepted = case["expected"].split("|")
        right += any(topic in accepted for topic in chat.topics(case["follow_up"]))
    assert right / len(cases) >= 0.90, f"{right} of {len(cases)}"


def test_what_stands_alone_is_not_read_into_the_answer_before(server: Server) -> None:
    cases = rows(DATA / "after_an_answer.tsv")
    right = []
    for case in cases:
        chat = server.open()
        chat.say(case["question"])
        right.append(case["expected"] in chat.topics(case["text"]))
    elsewhere = [case["expected"] == "out_of_scope" for case in cases]
    turned_away = sum(r for r, other in zip(right, elsewhere, strict=True) if other)
    answered = sum(right) - turned_away
    assert turned_away >= 0.8 * sum(elsewhere), f"{turned_away} of {sum(elsewhere)}"
    assert answered >= 0.9 * (len(cases) - sum(elsewhere)), f"{answered} answered"


def test_the_ways_out_change_with_every_failure(chat: Chat) -> None:
    steps = []
    for text in ["xylophone maintenance schedule", "blorp the flanges", "quux fribble wug"]:
        messages = chat.say(text)
        steps.append((messages[-1]["metadata"].get("step"), messages[-1]["metadata"]["topic"]))
    assert all(topic == "out_of_scope" for _, topic in steps)


def test_saying_it_again_says_the_same(chat: Chat) -> None:
    first = chat.say("does acupuncture hurt")
    again = chat.say("sorry, can you repeat that?")
    assert [m["text"] for m in again] == [m["text"] for m in first]
    assert again[-1]["buttons"] == first[-1]["buttons"]
    assert again[-1]["metadata"]["topic"] == "repeat"


def test_the_sources_of_the_last_answer_are_named(chat: Chat) -> None:
    labels = [s["label"] for s in chat.say("should i avoid gluten")[-1]["metadata"]["sources"]]
    words = text_of(chat.say("where does this information come from?"))
    assert all(label in words for label in labels)


def test_tell_me_more_leads_to_a_related_topic_that_is_new(chat: Chat) -> None:
    first = chat.topics("what happens in a session")
    second = chat.topics("tell me more")
    third = chat.topics("tell me more")
    assert len({*first, *second, *third}) == 3


def test_messages_of_one_visitor_sent_at_once_are_all_answered(chat: Chat) -> None:
    from concurrent.futures import ThreadPoolExecutor

    questions = ["what is sciatica", "does acupuncture hurt", "do i need an mri", "heat or ice?"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(chat.topics, questions))
    assert answers == [
        ["symptoms/what_is_sciatica"], ["treatment/does_it_hurt"], ["symptoms/imaging"],
        ["selfcare/heat_or_ice"],
    ]  # fmt: skip
    history = chat.http.get("/webchat/messages", headers=chat.headers).json()["messages"]
    asked = [message["text"] for message in history if message.get("from") == "visitor"]
    assert sorted(asked) == sorted(questions)
