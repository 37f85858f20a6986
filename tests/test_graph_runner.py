"""The model's parts run in their order, with what they need, ahead, and in a thread of their own."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rasa.core.channels.channel import UserMessage
from rasa.core.policies.rule_policy import RulePolicy
from rasa.engine.graph import GraphComponent, GraphSchema, SchemaNode
from rasa.shared.core.domain import Domain
from rasa.shared.nlu.training_data.message import Message

from assistant.graph_runner import OrderedGraphRunner, StoredDomain
from assistant.health import is_live
from assistant.rules import IntentRules
from assistant.understanding.sentence_encoder import SentenceEncoder
from tests.conftest import PROJECT

CALLS: list[str] = []


class Joined(GraphComponent):
    """Joins what it is given, and its own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @classmethod
    def create(cls, config: dict[str, Any], *_: Any, **__: Any) -> Joined:
        return cls(config["name"])

    def prepare(self, **given: str) -> None:
        CALLS.append(f"{self._name} prepared for {given}")

    def join(self, **given: str) -> str:
        CALLS.append(self._name)
        return f"{self._name}({', '.join(given[key] for key in sorted(given))})"


def node(name: str, **needs: str) -> SchemaNode:
    return SchemaNode(
        needs=needs,
        uses=Joined,
        constructor_name="create",
        fn="join",
        config={"name": name},
        eager=True,
    )


@pytest.fixture
def runner() -> OrderedGraphRunner:
    from rasa.engine.graph import ExecutionContext

    CALLS.clear()
    # On purpose not in the order in which they must run.
    schema = GraphSchema(
        {
            "last": node("last", one="left", two="right"),
            "left": node("left", one="first"),
            "right": node("right", one="first", two="__message__"),
            "aside": node("aside", one="first"),
            "first": node("first", one="__message__"),
        }
    )
    return OrderedGraphRunner.create(schema, None, ExecutionContext(schema))  # type: ignore[arg-type]


def test_each_part_runs_once_after_what_it_needs(runner: OrderedGraphRunner) -> None:
    for _ in range(2):  # the order is found once
        CALLS.clear()
        found = runner.run({"__message__": "hello"}, ["last"])
        assert found == {"last": "last(left(first(hello)), right(first(hello), hello))"}
        assert CALLS == ["first", "left", "right", "last"]


def test_only_what_the_targets_need_runs(runner: OrderedGraphRunner) -> None:
    assert runner.run({"__message__": "hi"}, ["left", "first"]) == {
        "left": "left(first(hi))",
        "first": "first(hi)",
    }
    assert CALLS == ["first", "left"]


def test_a_missing_input_is_named(runner: OrderedGraphRunner) -> None:
    with pytest.raises(KeyError, match="__message__"):
        runner.run({}, ["first"])
    assert CALLS == []


def test_what_is_there_runs_ahead_and_only_once(runner: OrderedGraphRunner) -> None:
    schema = runner._graph_schema
    schema.nodes["last"] = node("last", one="left", two="__tracker__")
    done = runner.run_ahead({"__message__": "hi"}, ["last"])
    assert done == {"__message__": "hi", "first": "first(hi)", "left": "left(first(hi))"}
    assert CALLS == ["first", "left", "last prepared for {'one': 'left(first(hi))'}"]
    CALLS.clear()
    assert runner.run({**done, "two": "x", "right": "r"}, ["left"]) == {"left": "left(first(hi))"}
    assert CALLS == []


def test_the_domain_is_read_as_rasa_reads_it(tmp_path: Path) -> None:
    stored = tmp_path / "domain"
    stored.mkdir()
    Domain.load(str(PROJECT / "domain.yml")).persist(stored / "domain.yml")

    class Folder:
        @contextmanager
        def read_from(self, _: Any) -> Iterator[Path]:
            yield stored

    provider = StoredDomain.load({}, Folder(), None, None)  # type: ignore[arg-type]
    found = provider.provide_inference()
    assert len(found.intents) > 20
    assert found.as_dict() == Domain.from_path(stored).as_dict()
    assert found.action_names_or_texts == Domain.from_path(stored).action_names_or_texts


def test_a_model_is_loaded_with_our_reader_of_the_domain(agent: Any) -> None:
    assert agent.domain.as_dict() == agent.processor.model_metadata.domain.as_dict()
    provider = agent.processor.graph_runner._nodes["domain_provider"]._component
    assert type(provider) is StoredDomain


def test_rules_decide_as_rasas_own(visitor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def both(policy: IntentRules, tracker: Any, domain: Domain) -> Any:
        found = RulePolicy._predict(policy, tracker, domain)
        rasas = copy.copy(policy)
        rasas.__class__ = RulePolicy  # type: ignore[assignment]
        expected = rasas._predict(tracker, domain)
        for name in ("probabilities", "events", "hide_rule_turn", "is_no_user_prediction"):
            assert getattr(found[0], name) == getattr(expected[0], name)
        compared.append(max(found[0].probabilities))
        return found

    monkeypatch.setattr(IntentRules, "_predict", both)
    talk = [
        *(
            "hello",
            "what is sciatica",
            "and how long does it last",
            "blorp the flanges",
            "/restart",
        ),
        *("I want to book an appointment", "Ann Example", "does it hurt?", "no", "maybe"),
        *("i can't pee and my groin is numb", "that's not what i have", "818 555 0100", "cancel"),
        *("does it hurt? and what does it cost?", "say that again", "start over", "thanks", "bye"),
    ]
    for text in talk:
        visitor.say(text)
    assert len(compared) > 2 * len(talk)
    assert sum(compared) > len(talk)


def test_a_message_begun_ahead_is_understood_the_same_and_begun_once(
    agent: Any, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = agent.processor
    asked: list[str] = []
    encode = SentenceEncoder.encode

    def noted(encoder: SentenceEncoder, texts: list[str]) -> Any:
        asked.extend(texts)
        return encode(encoder, texts)

    monkeypatch.setattr(SentenceEncoder, "encode", noted)

    def parse(text: str) -> dict[str, Any]:
        found: dict[str, Any] = loop.run_until_complete(processor.parse_message(UserMessage(text)))
        return found

    for text in ["do I need an MRI", "Does it hurt? And what does it cost?", "???"]:
        expected = parse(text)
        asked.clear()
        processor.read_ahead(text)
        processor.read_ahead(text)
        assert parse(text) == expected
        assert len(asked) == len(set(asked)), "a text was encoded twice"
    assert not processor._ahead


def test_what_fails_ahead_is_told_to_whoever_waits(
    agent: Any, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(agent.processor.graph_runner, "run_ahead", fail)
        agent.processor.read_ahead("do i need an mri")
        parsed = loop.run_until_complete(
            agent.processor.parse_message(UserMessage("do i need an mri"))
        )
    assert parsed["intent"]["full_retrieval_intent_name"] == "symptoms/imaging"


def test_what_is_begun_and_never_handled_is_forgotten(agent: Any) -> None:
    for number in range(200):
        agent.read_ahead(f"hello {number}")
    assert len(agent.processor._ahead) <= 64
    agent.processor._ahead.clear()


def test_a_message_is_understood_beside_the_event_loop(
    agent: Any, loop: asyncio.AbstractEventLoop
) -> None:
    assert isinstance(agent.processor.graph_runner, OrderedGraphRunner)
    threads = []
    understand = agent.processor._understand

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return understand(*arguments)

    agent.processor._understand = noted
    try:
        parsed = loop.run_until_complete(
            agent.processor.parse_message(UserMessage("do i need an mri"))
        )
    finally:
        del agent.processor._understand
    assert parsed["intent"]["full_retrieval_intent_name"] == "symptoms/imaging"
    assert [name.rpartition("_")[0] for name in threads] == ["understanding"]


def test_two_messages_are_understood_at_once(
    agent: Any, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    understand = agent.processor._understand

    def understood(*arguments: Any) -> Any:
        both.wait(30)  # an error, unless the other message is there too
        return understand(*arguments)

    monkeypatch.setattr(agent.processor, "_understand", understood)

    async def at_once() -> None:
        messages = [UserMessage("do i need an mri"), UserMessage("does it hurt")]
        await asyncio.gather(*map(agent.processor.parse_message, messages))

    loop.run_until_complete(at_once())


def test_many_messages_at_once_are_understood_as_each_alone(
    agent: Any, loop: asyncio.AbstractEventLoop
) -> None:
    texts = [
        "do I need an MRI",
        "how offen shuld i strech",
        "Does it hurt? And what does it cost?",
        "i cant pee and my groin is numb",
        "who won the game last night",
        "numb when I sit",
        "is tumeric any good for the pain in my leg",
        "I want to book an appointment",
    ]
    parse = agent.processor.parse_message
    alone = [loop.run_until_complete(parse(UserMessage(text))) for text in texts]
    assert len({parsed["intent"]["name"] for parsed in alone}) > 3

    async def at_once() -> list[dict[str, Any]]:
        for text in texts:
            agent.processor.read_ahead(text)
        return list(await asyncio.gather(*(parse(UserMessage(text)) for text in texts)))

    for _ in range(10):
        assert loop.run_until_complete(at_once()) == alone


def test_a_message_that_is_never_understood_is_told_by_the_health_page(
    agent: Any, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, released = threading.Event(), threading.Event()

    def hang(*_: Any) -> Message:
        hangs.set()
        assert released.wait(60)
        return Message({})

    monkeypatch.setattr(agent.processor, "_understand", hang)
    monkeypatch.setattr("assistant.health._STUCK_SECONDS", 0.0)
    assert is_live(agent)

    async def live_meanwhile() -> bool:
        message = asyncio.ensure_future(agent.processor.parse_message(UserMessage("hello")))
        await asyncio.to_thread(hangs.wait, 60)
        found = is_live(agent)
        released.set()
        await message
        return found

    assert not loop.run_until_complete(live_meanwhile())
    assert is_live(agent)
