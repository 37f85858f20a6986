"""The model's parts run in their order, with what they need, and in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from rasa.core.channels.channel import UserMessage
from rasa.engine.graph import GraphComponent, GraphSchema, SchemaNode

from assistant.graph_runner import OrderedGraphRunner
from assistant.health import is_live

CALLS: list[str] = []


class Joined(GraphComponent):
    """Joins what it is given, and its own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @classmethod
    def create(cls, config: dict[str, Any], *_: Any, **__: Any) -> Joined:
        return cls(config["name"])

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


def test_a_message_is_understood_beside_the_event_loop(
    agent: Any, loop: asyncio.AbstractEventLoop
) -> None:
    assert isinstance(agent.processor.graph_runner, OrderedGraphRunner)
    threads = []
    understand = agent.processor._parse_message_with_graph

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return understand(*arguments)

    agent.processor._parse_message_with_graph = noted
    try:
        parsed = loop.run_until_complete(
            agent.processor.parse_message(UserMessage("do i need an mri"))
        )
    finally:
        del agent.processor._parse_message_with_graph
    assert parsed["intent"]["full_retrieval_intent_name"] == "symptoms/imaging"
    assert threads == ["understanding_0"]


def test_a_message_that_is_never_understood_is_told_by_the_health_page(
    agent: Any, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, released = threading.Event(), threading.Event()

    def hang(*_: Any) -> dict[str, Any]:
        hangs.set()
        assert released.wait(60)
        return {"text": "", "intent": {"name": None}, "entities": []}

    monkeypatch.setattr(agent.processor, "_parse_message_with_graph", hang)
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
