"""The measuring itself: its arithmetic, its traffic, and the projects that it compares with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bench.assistants import OURS, RULES, STOCK, RulesOnly, Stock, read_yaml
from bench.figures import over_rounds, percentile, ratio
from bench.load import run
from bench.messages import KINDS, OTHERS, QUESTIONS, conversations
from bench.report import Results, markdown, picture
from tests.conftest import PROJECT


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.95) == 95
    assert percentile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_rounds_give_median_and_spread() -> None:
    assert over_rounds([3.0, 9.0, 4.0]) == (4.0, 3.0, 9.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was three times as slow in the second round, for both.
    assert ratio([10.0, 30.0], [20.0, 60.0]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="cannot be divided"):
        ratio([1.0], [0.0])


def _results(*values: tuple[str, int, str, float]) -> dict[str, Any]:
    keys = ("assistant", "round", "figure", "value")
    entries = [dict(zip(keys, value, strict=True)) for value in values]
    return {"circumstances": {"machine": "2 cores"}, "values": entries}


def test_only_rounds_with_both_are_compared() -> None:
    figure = "FAQ p50, ms"
    found = Results(
        _results(
            (OURS, 0, figure, 10),
            (STOCK, 0, figure, 100),
            (OURS, 1, figure, 30),
            (RULES, 1, figure, 10),
        )
    )
    assert found.ratio(figure, STOCK) == (0.1, 0.1, 0.1)
    assert found.ratio(figure, RULES) == (3.0, 3.0, 3.0)
    assert found.keeps(figure) is False  # 3 times the rules-only, though a tenth of stock


def test_more_throughput_is_better() -> None:
    figure = "throughput, 16 visitors, messages/s"
    assert Results(_results((OURS, 0, figure, 70), (STOCK, 0, figure, 10))).keeps(figure) is True
    assert Results(_results((OURS, 0, figure, 30), (STOCK, 0, figure, 10))).keeps(figure) is False


def test_growth_of_memory_has_a_limit_of_its_own() -> None:
    figure = "growth of memory between them, %"
    assert Results(_results((OURS, 0, figure, 1.9))).keeps(figure) is True
    assert Results(_results((OURS, 0, figure, 2.1))).keeps(figure) is False
    assert Results(_results((STOCK, 0, figure, 1.0))).keeps(figure) is None


def test_what_was_cut_off_is_shown_as_a_bound() -> None:
    figure = "training from nothing, s"
    results = _results((OURS, 0, figure, 40), (STOCK, 0, figure, 1800))
    results["values"][1]["at_least"] = True
    report = markdown(Results(results), "picture.svg")
    assert "| 40.0 | at least 1,800 |" in report
    assert "at most 0.02" in report
    assert "| kept |" in report
    results["values"][1]["value"] = 60  # stopped long before it could tell
    assert Results(results).keeps(figure) is None


def test_the_picture_has_a_bar_for_each_assistant() -> None:
    figure = "memory when ready, MB"
    found = Results(
        _results((OURS, 0, figure, 500), (STOCK, 0, figure, 1000), (RULES, 0, figure, 400))
    )
    bars = [line for line in picture(found).split("<rect ") if 'height="12" fill' in line]
    widths = [line.split('width="')[1].split('"')[0] for line in bars if 'width="12"' not in line]
    assert widths == ["235.0", "470.0", "188.0"]


def test_conversations_hold_each_question_once_and_all_other_kinds() -> None:
    said = [message for talk in conversations() for message in talk]
    assert sorted(m.text for m in said) == sorted(m.text for m in (*QUESTIONS, *OTHERS))
    assert {m.kind for m in said} == {kind for kind in KINDS if kind != "form turn"}


@asynccontextmanager
async def _rest_server(answer: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/webhooks/rest/webhook", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _plan(address: str, way: str, **arguments: Any) -> dict[str, Any]:
    talk = [[("FAQ", "one"), ("FAQ", "two")], [("fallback", "three")]]
    return {
        "channel": "rest",
        "addresses": [address],
        "conversations": talk,
        "way": way,
        "arguments": arguments,
    }


async def test_one_visitor_after_the_other() -> None:
    heard: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        heard.append((body["sender"], body["message"]))
        if body["message"] == "two":
            return web.json_response([])  # nothing to say
        return web.json_response([{"text": "Well."}])

    async with _rest_server(answer) as address:
        happened = await run(_plan(address, "in_turn", conversations=3))
    assert [text for _, text in heard] == ["one", "two", "three", "one", "two"]
    assert len({sender for sender, _ in heard}) == 3
    answered = [(kind, words) for kind, _, words in happened["turns"]]
    assert answered == [
        ("FAQ", True), ("FAQ", False), ("fallback", True), ("FAQ", True), ("FAQ", False)
    ]  # fmt: skip


async def test_a_rate_is_kept_though_the_server_does_not_answer() -> None:
    waiting = 0
    all_came = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            all_came.set()
        await asyncio.wait_for(all_came.wait(), timeout=20)  # who waits for answers, fails here
        return web.json_response([{"text": "At last."}])

    async with _rest_server(answer) as address:
        happened = await run(_plan(address, "at_rate", rate=100.0, seconds=0.2))
    assert len(happened["turns"]) == 20
    assert all(words for _, _, words in happened["turns"])
    times = sorted(milliseconds for _, milliseconds, _ in happened["turns"])
    assert times[-1] > 150  # the first waited for the last, which was due 190 ms later


async def test_a_server_that_is_gone_gives_no_words() -> None:
    happened = await run(_plan("http://127.0.0.1:1", "in_turn", conversations=1))
    assert [words for _, _, words in happened["turns"]] == [False, False]


@pytest.mark.parametrize("kind", [Stock, RulesOnly])
def test_what_we_compare_with_names_no_action_that_it_lacks(
    kind: type[Stock] | type[RulesOnly], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    if kind is Stock:
        Stock(folder, tmp_path, PROJECT, epochs=1).prepare()
    else:
        RulesOnly(folder, tmp_path, PROJECT).prepare()
    domain = read_yaml(folder / "domain.yml")
    documents = [read_yaml(path) for path in (folder / "data").rglob("*.yml")]
    flows = [flow for d in documents for flow in (d.get("rules") or []) + (d.get("stories") or [])]
    actions = {step["action"] for flow in flows for step in flow["steps"] if "action" in step}
    known = {*domain["responses"], *domain["forms"], *domain["actions"]}
    for document in documents:
        known |= set(document.get("responses") or {})
        known |= {name.partition("/")[0] for name in document.get("responses") or {}}
    known |= {name.partition("/")[0] for name in domain["responses"]}
    assert len(actions) > 15
    assert actions <= known


def test_no_keyword_holds_another_intents(tmp_path: Path) -> None:
    """The KeywordIntentClassifier ends with an error where one does."""
    RulesOnly(tmp_path / "project", tmp_path, PROJECT).prepare()
    nlu = read_yaml(tmp_path / "project" / "data" / "keywords.yml")["nlu"]
    keywords = [
        (block["intent"], line.removeprefix("- ").lower())
        for block in nlu
        for line in block["examples"].splitlines()
    ]
    assert len(keywords) > 50
    for intent, keyword in keywords:
        holders = {other for other, longer in keywords if f" {keyword} " in f" {longer} "}
        assert holders == {intent}
