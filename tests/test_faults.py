"""The fault suite's own tools, and those of its faults that need no server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import PROJECT
from tests.faults.proxy import FaultProxy
from tests.faults.stages import FAULTS


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    while heard := connection.recv(1000):
                        connection.sendall(heard)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


@pytest.fixture
def wire(echo: int) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as wire:
        yield wire


def ask(wire: FaultProxy, words: bytes, seconds: float = 5.0) -> bytes:
    with socket.create_connection(("127.0.0.1", wire.port), timeout=seconds) as connection:
        connection.sendall(words)
        return connection.recv(1000)


def test_a_wire_forwards_refuses_and_forwards_again(wire: FaultProxy) -> None:
    assert ask(wire, b"one") == b"one"
    wire.refuse()
    with pytest.raises(ConnectionRefusedError):
        ask(wire, b"two")
    wire.restore()
    assert ask(wire, b"three") == b"three"


def test_a_wire_that_hangs_accepts_and_says_nothing(wire: FaultProxy) -> None:
    wire.hang()
    with pytest.raises(TimeoutError):
        ask(wire, b"one", seconds=0.5)
    wire.restore()
    assert ask(wire, b"two") == b"two"


def test_a_slow_wire_answers_late(wire: FaultProxy) -> None:
    wire.delay(0.4)
    began = time.monotonic()
    assert ask(wire, b"one") == b"one"
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("reply_is_lost", [False, True])
def test_a_wire_is_cut_at_what_a_client_sends(wire: FaultProxy, reply_is_lost: bool) -> None:
    wire.cut_at(b"begin", b"commit", reply_is_lost=reply_is_lost)
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as connection:
        for words in (b"commit", b"begin", b"more"):
            connection.sendall(words)
            assert connection.recv(1000) == words
        connection.sendall(b"commit")
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)
    assert wire.tripped.wait(5)
    assert ask(wire, b"commit") == b"commit"


def test_there_are_thirty_faults_and_more() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 30
    assert all(fault.done and fault.stage.__doc__ for fault in FAULTS)


def test_a_process_that_is_killed_while_it_saves_loses_no_turn(database_url: str) -> None:
    command = [sys.executable, "-m", "tests.faults.kill_while_saving", "--kills", "15"]
    run = subprocess.run(
        [*command, "--database", database_url], cwd=PROJECT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("15 kills")
