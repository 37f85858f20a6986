"""The assistant's messages within a platform's limits, and what leads back to its choices."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.channels.messaging.conversation_rules import for_channel
from assistant.channels.messaging.menus import Menus, Offer
from assistant.channels.messaging.platform import Limits
from assistant.channels.messaging.rendering import length, plain, render, split
from assistant.content.catalogue import load_catalogue
from tests.conftest import PROJECT

LIST = Limits(text=1600)
BUTTONS = Limits(text=2000, choices=3, choice_title=20, choice_id=64, text_with_choices=640)


def message(text: str, *titles: str, **more: Any) -> dict[str, Any]:
    buttons = [{"title": title, "payload": f"/hidden {title}"} for title in titles]
    return {"text": text, "buttons": buttons, "metadata": {}, **more}


# Splitting.


@given(st.text(alphabet="ab .!?\n😀", max_size=300), st.integers(min_value=4, max_value=40))
def test_nothing_of_a_split_text_is_lost(text: str, most: int) -> None:
    parts = split(text, most)
    assert all(0 < length(part) <= most for part in parts)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)


def test_a_text_is_split_where_it_hurts_least() -> None:
    text = "One is short. Two is a little longer. Three!\n\nA new paragraph. And its end."
    assert split(text, 60) == [
        "One is short. Two is a little longer. Three!",
        "A new paragraph. And its end.",
    ]
    assert split(text, 30) == [
        "One is short.",
        "Two is a little longer. Three!",
        "A new paragraph. And its end.",
    ]


@pytest.mark.parametrize(
    "whole", ["(818) 555-0100", "+1 818 555 0100", "https://a.example/x.y?z=1", "me@a.example"]
)
@pytest.mark.parametrize("most", range(26, 60))
def test_numbers_and_addresses_stay_whole(whole: str, most: int) -> None:
    text = f"You can call or write to {whole} at any time. Or come by on any day of the week."
    assert any(whole in part for part in split(text, most))


def test_an_emoji_is_two_units() -> None:
    assert [length(part) for part in split("😀" * 10, 5)] == [4] * 5


# Plain text.


def test_markdown_becomes_plain() -> None:
    text = "**Call** [the office](tel:8185550100), see [our page](https://a.example/x) *today*."
    assert plain(text) == "Call the office: 8185550100, see our page: https://a.example/x today."
    assert plain("[https://a.example](https://a.example)") == "https://a.example"
    assert plain("2 * 3 * 4 and a_b_c") == "2 * 3 * 4 and a_b_c"


# Choices.


def test_buttons_that_fit_are_the_platforms_own() -> None:
    rendered = render([message("Which one?", "Hours", "Parking")], BUTTONS)
    (part,) = rendered.parts
    assert part.text == "Which one?"
    assert [choice.title for choice in part.choices] == ["Hours", "Parking"]
    assert [choice.id for choice in part.choices] == [offer.id for offer in rendered.menu]
    assert all(re.fullmatch("[0-9a-f]{16,64}", choice.id) for choice in part.choices)


@pytest.mark.parametrize(
    "titles", [("One", "Two", "Three", "Four"), ("A title of twenty-one", "Two")]
)
def test_buttons_that_do_not_fit_are_numbered(titles: tuple[str, ...]) -> None:
    rendered = render([message("Which one?", *titles)], BUTTONS)
    (part,) = rendered.parts
    assert part.choices == ()
    lines = [f"{number}. {title}" for number, title in enumerate(titles, 1)]
    assert part.text == "\n".join(["Which one?", "", *lines, "Reply with a number."])


def test_numbers_go_on_through_a_turn() -> None:
    rendered = render([message("First.", "A", "B"), message("Second.", "C")], LIST)
    assert [offer.number for offer in rendered.menu] == [1, 2, 3]
    assert "3. C" in rendered.parts[-1].text


def test_a_long_text_above_buttons_is_split_before_them() -> None:
    text = " ".join(f"Sentence number {n} stands here." for n in range(40))
    rendered = render([message(text, "Yes", "No")], BUTTONS)
    assert len(rendered.parts) == 2
    assert rendered.parts[0].choices == ()
    assert length(rendered.parts[1].text) <= 640
    assert len(rendered.parts[1].choices) == 2
    assert " ".join(part.text for part in rendered.parts) == text


def test_payloads_are_never_shown() -> None:
    for limits in (LIST, BUTTONS):
        rendered = render([message("Which?", "Hours", "Parking")], limits)
        assert "hidden" not in repr(rendered.parts)


def test_a_button_that_dials_becomes_words() -> None:
    dial = {"title": "Call 911", "payload": "tel:911"}
    rendered = render([message("Get help.", buttons=[dial])], BUTTONS)
    assert rendered.parts[0].text == "Get help.\nCall 911."
    assert rendered.menu == ()


# Order, pictures, sources.


def test_what_is_urgent_comes_first_and_whole() -> None:
    urgent = message("Call 911 now. " * 200, metadata={"urgency": "emergency"})
    rendered = render([message("Hello."), urgent], LIST)
    assert rendered.parts[0].text.startswith("Call 911 now.")
    text = " ".join(part.text for part in rendered.parts)
    assert text.count("Call 911 now.") == 200


def test_bubbles_are_put_together() -> None:
    rendered = render([message("One."), message("Two."), message("Three.", "A")], BUTTONS)
    assert [part.text for part in rendered.parts] == ["One.\n\nTwo.\n\nThree."]


def test_a_picture_has_its_text() -> None:
    (part,) = render([message("The room.", image="/room.png")], LIST, "https://a.example").parts
    assert (part.image, part.image_text) == ("https://a.example/room.png", "The room.")
    (part,) = render(
        [message("The room.", image="https://a.example/room.png")], Limits(1600, images=False)
    ).parts
    assert (part.text, part.image) == ("The room.\nhttps://a.example/room.png", "")


def test_sources_are_named_but_not_under_an_alarm() -> None:
    metadata = {"sources": [{"label": "A trial", "url": "https://a.example"}, {"label": "We"}]}
    assert (
        render([message("So.", metadata=metadata)], LIST).parts[0].text == "So.\nSources: A trial"
    )
    metadata["urgency"] = "urgent"
    assert render([message("So.", metadata=metadata)], LIST).parts[0].text == "So."


# Back from what was chosen.

MENU = (
    Offer("aaaa", "Opening hours", "When are you open?", 1),
    Offer("bbbb", "Parking", "Where can I park?", 2),
    Offer("cccc", "Skip", "Skip", 3),
)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("1", "Opening hours"), ("2.", "Parking"), ("2)", "Parking"), ("#2", "Parking"),
        (" option 3 ", "Skip"), ("parking", "Parking"), ("PARKING!", "Parking"),
        ("parkng", "Parking"), ("opening hour", "Opening hours"), ("skip", "Skip"),
    ],
)  # fmt: skip
def test_numbers_and_words_lead_to_the_choice(text: str, title: str) -> None:
    offer = Menus((MENU,)).named(text)
    assert offer is not None
    assert offer.title == title


@pytest.mark.parametrize(
    "text",
    ["4", "0", "12", "8185550134", "818 555 0134", "1 pm", "2 days", "barking dog", "ski", "hour"],
)
def test_other_words_are_no_choice(text: str) -> None:
    assert Menus((MENU,)).named(text) is None


def test_a_number_counts_for_the_newest_menu_alone() -> None:
    menus = Menus(((), MENU))
    assert menus.named("1") is None
    assert menus.named("Parking") is None
    assert menus.pressed("bbbb") == MENU[1]  # a button can still be seen, and pressed
    assert menus.pressed("dddd") is None


# Words that are true of the web chat alone.


def test_no_answer_speaks_of_the_web_chat() -> None:
    answers = load_catalogue(PROJECT).answers.values()
    texts = [v.text for answer in answers for v in answer.variations if answer.name != "opening"]
    shown = for_channel([message(text) for text in texts], "telegram")
    wrong = [
        m["text"] for m in shown if re.search(r"(?i)web chat|reload|you saved|browser", m["text"])
    ]
    assert wrong == []
    assert sum("rase my data" in m["text"] for m in shown) >= 3


def test_no_choice_on_sms_is_a_word_that_unsubscribes() -> None:
    titles = ["Send", "Change", "Cancel", "Stop"]
    for channel, expected in (
        ("sms", ["Send", "Change", "Cancel it", "Stop it"]),
        ("whatsapp", titles),
    ):
        (shown,) = for_channel([message("Shall I send it?", *titles)], channel)
        assert [button["title"] for button in shown["buttons"]] == expected
        assert [button["payload"] for button in shown["buttons"]] == [
            f"/hidden {title}" for title in titles
        ]
