"""Two workers on one PostgreSQL and one Redis, behind a small balancer that behaves as our nginx.

`TEST_STORE=cluster` (`make test-cluster`) puts it in the place of the tests' one server.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import Server, start_server, stop_server
from tests.postgres import postgres_database
from tests.redis_server import redis_server

WORKERS = 2

SERVED_BY = "X-Served-By"
"""Header of an answer: the address of the worker that gave it."""

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}


@dataclass
class Cluster(Server):
    """The workers and what stands before them; used as one server is."""

    workers: list[Server] = field(default_factory=list)
    redis_url: str = ""

    @property
    def alone(self) -> Server:
        return self.workers[0]

    @property
    def logs(self) -> list[Path]:
        return [worker.log for worker in self.workers]


@contextmanager
def cluster(
    folder: Path, postgres: str, spread: bool = False, **environment: str
) -> Iterator[Cluster]:
    """Provide a cluster.

    Args:
        folder: for the logs.
        postgres: address of the PostgreSQL server.
        spread: send each request to the other worker than the one before. Without it a visitor
            stays with one worker, as private chats need.
        environment: more settings for the workers.

    Raises:
        NoRedisError: there is no Redis on this machine.
    """
    with redis_server() as redis_url, postgres_database(postgres) as database_url:
        settings = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "TRUSTED_PROXIES": "1",
            **environment,
        }
        workers = start_workers(folder, settings)
        try:
            with balancer([worker.url for worker in workers], spread) as url:
                first = workers[0]
                yield Cluster(url, first.process, first.log, database_url, workers, redis_url)
        finally:
            for worker in workers:
                stop_server(worker)


def start_workers(folder: Path, settings: dict[str, str]) -> list[Server]:
    """Start the workers side by side and wait until all are ready."""

    def start(number: int) -> Server:
        place = folder / f"worker-{number}"
        place.mkdir()
        return start_server(place, **settings)

    with ThreadPoolExecutor(WORKERS) as pool:
        starts = [pool.submit(start, number) for number in range(1, WORKERS + 1)]
    failed = [one.exception() for one in starts if one.exception()]
    workers = [one.result() for one in starts if not one.exception()]
    if failed:
        for worker in workers:
            stop_server(worker)
        raise failed[0] or AssertionError
    return workers


@contextmanager
def balancer(addresses: list[str], spread: bool) -> Iterator[str]:
    """Provide the address of a server that passes each request on to one of the workers.

    As our nginx does, it keeps a visitor (the `Authorization` header) with one worker, passes a
    request that no worker took to the next, and repeats none that one may have taken.
    """
    turns = itertools.count()

    def order(visitor: str) -> list[str]:
        """Return the workers in the order in which they are tried."""
        if spread or not visitor:
            first = next(turns) % len(addresses)
            return addresses[first:] + addresses[:first]
        return sorted(addresses, key=lambda one: hashlib.sha256((one + visitor).encode()).digest())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            for address in order(self.headers.get("Authorization", "")):
                connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
                try:
                    connection.connect()
                except OSError:
                    continue
                with connection.sock:
                    self._exchange(connection, body)
                return
            self._say(502, [], b"")

        def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> None:
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in _OF_ONE_CONNECTION:
                        connection.putheader(name, value)
                connection.putheader("X-Forwarded-For", self.client_address[0])
                connection.putheader("Connection", "close")
                connection.endheaders()
                with suppress(OSError):  # refused before it was read; the answer says why
                    connection.send(body)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self._say(502, [], b"")
                return
            worker = (SERVED_BY, f"http://{connection.host}:{connection.port}")
            self._say(answer.status, [*answer.getheaders(), worker], content)

        def _say(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in (*_OF_ONE_CONNECTION, "content-length"):
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = pass_on  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
