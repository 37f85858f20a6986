"""Red flags: the suite of phrasings, what must not alarm, and the advice in every state."""

from __future__ import annotations

import random
import shutil
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from assistant.channels.conversation import converse
from assistant.safety import advice
from assistant.safety.advice import advice_for
from assistant.safety.counter import RedFlagCounter
from assistant.safety.detector import LEVELS, RedFlagDetector, SafetyRulesError, load_detector
from assistant.storage.database import engine_for, red_flag_counts
from tests.conftest import PROJECT, Chat, Server
from tests.phrasings import MUTATIONS, NEAR_MISSES, RED_FLAGS, rows

RULES = YAML(typ="safe").load((PROJECT / "data" / "safety" / "red_flags.yml").read_text("utf-8"))
NAME_OF = {entry["code"].lower(): name for name, entry in RULES["red_flags"].items()}
SURE = {"rf1", "rf2", "rf6", "rf7", "rf8", "rf9", "rf14"}  # all of their phrasings are found
ROUNDS = 2  # times that the suite is mutated


@pytest.fixture(scope="module")
def detector() -> RedFlagDetector:
    return load_detector(PROJECT)


def test_all_eighteen_rules_are_there_and_have_levels(detector: RedFlagDetector) -> None:
    assert len(detector.rules) == 18
    assert len(NAME_OF) == 18
    for entry in RULES["red_flags"].values():
        assert entry["when"]
        assert set(entry["when"]) <= set(LEVELS)


def test_red_flags_are_found_in_the_suite(detector: RedFlagDetector) -> None:
    cases = rows(*RED_FLAGS)
    assert len(cases) >= 800
    found: dict[str, list[bool]] = defaultdict(list)
    for case in cases:
        found[case["rule"]].append(detector.scan(case["text"]) is not None)
    assert set(found) == set(NAME_OF)
    for rule, hits in found.items():
        assert sum(hits) / len(hits) >= (1.0 if rule in SURE else 0.95), rule
    assert sum(map(sum, found.values())) / len(cases) >= 0.98


def test_advice_is_seldom_less_urgent_than_it_should_be(detector: RedFlagDetector) -> None:
    cases = rows(*RED_FLAGS)
    flags = [(case, detector.scan(case["text"])) for case in cases]
    milder = [
        case["text"]
        for case, flag in flags
        if flag and LEVELS.index(flag.level) < LEVELS.index(case["level"])
    ]
    assert len(milder) / len(cases) <= 0.015, milder


def test_what_is_no_red_flag_does_not_alarm(detector: RedFlagDetector) -> None:
    cases = rows(*NEAR_MISSES)
    assert len(cases) >= 650
    alarms = [case["text"] for case in cases if detector.scan(case["text"])]
    assert len(alarms) / len(cases) <= 0.02, alarms


def test_the_examples_of_ordinary_topics_do_not_alarm(detector: RedFlagDetector) -> None:
    """Training examples outside the safety area; some of them do hold a red flag."""
    texts = []
    for path in [*(PROJECT / "data" / "faq").glob("*.yml"), PROJECT / "data" / "nlu.yml"]:
        for entry in YAML(typ="safe").load(path.read_text("utf-8")).get("nlu", []):
            texts += [line.strip("- ") for line in str(entry.get("examples", "")).splitlines()]
    assert len(texts) >= 5000
    alarms = [text for text in texts if detector.scan(text)]
    assert len(alarms) / len(texts) <= 0.005, alarms


@settings(
    max_examples=ROUNDS,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_mutations_do_not_hide_a_red_flag(detector: RedFlagDetector, seed: int) -> None:
    """Typing errors, capitals, punctuation, emoji and words around it, over the whole suite."""
    chance = random.Random(seed)
    texts = [case["text"] for case in rows(*RED_FLAGS)]
    missed: dict[str, list[str]] = {}
    for kind, change in MUTATIONS.items():
        changed = [change(text, chance) for text in texts]
        missed[kind] = [text for text in changed if detector.scan(text) is None]
    # One letter can make another word of a word ("pain", "pan"); nothing else may hide a flag.
    assert len(missed.pop("typing error")) / len(texts) <= 0.025
    assert sum(map(len, missed.values())) / (len(texts) * len(missed)) <= 0.002, missed


def test_typing_errors_hide_at_most_two_in_a_hundred(detector: RedFlagDetector) -> None:
    chance = random.Random(7)
    texts = [
        MUTATIONS["typing error"](c["text"], chance) for c in rows(*RED_FLAGS) for _ in range(4)
    ]
    missed = [text for text in texts if detector.scan(text) is None]
    assert len(missed) / len(texts) <= 0.02, missed


def test_a_search_takes_less_than_three_milliseconds(detector: RedFlagDetector) -> None:
    times = []
    for case in rows(*RED_FLAGS, *NEAR_MISSES):
        start = time.perf_counter()
        detector.scan(case["text"])
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 0.003


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{} my mother is numb down there and cant pee", "{} my father is numb down there and cant pee"),
        ("im a 25 yr old woman and my chest hurts", "im an 85 yr old man and my chest hurts"),
        ("Would you kindly advise, I cannot urinate since last night.", "yo i cant piss since last nite"),
        ("Excuse me, my face is drooping on one side", "dude my face is drooping on one side wtf"),
        ("he wants to kill himself", "she wants to kill herself"),
        ("my grandson took too many pills", "my granddaughter took too many pills"),
        ("Pardon me, I passed out this morning.", "passed out this mornin lol"),
        ("my boyfriend hits me", "my girlfriend hits me"),
        ("Respected doctor, both my legs went numb an hour ago", "both my legs went numb like an hr ago ngl"),
        ("her throat is closing after the herbs", "my husband's throat is closing after the herbs"),
    ],
)  # fmt: skip
def test_sex_age_politeness_and_register_change_nothing(
    detector: RedFlagDetector, one: str, other: str
) -> None:
    flag = detector.scan(one)
    assert flag is not None
    assert detector.scan(other) == flag


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


@pytest.mark.parametrize(
    "text",
    [
        "no numbness in my groin",
        "I can pee fine",
        "pain down one leg without any weakness",
        "numbness? none. weakness? none. just pain",
        "didnt hit my head or black out",
        "had cauda equina surgery in 2019, fine now",
        "what if i lose bladder control",
        "should i worry if my leg gets weak someday",
        "what is cauda equina?",
        "when is sciatica an emergency",
        "this pain is killing me",
    ],
)
def test_denial_history_supposition_and_knowledge_do_not_alarm(
    detector: RedFlagDetector, text: str
) -> None:
    assert detector.scan(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "no fever, chest pain since this morning",
        "no numbness and my chest pain is back",
        "years ago i had back surgery. since last night i cant pee",
        "fainted an hour ago, fine now",
        "is it normal that the leg gives way? it started today",
        "peel or number? my groin is numv and i cant pwee",
    ],
)
def test_a_denial_or_the_past_of_one_thing_does_not_hide_another(
    detector: RedFlagDetector, text: str
) -> None:
    assert detector.scan(text) is not None


def test_the_most_urgent_flag_wins(detector: RedFlagDetector) -> None:
    flag = detector.scan("back pain and fever, and now my chest feels tight")
    assert flag is not None
    assert (flag.rule, flag.level) == ("heart_lung", "emergency_911")


def test_a_group_may_be_made_of_groups_that_stand_behind_it() -> None:
    document = {
        **RULES,
        "words": {**RULES["words"], "outer": ["inner + =tonight"], "inner": ["=blorp + =frandish"]},
        "red_flags": {"test": {"code": "RF1", "when": {"today": ["outer"]}}},
    }
    detector = RedFlagDetector(document)
    assert detector.scan("the frandish is blorp tonight") is not None
    assert detector.scan("the frandish is tonight") is None


def test_a_rule_that_names_an_unknown_group_is_refused() -> None:
    broken = {
        **RULES,
        "red_flags": {"new": {"code": "RF99", "when": {"today": ["numb + nothing_such"]}}},
    }
    with pytest.raises(SafetyRulesError, match="nothing_such"):
        RedFlagDetector(broken)
    broken = {**RULES, "red_flags": {"new": {"code": "RF99", "when": {"soonish": ["numb"]}}}}
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


NUMBER_OF = {"rf14": "988", "rf15": "1-800-222-1222", "rf18": "1-800-799-7233"}
WITHOUT_NUMBER = {"rf4", "rf17"}  # their advice is to call one's own doctor


def check_advice(messages: list[dict[str, Any]], rule: str) -> None:
    topics = {message["metadata"]["topic"] for message in messages}
    assert topics == {f"safety/{NAME_OF[rule]}"}  # one card, and nothing else in the turn
    assert messages[0]["metadata"]["urgency"] in {"emergency", "urgent", "soon", "crisis"}
    shown = " ".join(message["text"] for message in messages)
    assert NUMBER_OF.get(rule, "911") in shown or rule in WITHOUT_NUMBER  # also without buttons
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


@pytest.mark.parametrize(
    "text",
    [
        "how much is it and i cant pee since last night",
        "NUMB DOWN THERE AND CANT PEE 😭😭",
        "😭 cnat pee, privates numb",
        "my back story is long. " * 80 + "and i cant pee since yesterday",
        "my mom cant pee since last night",
    ],
)
def test_a_flag_is_seen_whatever_is_around_it(chat: Chat, text: str) -> None:
    check_advice(chat.say(text), "rf1")


def test_a_flag_in_a_postback_is_seen(chat: Chat) -> None:
    response = chat.post(postback="i cant pee since last night")
    assert response.status_code == 200
    check_advice(response.json()["messages"], "rf1")


def test_a_flag_over_two_messages_is_seen(chat: Chat) -> None:
    chat.say("i feel numb")
    check_advice(chat.say("down there"), "rf1")


def test_an_unclear_numbness_is_asked_about_once(server: Server) -> None:
    chat = server.open()
    question = chat.say("numb when sitting")
    assert {m["metadata"]["topic"] for m in question} == {"safety/clarify"}
    assert question[0]["metadata"]["urgency"] == "urgent"
    assert "911" in " ".join(m["text"] for m in question)
    groin, leg = (b["payload"] for m in question for b in m["buttons"])
    assert "safety/clarify" not in chat.topics("numb when sitting")
    check_advice(chat.post(postback=groin).json()["messages"], "rf1")
    other = server.open()
    other.say("my butt goes numb when i sit")
    messages = other.post(postback=leg).json()["messages"]
    assert {m["metadata"]["topic"] for m in messages} == {"symptoms/numbness_tingling"}


def test_the_second_net_finds_what_no_pattern_does(chat: Chat, detector: RedFlagDetector) -> None:
    text = "a needle tip is lodged inside me since the session, what now"
    assert detector.scan(text) is None
    check_advice(chat.say(text), "rf10")


def test_after_the_advice_the_talk_can_go_on(chat: Chat) -> None:
    messages = chat.say("numb down there and cant pee")
    payloads = {b["title"]: b["payload"] for m in messages for b in m["buttons"]}
    assert payloads["Call 911"] == "tel:911"
    response = chat.post(postback=payloads["I've been checked"])
    answer = response.json()["messages"][0]
    assert answer["metadata"]["topic"] == "been_checked"
    assert "If it comes back or gets worse, go again" in answer["text"]
    assert chat.topics("what is sciatica") == ["symptoms/what_is_sciatica"]


def test_a_crisis_shows_988_first_and_sells_nothing(chat: Chat) -> None:
    messages = chat.say("i want to die")
    buttons = [b for m in messages for b in m["buttons"]]
    assert buttons[0] == {"title": "Call 988", "payload": "tel:988"}
    assert len(messages) <= 2


def test_advice_comes_even_without_a_valid_session(server: Server) -> None:
    response = server.http.post("/webchat/messages", json={"text": "i cant pee since last night"})
    assert response.status_code == 200
    check_advice(response.json()["messages"], "rf1")
    assert server.http.post("/webchat/messages", json={"text": "hello"}).status_code == 401


async def _broken(message: Any) -> None:
    raise RuntimeError("broken on purpose")


async def test_the_advice_comes_though_everything_behind_it_fails() -> None:
    messages = await converse(_broken, "someone", "numb down there and cant pee", 5.0)
    check_advice(messages, "rf1")


def test_the_advice_needs_no_model() -> None:
    response = advice_for("i want to die")
    assert response is not None
    assert "988" in response["text"]
    assert advice_for("what is sciatica") is None


def test_the_advice_comes_though_the_office_file_broke_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = tmp_path / "office.yml"
    shutil.copy(PROJECT / "office.yml", office)
    monkeypatch.setenv("OFFICE_FILE", str(office))
    advice._book.cache_clear()
    try:
        assert advice_for("hello") is None  # the self-test's questions are the first texts
        office.write_text("phone: [unclosed")
        assert advice_for("i want to die") is not None
    finally:
        advice._book.cache_clear()


def test_rules_that_break_while_the_server_runs_stay_in_use(tmp_path: Path) -> None:
    rules = tmp_path / "data" / "safety" / "red_flags.yml"
    rules.parent.mkdir(parents=True)
    good = (PROJECT / "data" / "safety" / "red_flags.yml").read_bytes()
    with pytest.raises(SafetyRulesError, match="cannot be read"):
        load_detector(tmp_path)
    rules.write_bytes(good)
    detector = load_detector(tmp_path)
    for broken in (b"groups: [unclosed", b"", b"red_flags: 5"):
        rules.write_bytes(broken)
        assert load_detector(tmp_path) is detector
    rules.unlink()
    assert load_detector(tmp_path) is detector
    rules.write_bytes(good)
    assert load_detector(tmp_path).scan("i want to die") is not None


# Records.


def counted(server: Server) -> Counter[tuple[str, str]]:
    found = server.rows("SELECT rule, level, count FROM red_flag_counts")
    return Counter({(rule, level): count for rule, level, count in found})


def wait_for_count(server: Server, before: Counter[tuple[str, str]], alarms: int) -> Counter[Any]:
    """Return what was counted since; the counter works behind the answer's back."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        new = counted(server) - before
        if new.total() >= alarms:
            return new
        time.sleep(0.05)  # between looks; the deadline decides, not this
    raise AssertionError(f"counted only {counted(server) - before}")


def test_alarms_are_counted_by_rule_and_level_and_their_words_are_not(server: Server) -> None:
    chat = server.open()
    chat.say("what is sciatica")
    before = counted(server)
    chat.say("my chest feels tight, unmistakable zebra")
    chat.say("i cant pee since last night " * 200)  # too long for the model
    chat.say("thank you")
    assert wait_for_count(server, before, 2) == {
        ("heart_lung", "emergency_911"): 1,
        ("cauda_equina", "emergency_room"): 1,
    }
    kept = server.rows("SELECT * FROM red_flag_counts")
    assert {tuple(row.keys()) for row in kept} == {("day", "rule", "level", "count")}
    assert "zebra" not in str(kept)


def test_a_failing_database_neither_delays_nor_loses_the_advice(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'counts.db'}")
    red_flag_counts.drop(engine)
    counter = RedFlagCounter(engine)
    advice = [{"metadata": {"topic": "safety/crisis"}}]
    counter.count("i want to die", advice)
    with pytest.raises(sa.exc.OperationalError), engine.connect() as connection:
        connection.execute(sa.select(red_flag_counts))
    counter.close()


def test_a_counter_without_a_thread_does_not_cost_the_advice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without memory no thread can be started; a counter that was closed has none either."""
    counter = RedFlagCounter(engine_for(f"sqlite:///{tmp_path / 'counts.db'}"))
    counter.close()
    counter.count("i want to die", [{"metadata": {"topic": "safety/crisis"}}])
    assert "could not be counted" in caplog.text


def test_the_counter_adds_up(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'counts.db'}")
    counter = RedFlagCounter(engine)
    for text in ("i want to die", "something else that only the classifier saw"):
        counter.count(text, [{"metadata": {"topic": "safety/crisis"}}])
    counter.count("hello", [{"metadata": {"topic": "greet"}}])
    counter.close()
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(red_flag_counts.c.rule, red_flag_counts.c.level, red_flag_counts.c.count)
        ).all()
    assert [tuple(row) for row in found] == [("crisis", "crisis", 2)]
