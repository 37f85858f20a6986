"""Two workers under load while one after the other is killed: is any conversation lost or mixed up?

Two workers share a PostgreSQL and a Redis of the tests' own. Some hundred visitors at a time ask,
ask on, book, raise red flags, write twice at once, send again what got no answer, and delete their
chats: so many messages a second, whether answers come or not. A minute or two after both workers
were up one is killed (SIGKILL, now and then SIGTERM) and started again after five, as a supervisor would. In the
end what the visitors saw is compared with what the store holds and what the office got.

    python -m tests.soak --minutes 10 --rate 20
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from tests.cluster import WORKERS
from tests.conftest import PROJECT, Server, start_server
from tests.postgres import postgres_database, postgres_server
from tests.receivers import WebhookReceiver, lasting_port
from tests.redis_server import redis_server
from tests.soak_check import Comparison
from tests.soak_visits import Sent, Visitors

LEAST_PAUSE, MOST_PAUSE = 60.0, 120.0  # seconds with both workers before the next kill
DOWN_SECONDS = 5.0
DRAIN_SECONDS = 30.0  # the most that a worker may take to stop in order


@dataclass
class Worker:
    """A worker of the cluster, which is started anew whenever it ended."""

    number: int
    folder: Path
    settings: dict[str, str]
    port: int = field(default_factory=lasting_port)
    starts: int = 0
    server: Server | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.starts += 1
        place = self.folder / f"worker-{self.number}-start-{self.starts}"
        place.mkdir()
        self.server = start_server(place, self.port, **self.settings)


@dataclass
class Supervisor:
    """Keeps the workers up, and kills one from time to time.

    Attributes:
        down: spans of the monotonic clock in which one worker was away.
        kills: how often which signal was sent.
        violations: what no worker may do.
    """

    workers: list[Worker]
    chance: random.Random
    say: Callable[[str], None]
    down: list[tuple[float, float]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    drained: list[float] = field(default_factory=list)

    async def run(self, over: asyncio.Event) -> None:
        """Kill one worker after the other, each when both are up, until it is over."""
        turn = 0
        while True:
            pause = self.chance.uniform(LEAST_PAUSE, MOST_PAUSE)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(over.wait(), pause)
            if over.is_set():
                return
            worker = self.workers[turn % len(self.workers)]
            turn += 1
            await self._replace(worker, "SIGTERM" if turn % 4 == 0 else "SIGKILL")

    async def _replace(self, worker: Worker, name: str) -> None:
        assert worker.server
        process = worker.server.process
        if process.poll() is not None:
            self.violations.append(f"worker {worker.number} ended by itself ({process.returncode})")
        began = time.monotonic()
        self.kills[name] += 1
        process.send_signal(signal.Signals[name])
        try:
            await asyncio.to_thread(process.wait, DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.violations.append(f"worker {worker.number} did not stop on {name}")
            process.kill()
        if name == "SIGTERM":
            self.drained.append(time.monotonic() - began)
            if process.returncode != 0:
                self.violations.append(f"a drained worker ended with {process.returncode}")
        await asyncio.sleep(DOWN_SECONDS)
        try:
            await asyncio.to_thread(worker.start)
        except AssertionError as error:
            self.violations.append(f"worker {worker.number} did not come back: {error}")
        self.down.append((began, time.monotonic()))
        self.say(
            f"       worker {worker.number}: {name}, back after {time.monotonic() - began:.0f} s"
        )


async def soak(
    folder: Path, database_url: str, redis_url: str, seconds: float, rate: float, seed: int
) -> dict[str, Any]:
    """Run the soak; return its figures, with the violations under that name."""
    chance = random.Random(seed)
    office = WebhookReceiver()
    office.start()
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WEBHOOK_URLS": office.url,
        "WEBHOOK_SECRET": f"whsec_{base64.b64encode(os.urandom(32)).decode()}",
    }
    workers = [Worker(number, folder, settings) for number in range(1, WORKERS + 1)]
    supervisor = Supervisor(workers, chance, _say)
    visitors = Visitors([worker.address for worker in workers], chance)
    try:
        await asyncio.gather(*(asyncio.to_thread(worker.start) for worker in workers))
        _say("Both workers are ready.")
        over = asyncio.Event()
        killing = asyncio.create_task(supervisor.run(over))
        began = time.monotonic()
        await visitors.visit(seconds, rate, _say)
        ended = time.monotonic()
        over.set()
        await killing
        await asyncio.to_thread(_wait_until_delivered, workers)
        for worker in workers:
            assert worker.server
            if worker.server.process.poll() is not None:
                supervisor.violations.append(f"worker {worker.number} ended by itself")
                continue
            if not worker.server.http.get("/health/ready").json()["shared_order"]:
                supervisor.violations.append(f"worker {worker.number} locks without Redis")
    finally:
        for worker in workers:
            if worker.server:
                worker.server.process.kill()
                worker.server.process.wait()
        office.stop()
    engine = sa.create_engine(database_url)
    comparison = Comparison(engine, visitors.conversations, office.calls)
    await asyncio.to_thread(comparison.run)
    engine.dispose()
    sent = [sent for one in visitors.conversations for sent in one.sent]
    return {
        "seconds": round(ended - began),
        "kills": dict(supervisor.kills),
        "seconds with one worker": round(sum(end - start for start, end in supervisor.down)),
        "seconds to stop on SIGTERM": [round(one, 1) for one in supervisor.drained],
        **_counted(visitors, sent),
        **_latencies(sent, supervisor.down),
        "calls tried again, by reason": dict(visitors.troubles.most_common()),
        "store": dict(sorted(comparison.figures.items())),
        "log": _complaints(folder),
        "violations": visitors.violations + supervisor.violations + comparison.violations,
    }


def _counted(visitors: Visitors, sent: list[Sent]) -> dict[str, Any]:
    answered = [one for one in sent if one.answer]
    return {
        "conversations": len(visitors.conversations),
        "messages sent": len(sent),
        "by kind": dict(Counter(one.kind for one in sent)),
        "answered": len(answered),
        "answered at the first try": sum(one.tries == 1 for one in answered),
        "most tries for an answer": max((one.tries for one in answered), default=0),
        "apologies": sum(one.is_apology for one in answered),
        "given up": len(sent) - len(answered),
    }


def _latencies(sent: list[Sent], down: list[tuple[float, float]]) -> dict[str, Any]:
    """Return percentiles, in seconds from the moment when a visitor sent to the answer."""
    kinds: dict[str, list[float]] = {"both workers up": [], "one worker up": []}
    for one in sent:
        if one.answer:
            away = any(start <= one.due_at <= end for start, end in down)
            kinds["one worker up" if away else "both workers up"].append(
                one.answered_at - one.due_at
            )
    kinds["all"] = kinds["both workers up"] + kinds["one worker up"]
    return {f"seconds to the answer, {name}": _percentiles(one) for name, one in kinds.items()}


def _percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    found = {"p50": cuts[499], "p95": cuts[949], "p99": cuts[989], "most": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def _complaints(folder: Path) -> dict[str, int]:
    """Return the errors and warnings of the workers' logs, by their first words."""
    found: Counter[str] = Counter()
    for log in folder.glob("*/server.log"):
        for line in log.read_text().splitlines():
            complaint = re.search(r"\b(?:ERROR|WARNING)\b.*", line)
            if complaint:
                found[re.sub(r" request_id=.*|\d+", "", complaint.group())[:100]] += 1
    return dict(found.most_common(12))


def _wait_until_delivered(workers: list[Worker]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        ready = httpx.get(f"{workers[0].address}/health/ready", timeout=30).json()
        if ready["outbox"] and ready["outbox"]["pending"] == 0:
            return
        time.sleep(0.5)  # between looks; the deadline decides
    _say("Not everything was delivered within three minutes.")


def _say(line: str) -> None:
    print(line, flush=True)


def _show(figures: dict[str, Any]) -> None:
    for name, figure in figures.items():
        if name == "violations":
            continue
        if isinstance(figure, dict):
            figure = ", ".join(f"{key} {value}" for key, value in figure.items()) or "none"
        _say(f"{name:42} {figure}")
    for violation in figures["violations"]:
        _say(f"VIOLATION: {violation[:2000]}")


def main() -> None:
    """Run from the command line; the exit code is 1 if anything was lost, doubled or mixed up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long [10]")
    parser.add_argument("--rate", type=float, default=20, help="messages a second [20]")
    parser.add_argument("--seed", type=int, default=5, help="of the chances [5]")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs, which stay there")
    arguments = parser.parse_args()
    from assistant.training import train

    train(PROJECT, print)
    with tempfile.TemporaryDirectory() as temporary, redis_server() as redis_url:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with postgres_server() as postgres, postgres_database(postgres) as database_url:
            figures = asyncio.run(
                soak(
                    folder,
                    database_url,
                    redis_url,
                    arguments.minutes * 60,
                    arguments.rate,
                    arguments.seed,
                )
            )
    _show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if not figures["store"].get("answers compared"):
        sys.exit("No answer was compared, so nothing was tested.")
    if figures["violations"]:
        sys.exit(f"{len(figures['violations'])} violations.")
    _say("Nothing that was answered is lost, doubled or mixed up.")


if __name__ == "__main__":
    main()
