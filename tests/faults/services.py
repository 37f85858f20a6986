"""What the server of the fault suite depends on: each of its own, each behind a faulty wire."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tests.postgres import postgres_database, postgres_server
from tests.receivers import lasting_port
from tests.redis_server import NoRedisError, redis_server


class MissingToolError(Exception):
    """A fault cannot be staged on this machine; the message says what it needs."""


def tool(name: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        MissingToolError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"needs {name} (Debian package {package})")
    return path


@contextmanager
def postgres() -> Iterator[tuple[str, Path]]:
    """Provide the address of an empty database and the socket that leads to it."""
    with postgres_server() as server, postgres_database(server) as url:
        address = sa.engine.make_url(url)
        if "host" not in address.query:
            raise MissingToolError("needs a PostgreSQL of its own: unset TEST_POSTGRES_URL")
        yield url, Path(str(address.query["host"])) / ".s.PGSQL.5432"


@contextmanager
def redis() -> Iterator[int]:
    """Provide the port of a Redis that keeps nothing."""
    try:
        with redis_server(port := lasting_port()):
            yield port
    except NoRedisError as error:
        raise MissingToolError(str(error)) from error


@contextmanager
def rabbitmq() -> Iterator[int]:
    """Provide the port of a RabbitMQ of its own, with the usual guest."""
    tool("rabbitmq-server", "rabbitmq-server")
    # The program of that name on PATH changes user and folder; the one behind it does neither.
    program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    port = lasting_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "ERL_EPMD_PORT": str(
                lasting_port()
            ),  # Erlang's name server: ours, so that we may end it
            "RABBITMQ_NODENAME": f"faults{port}@localhost",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(lasting_port()),
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "HOME": folder,
        }
        try:
            with _running([program], environment, lambda: _speaks(port, b"AMQP\0\0\x09\x01")):
                yield port
        finally:
            subprocess.run(
                [tool("epmd", "erlang-base"), "-kill"],
                env={**os.environ, **environment},
                capture_output=True,
            )


def _speaks(port: int, greeting: bytes) -> bool:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(greeting)
        return bool(connection.recv(1))


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], answers: Callable[[], bool]
) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 180
            while True:
                try:
                    if answers():
                        break
                except OSError:
                    pass
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise MissingToolError(
                        f"{command[0]} did not start: {log.read()[-500:].decode(errors='replace')}"
                    )
                time.sleep(0.05)  # between looks; the deadline decides
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, 9)
                    process.wait()


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Provide a folder on a file system of its own.

    Args:
        size: of the file system, as `4m`.

    Raises:
        MissingToolError: this user may not mount one.
    """
    mount = tool("mount", "mount")
    with tempfile.TemporaryDirectory(prefix="faults-") as disk:
        command = [mount, "-t", "tmpfs", "-o", f"size={size}", "faults", disk]
        if subprocess.run(command, capture_output=True).returncode:
            raise MissingToolError("needs the right to mount a small file system")
        try:
            yield Path(disk)
        finally:
            subprocess.run([tool("umount", "mount"), "-l", disk], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
