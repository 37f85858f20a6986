"""The curated bad input, against the shared server; `make fuzz` sends a hundred thousand more."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from assistant.metrics import Metrics
from assistant.settings import load_settings
from tests.conftest import Server
from tests.fuzz.generated import generated
from tests.fuzz.inputs import FORM, NOWHERE, OPEN, STEPS, Input, curated, message
from tests.fuzz.judge import Judge
from tests.fuzz.run import CANARIES, Fuzz, Report, each
from tests.fuzz.watch import Watch
from tests.fuzz.wire import Answer, Request

IN_THE_FORM = 5
"""Of so many inputs in the form one is sent here: each costs a tenth of a second and more."""


def send(server: Server, inputs: list[Input]) -> Report:
    watch = Watch(server.alone)
    watch.new_errors()  # what earlier tests made it log is not ours
    fuzz = Fuzz(watch, Judge(CANARIES), load_settings().secret, lambda line: None)
    return asyncio.run(fuzz.run(each(inputs)))


def test_every_curated_input_is_answered_as_it_must_be(server: Server) -> None:
    inputs = curated()
    outside = [one for one in inputs if one.at not in STEPS]
    within = [one for one in inputs if one.at in STEPS][::IN_THE_FORM]
    assert len({one.name for one in outside}) >= 500
    report = send(server, outside + within)
    assert [str(finding) for finding in report.findings] == []
    assert report.sent == len(outside) + len(within)
    # A suite that is refused at the door finds nothing: a good share must have come to Rasa.
    assert sum(report.places.values()) >= 300
    assert set(STEPS) <= set(report.places)
    assert report.topics["safety"] >= 5


def test_generated_input_is_varied_and_repeatable() -> None:
    first, second = (list(generated(300, 7)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 300
    drawn = {one.why for one in first}
    assert {"a message", "a body", "a token", "headers", "an address", "the wire"} <= drawn
    assert FORM in {one.at for one in first}


ASKED = message("x", "a question", {"text": "hi"}, OPEN)
GOOD = b'{"messages": [{"text": "Hello.", "buttons": [], "metadata": {}}]}'
JSON = (("content-type", "application/json"),)
PROMETHEUS = (("content-type", "text/plain; version=0.0.4; charset=utf-8"),)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(500, JSON, b'{"error": {"code": "x", "message": "It went wrong here."}}'), "500"),
        (Answer(503, JSON, b'{"error": {"code": "x", "message": "It went wrong here."}}'), "503"),
        (Answer(400, (("content-type", "text/plain"),), b"Bad Request"), "shape"),
        (Answer(200, JSON, b'{"messages": []}'), "silent"),
        (Answer(200, JSON, GOOD, seconds=2.5), "late"),
        (Answer(200, JSON, GOOD.replace(b"Hello", b"Zanthorpe")), "another visitor"),
        (Answer(200, JSON, GOOD.replace(b"Hello", b"KeyError: x")), "inside"),
        (Answer(200, JSON, GOOD.replace(b"Hello", b"See /usr/lib")), "inside"),
        (Answer(200, JSON, GOOD.replace(b"Hello", b"Dear {contact_name}")), "inside"),
        (Answer(200, (("content-type", "text/html"),), b"<p>"), "neither"),
        (Answer(200, PROMETHEUS, b"no such thing"), "Prometheus"),
        (Answer(trouble="closed"), "closed"),
        (Answer(429, JSON, b'{"error": {"code": "x", "message": "Please wait a bit."}}'), "Retry"),
    ],
)
def test_the_judge_finds_what_is_wrong(answer: Answer, fault: str) -> None:
    (found, *_) = Judge(CANARIES).faults(replace(ASKED, statuses=frozenset()), answer, [], 0.0)
    assert fault in found


def test_the_judge_finds_nothing_in_a_right_answer_nor_in_the_visitors_own_words() -> None:
    judge = Judge(CANARIES)
    assert judge.faults(ASKED, Answer(200, JSON, GOOD), [], 0.0) == []
    own = Answer(200, JSON, GOOD.replace(b"Hello", b"So you are KeyError: x"))
    assert judge.faults(ASKED, own, ["my name is KeyError: x"], 0.0) == []
    assert judge.faults(ASKED, Answer(200, JSON, GOOD, seconds=3.0), [], 1.5) == []
    metrics = Metrics((), (), ()).exposition({})
    assert (
        judge.faults(
            replace(ASKED, statuses=frozenset()), Answer(200, PROMETHEUS, metrics), [], 0.0
        )
        == []
    )


@pytest.mark.parametrize("length", ["-5", "abc", "+2", "1_0", "9" * 20, "2, 2"])
def test_a_length_that_is_none_does_not_stop_the_server(server: Server, length: str) -> None:
    head = f"POST /webchat/session HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{}}"
    request = Request(raw=head.encode())
    report = send(server, [Input("length", length, request, NOWHERE, frozenset({400}))])
    assert [str(finding) for finding in report.findings] == []
    assert server.http.get("/health/live", timeout=5).status_code == 200
    os.kill(server.process.pid, 0)


@pytest.mark.parametrize(("path", "status"), [("/webchat/session", 400), ("/nowhere", 404)])
def test_a_body_in_bad_chunks_is_refused_or_thrown_away(
    server: Server, path: str, status: int
) -> None:
    """Where nobody reads the body, Sanic reads what is left of it after its answer."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n>\r\n{{}}\r\n"
    request = Request(raw=head.encode())
    report = send(server, [Input("chunks", ">", request, NOWHERE, frozenset({status}))])
    assert [str(finding) for finding in report.findings] == []
    assert server.http.get("/health/live", timeout=5).status_code == 200
