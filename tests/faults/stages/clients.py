"""Visitors, or what claims to be one, that behave badly."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.faults.services import tool
from tests.faults.trial import Trial, fault
from tests.faults.visitor import OTHER_QUESTION, PATIENCE, QUESTION, Visitor


def _raw(trial: Trial, visitor: Visitor, text: str, message_id: str) -> socket.socket:
    """Send a message on a bare connection; the answer is not read."""
    body = json.dumps({"text": text, "id": message_id}).encode()
    request = (
        f"POST /webchat/messages HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {visitor.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    connection = socket.create_connection(("127.0.0.1", trial.place.server.port), timeout=10)
    connection.sendall(request + body)
    return connection


@fault(
    "client-hangs-up", "small", "The browser hangs up before the answer, ten times, and sends again"
)
def client_hangs_up(trial: Trial) -> None:
    """Leave in the middle of a turn."""
    visitor, booking = trial.visitor(), trial.booking("time")
    for _ in range(10):
        message_id = uuid.uuid4().hex
        _raw(trial, visitor, OTHER_QUESTION, message_id).close()
        trial.note("the same message again", visitor.say(OTHER_QUESTION, message_id))
    trial.red_flag(trial.visitor())
    trial.note("the booking", booking.step())
    trial.recover()


@fault("client-reads-slowly", "small", "Twenty clients send a message and read a byte a second")
def client_reads_slowly(trial: Trial) -> None:
    """Hold twenty answers half read."""
    visitors = [trial.visitor() for _ in range(20)]
    booking = trial.booking("time")
    slow = [_raw(trial, visitor, QUESTION, uuid.uuid4().hex) for visitor in visitors]
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(1.0):
            for connection in slow:
                connection.recv(1)

    reader = threading.Thread(target=trickle, daemon=True)
    reader.start()
    try:
        trial.endure(booking, 5.0)
    finally:
        over.set()
        reader.join(timeout=15)
        for connection in slow:
            connection.close()
    trial.recover()


@fault("idle-connections", "small", "200 connections are opened, 100 of them with half a request")
def idle_connections(trial: Trial) -> None:
    """Open connections that never ask anything."""
    booking = trial.booking("time")
    idle = []
    for number in range(200):
        connection = socket.create_connection(("127.0.0.1", trial.place.server.port), timeout=10)
        if number % 2:
            connection.sendall(b"POST /webchat/messages HTTP/1.1\r\nHost: localhost\r\nContent-")
        idle.append(connection)
    try:
        trial.endure(booking, 5.0)
    finally:
        for connection in idle:
            connection.close()
    trial.recover()


@fault("same-message-again", "small", "Each message of a booking arrives three times, two at once")
def same_message_again(trial: Trial) -> None:
    """Send with one id what a phone with a bad net sends."""
    booking = trial.booking("consent")
    with ThreadPoolExecutor(2) as pool:
        while not booking.number:
            text, message_id = booking.next_message()
            twice = list(pool.map(lambda _: booking.visitor.say(text, message_id), range(2)))  # noqa: B023
            later = booking.visitor.say(text, message_id)
            said = {json.dumps(sight.messages) for sight in (*twice, later)}
            trial.must(len(said) == 1, f"one message has {len(said)} different answers: {said}")
            trial.note("each of the three", later)
            booking.take(later)
    trial.recover()


@fault(
    "messages-reordered",
    "small",
    "The messages of a booking arrive in the wrong order, and old ones once more",
)
def messages_reordered(trial: Trial) -> None:
    """Deliver late what was sent early."""
    booking = trial.booking("consent")
    asked = booking.asks
    early, late = uuid.uuid4().hex, uuid.uuid4().hex
    trial.note("the second message, first", booking.visitor.say("Ana Lopez", late))
    trial.note("the first message, second", booking.visitor.say("yes", early))
    again = booking.visitor.say("Ana Lopez", late)
    trial.must(again.kind == "answer", f"an old message, once more: {again}")
    trial.must(asked == "consent", "the booking was not at its first question")
    booking.asks = next(s.asks for s in reversed(booking.visitor.sights[:-1]) if s.asks)
    booking.go_to("")
    for sight in list(booking.visitor.sights[:4]):
        old = booking.visitor.say(sight.said, sight.message_id)
        trial.must(old.messages == sight.messages, "an old message got another answer")
    trial.recover()


@fault(
    "out-of-file-descriptors",
    "small",
    "The process may open no more files: connections take all it has (prlimit --nofile)",
)
def out_of_file_descriptors(trial: Trial) -> None:
    """Leave the process no file descriptor, then give them back."""
    prlimit = tool("prlimit", "util-linux")
    booking = trial.booking("time")
    asking, connected = trial.visitor(), trial.visitor()
    connected.connection = httpx.Client(timeout=PATIENCE)
    connected.say(QUESTION)
    pid = str(trial.place.server.process.pid)
    subprocess.run([prlimit, f"--pid={pid}", "--nofile=64:"], check=True)
    idle = []
    try:
        for _ in range(300):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", trial.place.server.port))
            idle.append(connection)
        time.sleep(1.0)  # so that the server has taken what it can
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(asking.say, QUESTION), pool.submit(booking.step)]
            # Whoever is connected is served, the emergency first of all.
            trial.note("a question, already connected", connected.say(OTHER_QUESTION))
            trial.red_flag(connected)
            time.sleep(3.0)  # the fault's length
            for connection in idle:
                connection.close()
    finally:
        for connection in idle:
            connection.close()
        subprocess.run([prlimit, f"--pid={pid}", "--nofile=1024:"], check=True)
    for sight in waiting:
        trial.note("a new connection", sight.result(), may_be_cut=True)
    first = asking.sights[-1]
    again = asking.say(first.said, first.message_id)
    trial.must(again.kind == "answer", f"sent again, the message was not answered: {again}")
    trial.recover()
    connected.connection.close()
