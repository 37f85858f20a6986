"""Red flags: the suite of phrasings, what must not alarm, and the advice in every state."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from assistant.channels.conversation import converse
from assistant.safety.advice import advice_for
from assistant.safety.detector import LEVELS, RedFlagDetector, SafetyRulesError, load_detector
from tests.conftest import DATA, PROJECT, Chat, Server

RULES = YAML(typ="safe").load((PROJECT / "data" / "safety" / "red_flags.yml").read_text("utf-8"))
NAME_OF = {entry["code"].lower(): name for name, entry in RULES["red_flags"].items()}
SURE = {"rf1", "rf6", "rf7", "rf8", "rf9", "rf14"}  # gated at all of them
FILLERS = ["", "hi, ", "hello there. ", "ok so ", "sorry to bother you but "]
ENDINGS = ["", "!!", " please help", " what should i do", ". thanks"]


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert found
    return found


@pytest.fixture(scope="module")
def detector() -> RedFlagDetector:
    return load_detector(PROJECT)


def test_all_eighteen_rules_are_there_and_have_advice(detector: RedFlagDetector) -> None:
    assert len(detector.rules) == 18
    for entry in RULES["red_flags"].values():
        assert entry["level"] in LEVELS


def test_red_flags_are_found_in_the_suite(detector: RedFlagDetector) -> None:
    cases = rows("red_flags.tsv")
    assert len(cases) >= 400
    found: dict[str, list[bool]] = defaultdict(list)
    for case in cases:
        found[case["rule"]].append(detector.scan(case["text"]) is not None)
    assert set(found) == set(NAME_OF)
    total = sum(map(sum, found.values())) / len(cases)
    assert total >= 0.97, total
    for rule, hits in found.items():
        assert sum(hits) / len(hits) >= (0.97 if rule in SURE else 0.90), rule


def test_what_is_no_red_flag_does_not_alarm(detector: RedFlagDetector) -> None:
    cases = rows("near_misses.tsv")
    assert len(cases) >= 250
    alarms = [case["text"] for case in cases if detector.scan(case["text"])]
    assert len(alarms) / len(cases) <= 0.02, alarms


def mutated(text: str, chance: random.Random) -> str:
    """One typing error in a long word, other capitals, words around it."""
    words = text.split()
    long = [index for index, word in enumerate(words) if len(word) > 6 and word.isalpha()]
    if long:
        index = chance.choice(long)
        word = words[index]
        place = chance.randrange(1, len(word) - 1)
        kind = chance.choice(["swap", "drop", "double"])
        if kind == "swap":
            word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        elif kind == "drop":
            word = word[:place] + word[place + 1 :]
        else:
            word = word[:place] + word[place] + word[place:]
        words[index] = word
    changed = " ".join(words)
    changed = chance.choice([changed, changed.upper(), changed.capitalize()])
    return chance.choice(FILLERS) + changed + chance.choice(ENDINGS)


def test_typing_errors_capitals_and_fillers_do_not_hide_a_red_flag(
    detector: RedFlagDetector,
) -> None:
    chance = random.Random(7)
    known = [case for case in rows("red_flags.tsv") if detector.scan(case["text"])]
    tried = [mutated(case["text"], chance) for case in known for _ in range(4)]
    missed = [text for text in tried if detector.scan(text) is None]
    assert len(missed) / len(tried) <= 0.05, missed[:20]


@pytest.mark.parametrize(
    "text",
    [
        "{who} numb down there and cant pee",
        "{who} chest feels tight and short of breath",
        "{who} face is drooping on one side",
        "{who} wants to die because of this pain",
    ],
)
def test_the_advice_is_the_same_whoever_is_meant(detector: RedFlagDetector, text: str) -> None:
    people = ["my dad", "my wife", "my 80 year old mother", "my 25 yr old brother", "sir, i am", "hey u, im"]  # fmt: skip
    found = {detector.scan(text.format(who=who)) for who in people}
    assert len(found) == 1
    assert None not in found


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("no longer able to pee", "cauda_equina"),
        ("i am not able to feel my groin", "cauda_equina"),
        ("no fever but i cant pee", "cauda_equina"),
        ("NUMB DOWN THERE AND CANT PEE 😭😭", "cauda_equina"),
        ("i cnat pee since last nite", "cauda_equina"),
        ("no puedo orinar", "cauda_equina"),
        ("how much is a visit? also i have chest pain", "heart_lung"),
        ("me quiero morir", "crisis"),
    ],
)
def test_the_binding_of_a_negation_matters(detector: RedFlagDetector, text: str, rule: str) -> None:
    flag = detector.scan(text)
    assert flag is not None
    assert flag.rule == rule


def test_the_most_urgent_flag_wins(detector: RedFlagDetector) -> None:
    flag = detector.scan("back pain and fever, and now my chest feels tight")
    assert flag is not None
    assert (flag.rule, flag.level) == ("heart_lung", "emergency_911")


def test_a_rule_that_names_an_unknown_group_is_refused() -> None:
    broken = {
        **RULES,
        "red_flags": {"new": {"code": "RF99", "level": "today", "when": [["nothing_such"]]}},
    }
    with pytest.raises(SafetyRulesError, match="nothing_such"):
        RedFlagDetector(broken)
    broken = {
        **RULES,
        "red_flags": {"new": {"code": "RF99", "level": "soonish", "when": [["numb"]]}},
    }
    with pytest.raises(SafetyRulesError, match="soonish"):
        RedFlagDetector(broken)


# In every state, over HTTP.

ONE_OF_EACH = {
    "rf1": "numb down there and cant pee",
    "rf2": "all of a sudden i cant lift my toes",
    "rf3": "back pain and fever 102",
    "rf4": "prostate cancer and now new back pain",
    "rf5": "car wreck yesterday, my back hurts",
    "rf6": "my chest feels tight",
    "rf7": "my face is drooping",
    "rf8": "chest pain since the needles yesterday and cant catch my breath",
    "rf9": "my throat is closing after the herbs",
    "rf10": "the needle spot is red and hot and oozing pus",
    "rf11": "one calf is hot and swollen",
    "rf12": "ripping pain in my back and stomach",
    "rf13": "im 32 weeks pregnant and bleeding with back pain",
    "rf14": "i want to die",
    "rf15": "i took too many tramadol",
    "rf16": "burning when i pee with fever and pain in my side",
    "rf17": "my 9 yr old son has back pain",
    "rf18": "my boyfriend kicked me in the back",
}


def check_advice(messages: list[dict[str, Any]], rule: str) -> None:
    first = messages[0]
    assert first["metadata"]["urgency"] in {"emergency", "urgent", "soon", "crisis"}
    assert first["metadata"]["topic"].startswith("safety/")
    if rule in ("rf1", "rf8", "rf14"):
        assert first["metadata"]["topic"] == f"safety/{NAME_OF[rule]}"
    payloads = [button["payload"] for message in messages for button in message["buttons"]]
    assert not any("appointment" in payload or "stretch" in payload for payload in payloads)


@pytest.mark.parametrize("rule", sorted(ONE_OF_EACH))
def test_each_rule_is_answered_at_once_and_in_mid_conversation(server: Server, rule: str) -> None:
    fresh = server.open()
    check_advice(fresh.say(ONE_OF_EACH[rule]), rule)
    busy = server.open()
    busy.say("hello")
    busy.say("blorp the flanges")
    busy.say("i want to book an appointment")
    check_advice(busy.say(ONE_OF_EACH[rule]), rule)


def test_a_flag_inside_another_question_wins(chat: Chat) -> None:
    check_advice(chat.say("how much is it and i cant pee since last night"), "rf1")


def test_a_flag_over_two_messages_is_seen(chat: Chat) -> None:
    chat.say("i feel numb")
    check_advice(chat.say("down there"), "rf1")


def test_a_flag_in_a_message_that_is_too_long_is_seen(chat: Chat) -> None:
    response = chat.post(text="my back story is long. " * 80 + "and i cant pee since yesterday")
    assert response.status_code == 200
    check_advice(response.json()["messages"], "rf1")


def test_after_the_advice_the_talk_can_go_on(chat: Chat) -> None:
    messages = chat.say("numb down there and cant pee")
    payloads = {b["title"]: b["payload"] for m in messages for b in m["buttons"]}
    assert payloads["Call 911"] == "tel:911"
    response = chat.post(postback=payloads["I've been checked"])
    assert response.json()["messages"][0]["metadata"]["topic"] == "been_checked"
    assert chat.topics("what is sciatica") == ["symptoms/what_is_sciatica"]


async def _broken(message: Any) -> None:
    raise RuntimeError("broken on purpose")


async def test_the_advice_comes_though_everything_behind_it_fails() -> None:
    messages = await converse(_broken, "someone", "numb down there and cant pee", 5.0)
    check_advice(messages, "rf1")


def test_the_advice_needs_no_model(tmp_path: Path) -> None:
    response = advice_for("i want to die")
    assert response is not None
    assert "988" in response["text"]
    assert advice_for("what is sciatica") is None
