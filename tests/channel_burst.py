"""Bursts of messages while a platform fails one call in ten: none lost, none twice, all in order.

    python -m tests.channel_burst --messages 1000 --senders 200

is the long run; `tests/test_channel_burst.py` does a small one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.channel_server import (
    Channels,
    Line,
    start_channels,
    stop_channels,
)
from tests.platforms.base import (
    BROKEN,
    NOT_JSON,
    TOO_MANY,
    Fault,
    WebhookCall,
    Written,
    fresh_number,
)

QUESTIONS = (
    ("Where can I park?", "There is a lot behind the building."),
    ("How much is the first visit?", "First visit: $111"),
    ("Should I avoid gluten?", "giving up gluten"),
    ("Does acupuncture hurt?", "prick"),
    ("Which insurance do you take?", "Imaginary Mutual"),
)
"""What is asked, and what only its answer holds."""

FAULTS = (BROKEN, Fault(503), TOO_MANY, NOT_JSON, Fault(status=500, seconds=0.5))


class OneInTen:
    """Fails one call in ten, in each way in turn."""

    def __init__(self, random: random.Random) -> None:
        self._random = random
        self._faults: Iterator[Fault] = itertools.cycle(FAULTS)
        self.failed = 0

    def __call__(self, count: int, recipient: str) -> Fault | None:
        if self._random.random() >= 0.1:
            return None
        self.failed += 1
        return next(self._faults)


def burst(line: Line, messages: int, senders: int, seed: int = 9) -> dict[str, float]:
    """Let senders write in bursts, some messages twice; return the figures.

    Raises:
        AssertionError: a message was lost, answered twice, or out of its order.
    """
    chance = random.Random(seed)
    patients = [line.platform.new_sender() for _ in range(senders)]
    asked: dict[str, list[str]] = {patient: [] for patient in patients}
    bursts: list[list[Written]] = []
    for patient in patients:
        mine = []
        for place in range(messages // senders):
            question, answer = QUESTIONS[(place + patients.index(patient)) % len(QUESTIONS)]
            number = fresh_number()
            mine.append(Written(patient, question, message_id=f"SM{number:032x}", order=number))
            asked[patient].append(answer)
        bursts.append(mine)
    chance.shuffle(bursts)
    faults = OneInTen(chance)
    line.platform.fault_for = faults
    before = line.platform.calls_made
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda mine: _write(line, mine, chance), bursts))
        accepted = time.monotonic() - began
        line.settle(600.0)
    finally:
        line.platform.fault_for = lambda *_: None
    lost = twice = disordered = 0
    for patient, answers in asked.items():
        read = "\n".join(sent.text for sent in line.platform.sent_to(patient))
        places = [read.find(answer) for answer in answers]
        lost += places.count(-1)
        twice += sum(max(read.count(answer) - 1, 0) for answer in answers)
        disordered += places != sorted(places)
    figures = {
        "messages": float(messages // senders * senders),
        "senders": float(senders),
        "failed calls": float(faults.failed),
        "calls": float(line.platform.calls_made - before),
        "seconds until all were accepted": round(accepted, 1),
        "seconds until all were answered": round(time.monotonic() - began, 1),
        "lost": float(lost),
        "twice": float(twice),
        "senders out of order": float(disordered),
    }
    assert (lost, twice, disordered) == (0, 0, 0), figures
    assert line.platform.problems == []
    return figures


def _write(line: Line, mine: list[Written], chance: random.Random) -> None:
    for written in mine:
        for call in line.platform.calls(written):
            _deliver(line, call)
            if chance.random() < 0.2:  # platforms send again what they are not sure of
                _deliver(line, call)


def _deliver(line: Line, call: WebhookCall) -> None:
    """Make a call, and make it again when the server has no room for it, as platforms do."""
    for _ in range(20):
        response = line.post(call)
        if response.status_code != 503:
            break
        time.sleep(0.5)  # a platform waits for longer
    assert line.platform.is_acknowledged(response.status_code, response.content), response.text


def main() -> None:
    """Run it on a server of its own, and print the figures."""
    parser = argparse.ArgumentParser(description="Bursts of messages on a failing platform.")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--senders", type=int, default=200)
    parser.add_argument("--channel", default="sms")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A busy machine may take seconds for a call; who gives up too early sends it twice.
        channels: Channels = start_channels(Path(folder), CHANNEL_CALL_SECONDS="30")
        try:
            line = channels.line(options.channel)
            print(json.dumps(burst(line, options.messages, options.senders), indent=2))
        finally:
            stop_channels(channels)


if __name__ == "__main__":
    main()
