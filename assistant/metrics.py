"""What this process counts and measures, for Prometheus: `GET /metrics`.

Every label takes its values from a closed set that is known at the start. Whatever else comes counts
as `other`, so no visitor can write into the metrics or make them grow.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from sanic import Blueprint
from sanic.request import Request
from sanic.response import HTTPResponse, raw

from assistant.content.catalogue import load_catalogue
from assistant.safety.detector import LEVELS, load_detector
from assistant.settings import project_folder

logger = logging.getLogger(__name__)

CHANNELS = ("webchat", "messenger", "whatsapp", "sms", "telegram", "slack", "twilio")
"""Where messages come from. WhatsApp and SMS share a webhook, whose refusals count for "twilio"."""

LOSSES = ("refused", "dead")
"""Why an answer never reached its sender: the platform refused it for good, or did not take it for too long."""

FAILURES = ("timeout", "storage", "error")
"""Why a message got an apology, or its advice alone, instead of an answer."""

REFUSALS = (
    "busy", "forged", "internal", "invalid_session", "malformed", "method_not_allowed", "not_found",
    "not_ready", "origin_not_allowed", "postback_not_offered", "private_chat", "refused", "storage",
    "text_too_long", "timeout", "too_fast", "too_large", "unsigned",
)  # fmt: skip
"""The codes of the errors that a channel answers with."""

GAUGES: Mapping[str, tuple[str, str, dict[str, str]]] = {
    "ready": ("assistant_ready", "1 if /health/ready says ready, else 0.", {}),
    "lock_degraded": (
        "assistant_lock_degraded",
        "1 while the shared lock store is away and locks hold in this process alone, else 0.",
        {},
    ),
    "outbox_pending": (
        "assistant_outbox_messages",
        "Messages to the office that wait to be delivered, or were given up (dead).",
        {"state": "pending"},
    ),
    "outbox_dead": (
        "assistant_outbox_messages",
        "Messages to the office that wait to be delivered, or were given up (dead).",
        {"state": "dead"},
    ),
    "event_stream_pending": (
        "assistant_event_stream_pending",
        "Events that are stored and wait to be sent to the event stream.",
        {},
    ),
    "channel_pending": (
        "assistant_channel_messages",
        "Messages of messaging channels that wait for their answer, or whose answer was given up (dead).",
        {"state": "pending"},
    ),
    "channel_dead": (
        "assistant_channel_messages",
        "Messages of messaging channels that wait for their answer, or whose answer was given up (dead).",
        {"state": "dead"},
    ),
    "turns_under_way": (
        "assistant_turns_under_way",
        "Messages that are being answered.",
        {},
    ),
}
"""Names of what is read at each scrape, with the metric, its help and its labels."""

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 15)
_READ_SECONDS = 3.0  # a scraper waits ten by default
_OTHER = "other"
_NONE = "none"

Message = Mapping[str, Any]
"""A message of the web chat contract."""


class Metrics:
    """The counters of one process.

    Args:
        topics: all topics that can be answered.
        steps: the steps of the fallback.
        rules: the rules that find red flags.
        channels: the channels that are on; their series start at 0, so that the first count shows.
    """

    def __init__(
        self,
        topics: Iterable[str],
        steps: Iterable[str],
        rules: Iterable[str],
        channels: Iterable[str] = ("webchat",),
    ) -> None:
        # Else each counter brings a second series, with the time when it was made.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._topics, self._steps, self._rules = set(topics), set(steps), set(rules)
        self._registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.PlatformCollector(registry=self._registry)
        self._messages = self._counter(
            "messages", "Messages of visitors that were accepted.", "channel"
        )
        self._seconds = Histogram(
            "assistant_answer_seconds",
            "Seconds from an accepted message to its answer, waiting for the one before included.",
            ["channel"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._answers = self._counter(
            "answers",
            "Answers by topic; an answer to two questions counts for both. "
            "Area out_of_scope: the message was turned away.",
            "area",
            "topic",
        )
        self._fallbacks = self._counter(
            "fallbacks", "Answers to messages that were not understood, by step.", "step"
        )
        self._red_flags = self._counter(
            "red_flags", "Advice that was given on red flags.", "rule", "level"
        )
        self._empty_replies = self._counter(
            "empty_replies", "Messages to which Rasa said nothing; they got an apology.", "channel"
        )
        self._failures = self._counter(
            "failures", "Messages that could not be answered as usual, by kind.", "kind"
        )
        self._refused = self._counter(
            "refused_requests", "Requests that got an error, by its code.", "channel", "code"
        )
        self._undelivered = self._counter(
            "undelivered_answers",
            "Answers that no platform took, by the reason.",
            "channel",
            "reason",
        )
        self._begin(tuple(channels))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"assistant_{name}", meaning, labels, registry=self._registry)

    def _begin(self, channels: tuple[str, ...]) -> None:
        for channel in channels:
            self._messages.labels(channel)
            self._seconds.labels(channel)
            self._empty_replies.labels(channel)
            for code in REFUSALS:
                self._refused.labels(channel, code)
        for channel in CHANNELS[1:-1]:
            for reason in LOSSES:
                self._undelivered.labels(channel, reason)
        for topic in self._topics:
            self._answers.labels(_area(topic), topic)
        for step in self._steps:
            self._fallbacks.labels(step)
        for rule in self._rules:
            for level in LEVELS:
                self._red_flags.labels(rule, level)
        for kind in FAILURES:
            self._failures.labels(kind)

    def received(self, channel: str) -> None:
        """Count a message that was accepted."""
        self._messages.labels(_one_of(CHANNELS, channel)).inc()

    def answered(self, channel: str, seconds: float, messages: Iterable[Message]) -> None:
        """Count an accepted message as answered.

        Args:
            channel: where it came from.
            seconds: since it was accepted.
            messages: the answer, as the web chat sends it.
        """
        self._seconds.labels(_one_of(CHANNELS, channel)).observe(seconds)
        metadata = [message.get("metadata") or {} for message in messages]
        named = {str(item["topic"]) for item in metadata if item.get("topic")}
        for topic in {_one_of(self._topics, name) for name in named} or {_NONE}:
            self._answers.labels(_area(topic), topic).inc()
        for step in {_one_of(self._steps, str(i["step"])) for i in metadata if i.get("step")}:
            self._fallbacks.labels(step).inc()

    def red_flag(self, rule: str, level: str) -> None:
        """Count advice on a red flag."""
        self._red_flags.labels(_one_of(self._rules, rule), _one_of(LEVELS, level)).inc()

    def empty_reply(self, channel: str) -> None:
        """Count a message to which Rasa said nothing."""
        self._empty_replies.labels(_one_of(CHANNELS, channel)).inc()

    def failed(self, kind: str) -> None:
        """Count a message that could not be answered as usual; the kind is one of `FAILURES`."""
        self._failures.labels(_one_of(FAILURES, kind)).inc()

    def refused(self, channel: str, code: str) -> None:
        """Count a request that got an error; the code is one of `REFUSALS`."""
        self._refused.labels(_one_of(CHANNELS, channel), _one_of(REFUSALS, code)).inc()

    def undelivered(self, channel: str, reason: str) -> None:
        """Count an answer that never reached its sender; the reason is one of `LOSSES`."""
        self._undelivered.labels(_one_of(CHANNELS, channel), _one_of(LOSSES, reason)).inc()

    def exposition(self, gauges: Mapping[str, float | None]) -> bytes:
        """Return all metrics in Prometheus' text format.

        Args:
            gauges: what was read for this scrape, by the names of `GAUGES`; None is left out.
        """
        registry = CollectorRegistry()
        made: dict[str, Gauge] = {}
        for name, value in gauges.items():
            if name not in GAUGES:
                logger.error("There is no gauge '%s'; it is left out.", name)
            elif value is not None:
                metric, meaning, labels = GAUGES[name]
                if metric not in made:
                    made[metric] = Gauge(metric, meaning, list(labels), registry=registry)
                (made[metric].labels(**labels) if labels else made[metric]).set(value)
        return bytes(generate_latest(self._registry) + generate_latest(registry))


@lru_cache(maxsize=1)
def process_metrics() -> Metrics:
    """Return the metrics of this process, made when first asked for.

    A topic that is new needs a training, and so a new start, before it can be answered. That is why
    the topics are read once.

    Raises:
        ContentError: a content file cannot be used.
        SafetyRulesError: the rules for red flags cannot be used.
    """
    answers = load_catalogue(project_folder()).answers.values()
    return Metrics(
        topics={answer.topic for answer in answers},
        steps={answer.step for answer in answers if answer.step},
        rules=load_detector(project_folder()).rules,
    )


def metrics_blueprint(
    token: str,
    production: bool,
    read: Callable[[], Awaitable[Mapping[str, float | None]]],
    metrics: Metrics | None = None,
) -> Blueprint:
    """Return the route.

    Args:
        token: what a scraper must bring as `Authorization: Bearer`; "" asks for nothing, and in
            production takes the route away.
        production: whether visitors reach this server.
        read: reads the gauges, by the names of `GAUGES`. It leaves out those that it cannot read,
            or sets them None; if it raises or takes too long, all are left out.
        metrics: those of this process, by default.
    """
    blueprint = Blueprint("metrics")
    if production and not token:
        return blueprint

    @blueprint.get("/metrics")
    async def show(request: Request) -> HTTPResponse:
        given = request.headers.get("authorization", "").encode(errors="surrogateescape")
        if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return raw(
                b"The token is missing or wrong; see METRICS_TOKEN.\n",
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
                content_type="text/plain; charset=utf-8",
            )
        body = (metrics or process_metrics()).exposition(await _gauges(read))
        return raw(
            body, headers={"Cache-Control": "no-store"}, content_type=CONTENT_TYPE_PLAIN_0_0_4
        )

    return blueprint


async def _gauges(
    read: Callable[[], Awaitable[Mapping[str, float | None]]],
) -> Mapping[str, float | None]:
    try:
        return await asyncio.wait_for(read(), _READ_SECONDS)
    except Exception as error:
        # What is counted must be seen just when the rest is broken.
        logger.warning("The gauges could not be read: %s", type(error).__name__)
        return {}


def _area(topic: str) -> str:
    return topic.partition("/")[0]


def _one_of(known: Collection[str], value: str) -> str:
    return value if value in known else _OTHER
