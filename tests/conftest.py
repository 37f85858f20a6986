"""What the tests share: one trained model, one loaded agent, one running server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sanic import Sanic

from tests.postgres import postgres_database, postgres_server
from tests.redis_server import NoRedisError

PROJECT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
EXAMPLE_OFFICE = DATA / "office_example.yml"

os.environ["ASSISTANT_HOME"] = str(PROJECT)
os.environ["LOG_LEVEL"] = "WARNING"
# The tests and their servers share the cores: threads that wait for each other would only spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Else a second application in one process fails to start: Sanic would read its own methods again from
# their source, which the first has replaced (sanic.touchup).
Sanic.test_mode = True

ON_CLUSTER = os.environ.get("TEST_STORE") == "cluster"
"""Whether the tests meet two workers on PostgreSQL and Redis instead of one on SQLite."""


LONGEST_FIRST = (
    "test_staff_publishing", "test_widget_resilience", "test_staff_editing", "test_start",
    "test_fuzz", "test_booking", "test_crashes", "test_staff_pages",
)  # fmt: skip
"""Modules of one to five minutes; else one process would still be at one when the others are done."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest; on the cluster leave out what no store and no server has a part in."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    if not ON_CLUSTER:
        return
    chosen = [item for item in items if _concerns_the_cluster(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _concerns_the_cluster(item: pytest.Item) -> bool:
    values = item.callspec.params if hasattr(item, "callspec") else {}
    used = {*getattr(item, "fixturenames", ()), values.get("server_name")}
    on_sqlite = values.get("database_url") == "sqlite"
    return bool(used & {"server", "two_workers", "database_url"}) and not on_sqlite


@pytest.fixture(scope="session")
def model() -> Path:
    """The model for the present data; trained if there is none."""
    from assistant.training import train

    return train(PROJECT, print)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    with postgres_server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: the test runs on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'assistant.db'}"
        return
    with postgres_database(request.getfixturevalue("postgres")) as url:
        yield url


class Visitor:
    """Talks to an agent in this process, as one visitor."""

    _count = 0

    def __init__(self, agent: Any, loop: asyncio.AbstractEventLoop) -> None:
        Visitor._count += 1
        self.conversation_id = f"visitor-{Visitor._count}"
        self._agent = agent
        self._loop = loop

    def say(self, text: str) -> list[dict[str, Any]]:
        """Return the messages that answer a text."""
        from assistant.channels.conversation import converse

        return self._loop.run_until_complete(
            converse(self._agent.handle_message, self.conversation_id, text, 30.0)
        )

    def topics(self, text: str) -> list[str]:
        """Return the topics that answer a text, in order, each once."""
        found = [message["metadata"].get("topic", "") for message in self.say(text)]
        return list(dict.fromkeys(found))


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def agent(model: Path) -> Any:
    """The assistant as shipped, its office's facts empty, conversations in memory."""
    from rasa.core.tracker_store import InMemoryTrackerStore

    from assistant.agent import load_agent, read_endpoints

    return load_agent(model, read_endpoints(PROJECT), tracker_store=InMemoryTrackerStore(None))


@pytest.fixture
def visitor(agent: Any, loop: asyncio.AbstractEventLoop) -> Visitor:
    return Visitor(agent, loop)


@dataclass
class Server:
    """A running server, as `make run` starts it."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    database_url: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=30)

    @property
    def logs(self) -> list[Path]:
        """What its processes have written."""
        return [self.log]

    @property
    def alone(self) -> Server:
        """The server without what may stand before it, for what is about single bytes."""
        return self

    def rows(self, query: str, **values: Any) -> list[Any]:
        """Return what a query finds in its database."""
        engine = sa.create_engine(self.database_url, poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            return connection.execute(sa.text(query), values).all()

    def change(self, statement: str, **values: Any) -> None:
        """Change something in its database."""
        engine = sa.create_engine(self.database_url, poolclass=sa.pool.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def kept(self) -> dict[str, bytes]:
        """Return all that it keeps, by name: every table, log and, on SQLite, file."""
        engine = sa.create_engine(self.database_url, poolclass=sa.pool.NullPool)
        tables = sa.inspect(engine).get_table_names()
        found = {
            name: "\n".join(
                repr(tuple(row))
                for row in self.rows(f"SELECT * FROM {name}")  # noqa: S608
            ).encode()
            for name in tables
        }
        files = set(self.logs)
        if engine.dialect.name == "sqlite":
            files.update(self.log.parent.iterdir())
        return found | {str(path): path.read_bytes() for path in files if path.is_file()}

    def open(self) -> Chat:
        """Start a session."""
        response = self.http.post("/webchat/session")
        assert response.status_code == 201, response.text
        return Chat(self.http, response.json())


@dataclass
class Chat:
    """One session of the web chat."""

    http: httpx.Client
    session: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.session['token']}"}

    def post(self, **body: Any) -> httpx.Response:
        return self.http.post("/webchat/messages", json=body, headers=self.headers)

    def say(self, text: str) -> list[dict[str, Any]]:
        response = self.post(text=text)
        assert response.status_code == 200, response.text
        messages = response.json()["messages"]
        assert messages, f"no answer to {text!r}"
        return messages

    def topics(self, text: str) -> list[str]:
        return list(dict.fromkeys(m["metadata"].get("topic", "") for m in self.say(text)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


EMBEDDING_SITE = f"http://localhost:{free_port()}"
"""The origin of a site that embeds the chat."""


def start_server(folder: Path, port: int = 0, **environment: str) -> Server:
    """Start `assistant serve` and wait until it is ready."""
    port = port or free_port()
    log = folder / "server.log"
    variables = {
        **os.environ,
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder / 'assistant.db'}",
        "OFFICE_FILE": str(EXAMPLE_OFFICE),
        "WEBCHAT_SESSION_RATE": "1000",
        "WEBCHAT_SESSION_BURST": "1000",
        "WEBCHAT_ADDRESS_RATE": "10000",
        "WEBCHAT_ADDRESS_BURST": "10000",
        "WEBCHAT_ORIGINS": f"https://practice.example,{EMBEDDING_SITE}",
        **environment,
    }
    command = [sys.executable, "-m", "assistant.command_line", "serve"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
    server = Server(f"http://127.0.0.1:{port}", process, log, variables["DATABASE_URL"])
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if server.http.get("/health/ready").status_code == 200:
                return server
        except httpx.TransportError:
            pass
        time.sleep(0.25)  # between looks; the deadline decides, not this
    process.kill()
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def server(
    model: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """A server of the invented practice: one process on SQLite, or a cluster (`TEST_STORE`)."""
    folder = tmp_path_factory.mktemp("server")
    if ON_CLUSTER:
        from tests.cluster import cluster

        try:
            with cluster(folder, request.getfixturevalue("postgres")) as server:
                yield server
        except NoRedisError as error:
            pytest.skip(str(error))
        return
    server = start_server(folder)
    yield server
    stop_server(server)


@pytest.fixture(scope="session")
def channels(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with all messaging channels on, and their stand-ins (`tests/channel_server.py`)."""
    from tests.channel_server import start_channels, stop_channels

    channels = start_channels(tmp_path_factory.mktemp("channels"))
    yield channels
    stop_channels(channels)


def stop_server(server: Server) -> None:
    """Stop a server as Ctrl-C does."""
    server.process.send_signal(signal.SIGINT)
    try:
        server.process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise AssertionError("the server did not stop on Ctrl-C") from None


@pytest.fixture
def chat(server: Server) -> Chat:
    return server.open()
