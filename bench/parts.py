"""The parts of the measurement: each takes an assistant, or its running server, and notes figures."""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.assistants import Assistant, Ours, Server, form_conversation, read_yaml, write_yaml
from bench.figures import percentile
from bench.load import Turn
from bench.messages import KINDS, QUESTIONS, Message, conversations
from bench.processes import MeasuringError, end_of, say, send_traffic

START = "start"
"""Time until ready, and memory then: measured each time that a server is started."""

SERVER_PARTS = ("latency", "throughput", "saturation", "long")
"""What is measured on a running server, in this order."""

VISITORS = (1, 4, 16, 64)
RATES = (0.5, 0.8, 1.1, 1.5, 2.0)
"""Of the throughput of 16 visitors: how much is sent to find where the server saturates."""

_MANY = 16  # visitors
_PIECE = 2.0  # seconds, after which the next server is talked to
_ENDS = 10  # turns at either end of the long conversation that are compared
_LEAST_ANSWERED = 0.99  # of the messages of one visitor; else the figures mean nothing


@dataclass(frozen=True)
class Scale:
    """How long to measure.

    Attributes:
        rounds: how often the assistants are started and measured.
        passes: how often one visitor holds all conversations in a round.
        seconds: for each number of visitors and each rate.
        turns: of the long conversation.
        milestones: numbers of messages after which memory is looked at.
    """

    rounds: int
    passes: int
    seconds: float
    turns: int
    milestones: tuple[int, ...]


FULL = Scale(rounds=5, passes=5, seconds=20, turns=300, milestones=(1_000, 10_000))
QUICK = Scale(rounds=1, passes=1, seconds=4, turns=60, milestones=(100, 300))


@dataclass
class Notes:
    """What was measured; becomes the JSON of the results.

    Attributes:
        values: one entry for each figure of an assistant in a round.
        turns: all messages of one visitor, for whoever wants to know more.
    """

    values: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)

    def note(
        self, assistant: str, round_: int, figure: str, value: float, at_least: bool = False
    ) -> None:
        """Note a figure.

        Args:
            assistant: whose.
            round_: in which round.
            figure: its name.
            value: in the unit that the name says.
            at_least: whether it was cut off there.
        """
        entry = {"assistant": assistant, "round": round_, "figure": figure, "value": value}
        self.values.append({**entry, "at_least": True} if at_least else entry)


class ServerParts:
    """Measures the parts that need a running server.

    Args:
        notes: takes the figures.
        scale: how long to measure.
    """

    def __init__(self, notes: Notes, scale: Scale) -> None:
        self._notes = notes
        self._scale = scale

    def measure(self, assistants: list[Assistant], round_: int, parts: Collection[str]) -> None:
        """Start the servers, note how long that took, and measure the parts on them in their order.

        All run together and are talked to in turn, a few seconds each: a shared machine changes its
        speed by half within a minute. An idle server takes no time from another.

        Raises:
            MeasuringError: one does not start, or leaves messages without an answer.
        """
        with ExitStack() as stack:
            runs = []
            for assistant in assistants:
                server = stack.enter_context(assistant.served())
                say(f"Round {round_ + 1}, {assistant.name}: ready in {server.start_seconds:.1f} s.")
                run = _Run(self._notes, self._scale, assistant, server, round_)
                run.start()
                run.warm_up()
                runs.append(run)
            for part in (part for part in SERVER_PARTS if part in parts):
                say(f"Round {round_ + 1}: {part}.")
                getattr(self, part)(runs)

    def latency(self, runs: list[_Run]) -> None:
        """One visitor at a time: how long each kind of message takes."""
        for _ in range(self._scale.passes):
            for run in runs:
                run.say_everything()
        for run in runs:
            run.note_latency()

    def throughput(self, runs: list[_Run]) -> None:
        """Several visitors at a time, each waiting for its answers."""
        pieces = math.ceil(self._scale.seconds / _PIECE)
        for visitors in VISITORS:
            for _ in range(pieces):
                for run in runs:
                    run.talk_together(visitors, self._scale.seconds / pieces)
            for run in runs:
                run.note_throughput(visitors)

    def saturation(self, runs: list[_Run]) -> None:
        """Messages at a fixed rate, below and above what a server can do: one server at a time."""
        for run in runs:
            run.saturation()

    def long(self, runs: list[_Run]) -> None:
        """One conversation of many turns, with one server after the other."""
        for run in runs:
            run.long()

    def measure_memory(self, assistant: Assistant, round_: int) -> None:
        """Start a server for it alone, and look at its memory as its messages become many.

        Raises:
            MeasuringError: it does not start.
        """
        with assistant.served() as server:
            say(f"Round {round_ + 1}, {assistant.name}: memory.")
            _Run(self._notes, self._scale, assistant, server, round_).memory()


@dataclass
class _Together:
    """What visitors who talked at the same time got: milliseconds of each answer, in all seconds."""

    answered: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return len(self.answered) / self.seconds


class _Run:
    """One assistant's server in one round."""

    def __init__(
        self, notes: Notes, scale: Scale, assistant: Assistant, server: Server, round_: int
    ) -> None:
        self._notes = notes
        self._scale = scale
        self._assistant = assistant
        self._server = server
        self._round = round_
        self._sent = 0
        self._turns: list[Turn] = []
        self._together: dict[int, _Together] = defaultdict(_Together)  # by number of visitors

    def start(self) -> None:
        """Note the start that has just been."""
        self._note("start until ready, s", self._server.start_seconds)
        self._note("memory when ready, MB", self._server.memory())

    def warm_up(self) -> None:
        """Get what happens only once behind it."""
        self._send("in_turn", conversations=len(conversations()))

    def say_everything(self) -> None:
        """Hold each conversation once, and the form's twice."""
        self._turns += self._send("in_turn", conversations=len(conversations()))
        talk = [form_conversation(self._assistant)]
        self._turns += self._send("in_turn", talk, conversations=2)

    def note_latency(self) -> None:
        """Note how long each kind of message took."""
        _check_answered(self._turns, self._server.log)
        by_kind: dict[str, list[float]] = defaultdict(list)
        for kind, milliseconds, _ in self._turns:
            by_kind[kind].append(milliseconds)
        for kind in KINDS:
            for share in (50, 95, 99):
                value = percentile(by_kind[kind], share / 100)
                self._note(f"{kind} p{share}, ms", value)
        entry = {"assistant": self._assistant.name, "round": self._round, "turns": self._turns}
        self._notes.turns.append(entry)

    def talk_together(self, visitors: int, seconds: float) -> None:
        """Let so many visitors talk for some time, each waiting for its answers."""
        turns, took = self._timed("together", visitors=visitors, seconds=seconds)
        so_far = self._together[visitors]
        so_far.answered += [milliseconds for _, milliseconds, words in turns if words]
        so_far.seconds += took

    def note_throughput(self, visitors: int) -> None:
        """Note what so many visitors got together."""
        found = self._together[visitors]
        who = f"{visitors} visitors" if visitors > 1 else "1 visitor"
        self._note(f"throughput, {who}, messages/s", found.rate)
        if found.answered:
            self._note(f"p95, {who}, ms", percentile(found.answered, 0.95))

    def saturation(self) -> None:
        """Messages at a fixed rate, below and above what the server can do."""
        if _MANY not in self._together:
            self.talk_together(_MANY, self._scale.seconds)
            self.note_throughput(_MANY)
        most = self._together[_MANY].rate
        for share in RATES:
            turns = self._send("at_rate", rate=share * most, seconds=self._scale.seconds)
            answered = [milliseconds for _, milliseconds, words in turns if words]
            self._note(f"answered at {share:g} of capacity, %", 100 * len(answered) / len(turns))
            if answered:
                self._note(f"p95 at {share:g} of capacity, ms", percentile(answered, 0.95))

    def long(self) -> None:
        """One conversation of many turns: whether the last are slower than the first."""
        texts = [QUESTIONS[turn % len(QUESTIONS)].text for turn in range(self._scale.turns)]
        talk = [[Message(f"turn {turn}", "", text) for turn, text in enumerate(texts, 1)]]
        turns = self._send("in_turn", talk, conversations=1)
        times = [milliseconds for _, milliseconds, _ in turns]
        first = percentile(times[:_ENDS], 0.5)
        last = percentile(times[-_ENDS:], 0.5)
        self._note(f"first {_ENDS} turns, ms", first)
        self._note(f"last {_ENDS} of {self._scale.turns} turns, ms", last)
        self._note("last turns beside the first, times", last / first)

    def memory(self) -> None:
        """Resident memory after so many messages, or a few more."""
        before = 0.0
        per_pass = sum(map(len, conversations()))
        for milestone in self._scale.milestones:
            left = math.ceil((milestone - self._sent) / per_pass)
            self._send("in_turn", conversations=left * len(conversations()))
            memory = self._server.memory()
            self._note(f"memory after {milestone:,} messages, MB", memory)
            if before:
                self._note("growth of memory between them, %", 100 * (memory / before - 1))
            before = memory

    def _send(self, way: str, talk: list[list[Message]] | None = None, **how: Any) -> list[Turn]:
        return self._timed(way, talk, **how)[0]

    def _timed(
        self, way: str, talk: list[list[Message]] | None = None, **how: Any
    ) -> tuple[list[Turn], float]:
        plan = traffic_plan(self._assistant, [self._server.address], way, talk, **how)
        happened = send_traffic(plan)
        self._sent += len(happened["turns"])
        return happened["turns"], happened["seconds"]

    def _note(self, figure: str, value: float) -> None:
        self._notes.note(self._assistant.name, self._round, figure, value)


def traffic_plan(
    assistant: Assistant,
    addresses: list[str],
    way: str,
    talk: list[list[Message]] | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Return a plan for `bench.load`.

    Args:
        assistant: whom the visitors talk to.
        addresses: of its servers.
        way: a method of `bench.load.Traffic`.
        talk: the conversations; the usual ones by default.
        how: the method's arguments.
    """
    return {
        "channel": assistant.channel,
        "addresses": addresses,
        "conversations": [[(m.kind, m.text) for m in one] for one in talk or conversations()],
        "way": way,
        "arguments": how,
    }


def _check_answered(turns: list[Turn], log: Path) -> None:
    silent = [kind for kind, _, words in turns if not words]
    if len(silent) > (1 - _LEAST_ANSWERED) * len(turns):
        raise MeasuringError(
            f"{len(silent)} of {len(turns)} messages got no words back ({sorted(set(silent))}), so "
            f"the times mean nothing.\n{end_of(log)}"
        )


def measure_training(assistant: Assistant, round_: int, notes: Notes, limit: float) -> None:
    """Train from nothing, then after editing one answer, then after adding one example.

    Args:
        assistant: a prepared one, in a folder that nothing else uses.
        round_: the number of the round.
        notes: takes the figures.
        limit: seconds after which a training is stopped; its figure is then a lower bound.

    Raises:
        MeasuringError: a training failed.
    """
    shutil.rmtree(assistant.folder / "models", ignore_errors=True)
    shutil.rmtree(assistant.folder / ".rasa", ignore_errors=True)
    page = assistant.folder / "data" / "faq" / "diet.yml"
    document = read_yaml(page)
    write_yaml(page, document)  # in the form in which it is written below
    steps = ["from nothing"]
    if document.get("responses"):
        steps += ["after editing one answer", "after adding one example"]
    for step in steps:
        if step == "after editing one answer":
            next(iter(document["responses"].values()))[0]["text"] += " Ask us."
        elif step == "after adding one example":
            document["nlu"][0]["examples"] += f"- is food part of it, asked {round_ + 1} times\n"
        write_yaml(page, document)
        say(f"Round {round_ + 1}, {assistant.name}: training {step}.")
        seconds = assistant.train(limit)
        stopped = seconds is None
        value = limit if seconds is None else seconds
        notes.note(assistant.name, round_, f"training {step}, s", value, at_least=stopped)
        if stopped:
            return  # what comes after builds on it


def measure_workers(assistant: Ours, round_: int, notes: Notes, scale: Scale) -> None:
    """Two processes beside one, on the same PostgreSQL and Redis, with 16 visitors.

    Raises:
        MeasuringError: a server does not start.
    """
    from tests.postgres import postgres_database, postgres_server
    from tests.redis_server import redis_server

    with postgres_server() as postgres, redis_server() as redis:
        for count, name in ((1, "one process"), (2, "two processes")):
            with postgres_database(postgres) as database, ExitStack() as stack:
                say(f"Round {round_ + 1}, {assistant.name}: {name} on PostgreSQL and Redis.")
                shared = {"DATABASE_URL": database, "REDIS_URL": redis}
                servers = [stack.enter_context(assistant.served(**shared)) for _ in range(count)]
                addresses = [server.address for server in servers]
                for seconds in (2.0, scale.seconds):  # the first is to warm up
                    plan = traffic_plan(
                        assistant, addresses, "together", visitors=_MANY, seconds=seconds
                    )
                    happened = send_traffic(plan)
                answered = sum(has_words for _, _, has_words in happened["turns"])
                figure = f"throughput with PostgreSQL and Redis, {name}, messages/s"
                notes.note(assistant.name, round_, figure, answered / happened["seconds"])
