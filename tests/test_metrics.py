"""What /metrics shows, and that the dashboard and the alerts name only what it shows."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from sanic import Sanic
from sanic.response import empty

from assistant.metrics import GAUGES, Metrics, metrics_blueprint, process_metrics
from tests.conftest import PROJECT

TOKEN = "a-token-of-more-than-32-characters-for-tests"
MONITORING = PROJECT / "deploy" / "monitoring"
_number = itertools.count()

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def all_gauges() -> Mapping[str, float | None]:
    return {name: float(place) for place, name in enumerate(GAUGES)}


@asynccontextmanager
async def served(
    metrics: Metrics,
    read: Callable[[], Awaitable[Mapping[str, float | None]]] = all_gauges,
    token: str = "",
    production: bool = False,
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the metrics over HTTP, as the assistant does."""
    app = Sanic(f"metrics_{next(_number)}", configure_logging=False)
    app.blueprint(metrics_blueprint(token, production, read, metrics))
    app.add_route(lambda request: empty(), "/")  # Sanic refuses to start without any route
    listening = socket.create_server(("127.0.0.1", 0))
    server = await app.create_server(sock=listening, return_asyncio_server=True, access_log=False)
    assert server is not None
    await server.startup()
    try:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=address, timeout=10) as client:
            yield client
    finally:
        server.close()
        await server.wait_closed()


def few() -> Metrics:
    return Metrics({"diet/gluten", "out_of_scope", "safety/stroke"}, {"rephrase"}, {"stroke"})


def samples(body: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[(name, tuple(sorted(labels.items())))]


def answer(topic: str = "", **more: str) -> dict[str, Any]:
    metadata = {"topic": topic, **more} if topic else more
    return {"text": "x", "buttons": [], "metadata": metadata}


async def test_a_turn_is_counted_once_in_each_way() -> None:
    metrics = few()
    metrics.received("webchat")
    metrics.answered("webchat", 0.012, [answer("diet/gluten"), answer("diet/gluten")])
    metrics.received("webchat")
    metrics.answered("webchat", 0.7, [answer("out_of_scope", step="rephrase")])
    metrics.received("webchat")
    metrics.failed("timeout")
    metrics.answered("webchat", 15.5, [answer()])
    metrics.empty_reply("webchat")
    metrics.red_flag("stroke", "emergency_911")
    metrics.refused("webchat", "too_fast")
    async with served(metrics) as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(response.text)
    assert value(found, "assistant_messages_total", channel="webchat") == 3
    assert value(found, "assistant_answers_total", area="diet", topic="diet/gluten") == 1
    assert value(found, "assistant_answers_total", area="none", topic="none") == 1
    assert value(found, "assistant_fallbacks_total", step="rephrase") == 1
    assert value(found, "assistant_failures_total", kind="timeout") == 1
    assert value(found, "assistant_failures_total", kind="storage") == 0
    assert value(found, "assistant_empty_replies_total", channel="webchat") == 1
    assert value(found, "assistant_red_flags_total", rule="stroke", level="emergency_911") == 1
    assert value(found, "assistant_refused_requests_total", channel="webchat", code="too_fast") == 1
    buckets = {
        bound: value(found, "assistant_answer_seconds_bucket", channel="webchat", le=bound)
        for bound in ("0.01", "0.02", "0.5", "1.0", "15.0", "+Inf")
    }
    assert list(buckets.values()) == [0, 1, 1, 2, 2, 3]
    assert value(found, "assistant_answer_seconds_sum", channel="webchat") == pytest.approx(16.212)
    assert value(found, "process_resident_memory_bytes") > 0


async def test_two_topics_in_one_answer_count_both() -> None:
    metrics = few()
    metrics.answered("webchat", 0.1, [answer("diet/gluten"), answer("safety/stroke")])
    found = samples(metrics.exposition({}).decode())
    assert value(found, "assistant_answers_total", area="diet", topic="diet/gluten") == 1
    assert value(found, "assistant_answers_total", area="safety", topic="safety/stroke") == 1


HOSTILE = [
    "Xanthippe Vauquelin", "747-555-0188", 'x"} 1\nforged_total 7', "diet/" + "x" * 10_000,
    "web-4aZ", "192.0.2.7", "💉", "", "\ud800", "diet/gluten ",
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_not_known_counts_as_other(hostile: str) -> None:
    metrics = few()
    before = samples(metrics.exposition({}).decode())
    metrics.received(hostile)
    metrics.answered(hostile, 0.1, [answer(hostile or "?", step=hostile or "?")])
    metrics.red_flag(hostile, hostile)
    metrics.empty_reply(hostile)
    metrics.failed(hostile)
    metrics.refused(hostile, hostile)
    after = samples(metrics.exposition({}).decode())
    new = {key for key in after.keys() - before.keys() if not key[0].startswith("python_")}
    assert len(new) > 8
    for _, labels in new:
        assert {text for label, text in labels if label != "le"} == {"other"}
    assert value(after, "assistant_answers_total", area="other", topic="other") == 1
    assert value(after, "assistant_messages_total", channel="other") == 1


def test_the_project_s_own_topics_steps_and_rules_are_known() -> None:
    found = samples(process_metrics().exposition({}).decode())
    topics = {dict(labels)["topic"] for name, labels in found if name == "assistant_answers_total"}
    assert {"diet/gluten", "out_of_scope", "book", "greet", "safety/stroke"} <= topics
    assert 100 < len(topics) < 300
    steps = {dict(labels)["step"] for name, labels in found if name == "assistant_fallbacks_total"}
    assert steps == {"did_you_mean", "rephrase", "topics", "contact"}
    assert (
        value(found, "assistant_red_flags_total", rule="cauda_equina", level="emergency_room") == 0
    )
    assert not [name for name, _ in found if name.endswith("_created")]


async def test_a_token_is_asked_for_when_there_is_one() -> None:
    async with served(few(), token=TOKEN, production=True) as client:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN},
                      {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": b"Bearer \xff"}):  # fmt: skip
            response = await client.get("/metrics", headers=given)
            assert response.status_code == 401, given
            assert "assistant_" not in response.text
        right = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert right.status_code == 200
        assert "assistant_ready" in right.text


async def test_without_a_token_it_is_open_in_development_and_absent_in_production() -> None:
    async with served(few()) as client:
        assert (await client.get("/metrics")).status_code == 200
    async with served(few(), production=True) as client:
        assert (await client.get("/metrics")).status_code == 404


async def test_gauges_are_read_at_each_scrape() -> None:
    waiting = itertools.count(5)

    async def read() -> Mapping[str, float | None]:
        return {"outbox_pending": next(waiting), "outbox_dead": 1, "ready": None}

    async with served(few(), read) as client:
        first = samples((await client.get("/metrics")).text)
        second = samples((await client.get("/metrics")).text)
    assert value(first, "assistant_outbox_messages", state="pending") == 5
    assert value(second, "assistant_outbox_messages", state="pending") == 6
    assert value(first, "assistant_outbox_messages", state="dead") == 1
    assert ("assistant_ready", ()) not in first


async def broken() -> Mapping[str, float | None]:
    raise OSError("the database is away")


async def unknown() -> Mapping[str, float | None]:
    return {"lunch": 1, "ready": 1}


async def hanging() -> Mapping[str, float | None]:
    await asyncio.sleep(3600)
    return {}


@pytest.mark.parametrize("read", [broken, unknown, hanging])
async def test_what_cannot_be_read_does_not_stop_the_scrape(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.metrics._READ_SECONDS", 0.05)
    metrics = few()
    metrics.received("webchat")
    async with served(metrics, read) as client:
        response = await client.get("/metrics")
    assert response.status_code == 200
    found = samples(response.text)
    assert value(found, "assistant_messages_total", channel="webchat") == 1
    assert (
        ("assistant_ready", ()) in found
        if read is unknown
        else ("assistant_ready", ()) not in found
    )


# What the dashboard and the alert rules ask for must exist.

_NAME = re.compile(r"\b(?:assistant|process|python)_[a-z_]+\b")
_SELECTED = re.compile(r"\b((?:assistant|process)_[a-z_]+)\{([^}]*)\}")
_GROUPED = re.compile(r"\bby \(([a-z_, ]+)\)")
_BY_PROMETHEUS = {"job", "instance"}


def dashboard_queries() -> dict[str, str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    queries = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            queries[variable["name"]] = variable["definition"]
    return queries


def alert_queries() -> dict[str, str]:
    document = YAML(typ="safe").load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule["expr"] for rule in rules}


async def labels_by_name() -> dict[str, set[str]]:
    async with served(process_metrics()) as client:
        found = samples((await client.get("/metrics")).text)
    labels: dict[str, set[str]] = {}
    for name, pairs in found:
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    return labels


async def test_dashboard_and_alerts_ask_only_for_metrics_and_labels_that_exist() -> None:
    shown = await labels_by_name()
    queries = {**dashboard_queries(), **alert_queries()}
    assert len(queries) > 30
    for place, query in queries.items():
        names = set(_NAME.findall(query))
        assert names or query == 'up{job="assistant"} == 0', f"{place} asks for nothing"
        assert names <= shown.keys(), f"{place} asks for {names - shown.keys()}"
        for name, selected in _SELECTED.findall(query):
            asked = set(re.findall(r"([a-z_]+)\s*(?:=|!)", selected))
            assert asked <= shown[name] | _BY_PROMETHEUS, f"{place}: {name} has no {asked}"
        grouped = {label.strip() for found in _GROUPED.findall(query) for label in found.split(",")}
        known = set().union(*(shown[name] for name in names)) if names else set()
        assert grouped <= known | _BY_PROMETHEUS, f"{place} groups by {grouped - known}"


def test_everything_that_is_counted_is_on_the_dashboard() -> None:
    asked = {name for query in dashboard_queries().values() for name in _NAME.findall(query)}
    counted = {
        family.name
        for family in text_string_to_metric_families(
            few().exposition(dict.fromkeys(GAUGES, 1.0)).decode()
        )
        if family.name.startswith("assistant_")
    }
    assert len(counted) > 10
    missing = [n for n in counted if not asked & {n, f"{n}_total", f"{n}_bucket"}]
    assert missing == []


def test_every_alert_is_explained_and_tried_out() -> None:
    explained = (PROJECT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    tried = (MONITORING / "alerts_test.yml").read_text(encoding="utf-8")
    names = list(alert_queries())
    assert len(names) > 8
    assert [name for name in names if f"`{name}`" not in explained] == []
    assert [name for name in names if f'alertname="{name}"' not in tried] == []


def test_every_metric_is_explained() -> None:
    explained = (PROJECT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    exposed = few().exposition(dict.fromkeys(GAUGES, 1.0)).decode()
    names = set(re.findall(r"^# TYPE (assistant_[a-z_]+)", exposed, re.MULTILINE))
    assert len(names) > 10
    assert [name for name in names if f"`{name}" not in explained] == []


def test_panels_of_the_dashboard_have_their_own_place_and_data_source() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert (x, y) not in taken, f"{panel['title']} covers {taken[(x, y)]}"
                taken[(x, y)] = panel["title"]
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities)
