"""Nothing that a visitor saw confirmed is lost, whatever is killed when.

`python -m tests.crash_requests --kills 200` is the long run of the second test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import PROJECT
from tests.crash_at_each_step import draft_of
from tests.crash_requests import Office, Visits, check, run


@pytest.fixture
def office(database_url: str) -> Iterator[Office]:
    office = Office(database_url)
    office.start()
    yield office
    office.stop()


def test_killed_at_each_step_of_storing_and_delivering(office: Office) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.crash_at_each_step"],
        cwd=PROJECT,
        env={**os.environ, **office.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    lives = [json.loads(line) for line in result.stdout.splitlines()]
    assert lives[-1]["killed"] is False, "the last one had a whole life"
    confirmed = [life for life in lives if life["number"]]
    assert 20 < len(confirmed) < len(lives) - 20, "they died before and after the answer"
    visits = Visits(
        {draft_of(life["life"]).key: draft_of(life["life"]) for life in lives},
        {draft_of(life["life"]).key: life["number"] for life in confirmed},
    )
    figures = check(office, visits)
    assert figures["unconfirmed and whole"] >= 1, "one died between the commit and the answer"
    assert figures["mails again"] >= 1, "one died between a delivery and its note"


def test_killed_at_random_moments_while_receivers_go_up_and_down(office: Office) -> None:
    figures = run(office, kills=5, seed=5, say=print)
    assert figures["confirmed"] > 20
    assert figures["attempts"] > figures["mails"] + figures["calls"] - figures["mails again"]
