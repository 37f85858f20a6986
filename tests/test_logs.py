"""Log lines: one shape, ids of requests, and nothing of what visitors write."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any

import httpx
import pytest
import structlog
from sanic import Blueprint, Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, text

from assistant.logs import configure_logs, gather_loggers, keep_out_of_logs, log_requests
from tests.conftest import PROJECT

NAME = "Xanthippe Vauquelin"
COMMON_NAME = "Rose Hill"
PHONE = "(747) 555-0188"
SAID = f"Hi {NAME} here, or {COMMON_NAME}, reach me under {PHONE} — Zoë says naïve, thanks"
CANARIES = re.compile(
    r"xanthippe|vauquelin|rose|hill|\b555\b|0188|zo[eë]|zo\\|zo%|na[iï]ve|na\\|na%|reach|thanks",
    re.IGNORECASE,
)

ours = logging.getLogger("assistant.tests")


class Log:
    """What was written; collects between two looks."""

    def __init__(self, stream: StringIO) -> None:
        self._stream = stream

    def text(self) -> str:
        """Return all that was written since the last look."""
        written = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return written

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines since the last look: each must be one."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """JSON lines at the lowest level; the process's logging is put back afterwards."""
    yield from kept(monkeypatch, "json", "DEBUG")


@pytest.fixture
def plain_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    yield from kept(monkeypatch, "plain", "INFO")


def kept(monkeypatch: pytest.MonkeyPatch, shape: str, level: str) -> Iterator[Log]:
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("threading.excepthook", sys.__excepthook__)
    handlers, lowest = logging.root.handlers[:], logging.root.level
    before = structlog.get_config()
    logging.captureWarnings(False)  # else it is a no-op now, if something has put it back by half
    configure_logs(shape, level)
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # whatever earlier tests switched off, or showed once
        yield Log(stream)
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(lowest)
    for name in ("assistant", "actions"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.configure(**before)


def rasa_logger(name: str = "rasa.core.processor") -> Any:
    return structlog.get_logger(name)


def test_every_line_has_the_same_shape(log: Log) -> None:
    ours.info("Started with %d topics.", 149)
    rasa_logger().warning("endpoint.read.failed", event_info="No file.", filename="endpoints.yml")
    logging.getLogger("sanic.error").error("Something\nin two lines")
    warnings.warn("An old option.", UserWarning, stacklevel=1)
    found = log.lines()
    assert [(line["logger"], line["level"]) for line in found] == [
        ("assistant.tests", "info"), ("rasa.core.processor", "warning"), ("sanic.error", "error"),
        ("py.warnings", "warning"),
    ]  # fmt: skip
    assert found[0]["message"] == "Started with 149 topics."
    assert found[1]["event_info"] == "No file."
    assert found[1]["filename"] == "endpoints.yml"
    assert found[2]["message"] == "Something\nin two lines"
    for line in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert list(line)[:4] == ["time", "level", "logger", "message"]


def test_an_exception_is_one_line_with_its_whole_traceback(log: Log) -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError:
        ours.exception("It failed.")
        rasa_logger().exception("action.run.failed")
        logging.getLogger("sanic.error").exception("Sanic saw it, too.")
    for line in (found := log.lines()):
        assert line["error"].startswith("Traceback")
        assert "KeyError: 'first'" in line["error"]
        assert line["error"].endswith("ValueError: second")
        assert "test_logs.py" in line["error"]
    assert len(found) == 3


# Rasa's own ways to log a message, gathered from its code.

TEXT_KEYS = (
    "text", "response_text", "user_text", "slot_values", "parse_data_text", "parse_data_entities",
    "prediction_events", "tracker_latest_message", "prefilled_slots", "message", "response",
    "slot_candidates", "rasa_event", "rasa_events", "tracker_states", "states", "entity",
    "token_text", "user_message", "json_message", "headers", "url", "anything_new",
)  # fmt: skip


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception"])
def test_rasas_structured_entries_keep_no_words(log: Log, level: str) -> None:
    for key in TEXT_KEYS:
        for value in (SAID, {"text": SAID}, [SAID], SAID.encode()):
            getattr(rasa_logger(), level)("processor.message.parse", **{key: value})
    written = log.text()
    assert not CANARIES.search(written), CANARIES.findall(written)
    assert ("processor.message.parse" in written) == (level not in ("debug", "info"))


def test_rasas_own_calls_on_a_message_leave_no_trace(log: Log) -> None:
    from rasa.core.nlg.interpolator import interpolate_text
    from rasa.shared.core.domain import Domain
    from rasa.shared.core.training_data.story_reader.yaml_story_reader import YAMLStoryReader
    from rasa.shared.nlu.training_data.message import Message

    interpolate_text(SAID + " {missing}", {"name": SAID})
    for said in (f"/{SAID}", f"/{NAME}", f'/{NAME}{{"name": {COMMON_NAME}'):
        with keep_out_of_logs(said):
            YAMLStoryReader.unpack_regex_message(Message({"text": said}), Domain.empty())
    found = log.lines()
    assert "interpolator.interpolate.text" in {line["message"] for line in found}
    assert any("[...]" in line["message"] for line in found), "Rasa did not quote the message"
    assert not CANARIES.search(json.dumps(found, ensure_ascii=False))


def libraries_quote(said: str) -> None:
    """Log a visitor's words in all the ways in which libraries may."""
    foreign = logging.getLogger("some.library")
    foreign.warning("cannot read %r", said)
    foreign.error(f"cannot read {said!a}")
    foreign.error("cannot read %s", json.dumps({"text": said}))
    foreign.error("cannot read %s", said.upper())
    foreign.error("no entity %r", said.split()[1:3])
    foreign.error("no entity %s", COMMON_NAME)
    foreign.debug("debug: %s", said)
    foreign.info("info: %s", said)
    warnings.warn(f"Failed to parse '{said}'.", UserWarning, stacklevel=1)
    for error in (ValueError(said), KeyError(said), RuntimeError(f"in\n{said}\n  File: x")):
        try:
            try:
                raise error
            except Exception as first:
                raise TypeError(f"because of {first}") from first
        except TypeError:
            ours.exception("It failed.")
            foreign.exception("It failed.")
            rasa_logger().exception("it.failed", text=said)
    try:
        int(f"{NAME} 12")
    except ValueError as error:
        ours.error("A number is no number: %s", error)


def test_while_a_message_is_answered_its_words_are_in_no_line(log: Log) -> None:
    with keep_out_of_logs(SAID):
        libraries_quote(SAID)
    written = log.text()
    assert not CANARIES.search(written), CANARIES.findall(written)
    assert len(written.splitlines()) == 17
    assert "TypeError: because of" in written


def test_afterwards_lines_are_whole_again(log: Log) -> None:
    with keep_out_of_logs("where is the office"), keep_out_of_logs("database"):
        logging.getLogger("some.library").error("the office has no database")
    logging.getLogger("some.library").error("the office has no database")
    during, after = (line["message"] for line in log.lines())
    assert during == "[...] [...] has no [...]"
    assert after == "the office has no database"


async def test_words_are_kept_out_in_the_tasks_and_threads_of_an_answer(log: Log) -> None:
    async def task() -> None:
        logging.getLogger("some.library").error("task: %s", SAID)
        await asyncio.to_thread(logging.getLogger("some.library").error, "thread: %s", SAID)

    with keep_out_of_logs(SAID):
        await asyncio.wait_for(task(), 5)
    assert not CANARIES.search(written := log.text())
    assert len(written.splitlines()) == 2


def test_a_visitor_cannot_blank_our_own_sentences(log: Log) -> None:
    with keep_out_of_logs("no answer within seconds error database timeout"):
        ours.error("No answer within %s seconds.", 15.0)
    assert log.lines()[0]["message"] == "No answer within 15.0 seconds."


def test_what_databases_quote_of_a_row_is_not_logged(log: Log) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (:said)"), {"said": SAID})
    except sa.exc.OperationalError:
        ours.exception("It was not stored.")
    quoted = f"null value\nDETAIL:  Failing row contains ({SAID},\n {SAID}).\n"
    ours.error("It was not stored.", exc_info=ValueError(quoted))
    first, second = log.lines()
    assert "no such table: t" in first["error"]
    assert "INSERT INTO t VALUES (?)" in first["error"]
    assert "null value" in second["error"]
    assert not CANARIES.search(first["error"] + second["error"])


def test_personal_data_is_replaced_also_when_no_message_is_being_answered(log: Log) -> None:
    ours.error("He said my name is %s and %s", NAME, PHONE)
    assert log.lines()[0]["message"] == "He said my name is [name] and [phone]"


def test_handlers_of_libraries_do_not_write_past_the_log(log: Log) -> None:
    late = logging.getLogger("late.library")
    late.addHandler(logging.StreamHandler(sys.stderr))
    late.propagate = False
    gather_loggers()
    late.error("one line")
    assert [line["message"] for line in log.lines()] == ["one line"]


def test_libraries_cannot_turn_their_own_chatter_on(log: Log) -> None:
    chatty = logging.getLogger("chatty.library")
    chatty.setLevel(logging.DEBUG)
    chatty.debug("sending %s", SAID)
    chatty.info("sent %s", SAID)
    chatty.warning("it was slow")
    assert [line["message"] for line in log.lines()] == ["it was slow"]


def test_plain_lines_are_for_people(plain_log: Log) -> None:
    try:
        raise ValueError(PHONE)
    except ValueError:
        ours.exception("It failed.")
    ours.debug("not shown")
    first, *rest = plain_log.text().splitlines()
    assert re.fullmatch(r"\S+Z ERROR assistant.tests: It failed.", first)
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: [phone]"


@pytest.mark.parametrize(("shape", "level"), [("xml", "INFO"), ("json", "LOUD")])
def test_a_shape_or_level_that_does_not_exist_is_refused(shape: str, level: str) -> None:
    with pytest.raises(ValueError, match=r"LOG_(FORMAT|LEVEL) is '\w+'; set it to"):
        configure_logs(shape, level)


def test_an_error_that_nobody_caught_is_a_line_too() -> None:
    code = (
        "import threading\n"
        "from assistant.logs import configure_logs\n"
        "configure_logs('json')\n"
        f"def fail(): raise ValueError({PHONE!r})\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "fail()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=PROJECT
    )
    assert ended.returncode == 1
    found = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["level"] for line in found] == ["critical", "critical"]
    assert all(line["error"].endswith("ValueError: [phone]") for line in found)


# Requests.


@pytest.fixture
async def requests(log: Log) -> AsyncIterator[httpx.AsyncClient]:
    """A server with a channel, health pages and the log of requests."""
    app = Sanic("logged", configure_logging=False)
    log_requests(app)
    chat, health = Blueprint("webchat", url_prefix="/webchat"), Blueprint("health")

    @chat.post("/messages/<name:str>")
    async def take(request: Request, name: str) -> HTTPResponse:
        ours.warning("Between.")
        return text("ok")

    @chat.get("/broken")
    async def fail(request: Request) -> HTTPResponse:
        raise ValueError(f"no {PHONE}")

    @health.get("/health/live")
    async def live(request: Request) -> HTTPResponse:
        return text("ok")

    app.blueprint(chat)
    app.blueprint(health)
    listening = socket.create_server(("127.0.0.1", 0))
    server = await app.create_server(sock=listening, return_asyncio_server=True, access_log=False)
    assert server is not None
    await server.startup()
    gather_loggers()
    log.text()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=address, timeout=10) as client:
        yield client
    server.close()
    await server.wait_closed()
    Sanic._app_registry.pop("logged", None)


async def test_a_request_is_one_line_without_what_was_sent(
    requests: httpx.AsyncClient, log: Log
) -> None:
    response = await requests.post(
        "/webchat/messages/Xanthippe?token=vauquelin", content=SAID.encode(),
        headers={"Authorization": "Bearer reachable-secret", "X-Request-ID": "abc-12345"},
    )  # fmt: skip
    assert response.headers["x-request-id"] == "abc-12345"
    between, line = log.lines()
    assert between["request_id"] == line["request_id"] == "abc-12345"
    assert line["milliseconds"] >= 0
    assert {name: line[name] for name in line if name not in ("time", "milliseconds")} == {
        "level": "info", "logger": "assistant.logs", "message": "A request was answered.",
        "request_id": "abc-12345", "method": "POST", "route": "/webchat/messages/<name:str>",
        "status": 200, "channel": "webchat",
    }  # fmt: skip
    ours.info("outside")
    assert "request_id" not in log.lines()[0]


@pytest.mark.parametrize(
    "given",
    ["", "short-1", "x1" * 33, "with space 1234", "xanthippe-vauquelin", "747-555-0188",
     "<script>1</script>", "ünïcode-123456", "a1" * 20 + "\tforged"],
)  # fmt: skip
async def test_an_id_that_is_none_is_replaced(
    requests: httpx.AsyncClient, log: Log, given: str
) -> None:
    headers = {"X-Request-ID": given.encode()}
    answers = [await requests.get("/health/live", headers=headers) for _ in range(2)]
    identities = [answer.headers["x-request-id"] for answer in answers]
    assert given not in identities
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in identities)
    assert len(set(identities)) == 2
    assert [line["request_id"] for line in log.lines()] == identities


async def test_health_is_logged_at_debug(requests: httpx.AsyncClient, log: Log) -> None:
    await requests.get("/health/live")
    (line,) = log.lines()
    assert (line["level"], line["route"], line["status"]) == ("debug", "/health/live", 200)
    assert "channel" not in line


async def test_an_exception_in_a_handler_is_one_line_without_the_address(
    requests: httpx.AsyncClient, log: Log
) -> None:
    response = await requests.get("/webchat/broken?token=vauquelin")
    failed, line = log.lines()
    assert failed["error"].endswith("ValueError: no [phone]")
    assert failed["request_id"] == line["request_id"] == response.headers["x-request-id"]
    assert (line["status"], line["route"]) == (500, "/webchat/broken")
    assert "vauquelin" not in json.dumps([failed, line])
    assert "127.0.0.1" not in json.dumps([failed, line])


async def test_what_leads_nowhere_is_logged_without_its_path(
    requests: httpx.AsyncClient, log: Log
) -> None:
    response = await requests.request("BREW", "/Xanthippe/vauquelin?x=555")
    assert response.headers["x-request-id"]
    found = log.lines()
    assert found[-1]["route"] == "none"
    assert found[-1]["method"] == "other"
    assert found[-1]["status"] in (404, 405)
    assert not re.search("xanthippe|vauquelin|x=555", json.dumps(found), re.IGNORECASE)
