"""Processes that are killed, stopped, or run beside each other."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.conftest import PROJECT
from tests.faults import place as places
from tests.faults.place import Place, engine_of, environment_of, new_folder
from tests.faults.server import ServerProcess, Supervisor, project_copy
from tests.faults.trial import Trial, fault
from tests.faults.visitor import OTHER_QUESTION, QUESTION, RED_FLAG, Visitor

_DRAIN_SECONDS = 20.0


@fault("killed-mid-booking", "", "kill -9 of the server five times in the middle of a booking")
def killed_mid_booking(trial: Trial) -> None:
    """Kill the server while a message is under way; a supervisor starts it again."""
    chance = random.Random(7)
    with new_folder() as folder:
        home = project_copy(folder)
        server = ServerProcess(folder, environment_of(folder, home))
        trial.place = Place(folder, home, server, engine_of(server.environment["DATABASE_URL"]))
        with Supervisor(server) as supervisor:
            server.wait_ready()
            booking = trial.booking("consent")
            for _ in range(5):
                timer = threading.Timer(chance.uniform(0.0, 0.3), supervisor.kill)
                starts = supervisor.starts
                timer.start()
                trial.note("the booking", booking.step(), may_be_cut=True)
                timer.join()
                while supervisor.starts == starts:
                    time.sleep(0.05)  # until the supervisor has seen it
                server.wait_ready()
                if not booking.number:
                    trial.note("the same message again", booking.step())
                if booking.number:
                    trial.note("the last message again", booking.visitor.say("send"))
                    booking = trial.booking("decision")
            trial.red_flag(trial.visitor())
            trial.recover()
            trial.recovered = trial.recovered.replace(
                "by itself, the same process", f"{supervisor.starts - 1} times by its supervisor"
            )


@fault(
    "killed-while-saving-sqlite", "", "kill -9 while conversations are saved to SQLite, 200 times"
)
def killed_while_saving_sqlite(trial: Trial) -> None:
    """Kill a process that does nothing but save."""
    with new_folder() as folder:
        _kill_savers(trial, f"sqlite:///{folder / 'saves.db'}")


@fault(
    "killed-while-saving-postgresql",
    "",
    "kill -9 while conversations are saved to PostgreSQL, 200 times",
)
def killed_while_saving_postgresql(trial: Trial) -> None:
    """Kill a process that does nothing but save."""
    from tests.faults import services

    with services.postgres() as (url, _):
        _kill_savers(trial, url)


def _kill_savers(trial: Trial, url: str) -> None:
    command = [sys.executable, "-m", "tests.faults.kill_while_saving", "--database", url]
    result = subprocess.run(
        [*command, "--kills", "200"], cwd=PROJECT, capture_output=True, text=True
    )
    trial.must(result.returncode == 0, "; ".join(result.stderr.splitlines()[-3:]))
    trial.seen.append(result.stdout.strip())
    trial.recovered = "the next process went on where the last acknowledged turn was stored"


@contextmanager
def _loaded(trial: Trial) -> Iterator[list[Visitor]]:
    """Keep eight visitors talking until the end."""
    over = threading.Event()
    visitors = [trial.visitor() for _ in range(8)]

    def talk(visitor: Visitor) -> None:
        while not over.is_set():
            sight = visitor.say(OTHER_QUESTION)
            if sight.kind != "answer":
                over.wait(0.05)  # as a browser does between tries

    threads = [threading.Thread(target=talk, args=(v,), daemon=True) for v in visitors]
    for thread in threads:
        thread.start()
    try:
        yield visitors
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=60)


def _terminated(trial: Trial, times: int) -> None:
    with places.small() as place:
        trial.place = place
        booking = trial.booking("time")
        with _loaded(trial) as visitors:
            time.sleep(2.0)  # so that there is a load
            began = time.monotonic()
            place.server.process.send_signal(signal.SIGTERM)
            for _ in range(times - 1):
                time.sleep(0.2)  # as an impatient operator does
                place.server.process.send_signal(signal.SIGTERM)
            code = place.server.wait_exit(_DRAIN_SECONDS + 10)
            took = time.monotonic() - began
        trial.must(code == 0, f"the exit code is {code}")
        trial.must(took <= _DRAIN_SECONDS + 5, f"it took {took:.1f} s to stop")
        answered = sum(s.kind == "answer" for v in visitors for s in v.sights)
        refused = sum(s.kind == "refused" for v in visitors for s in v.sights)
        for visitor in visitors:
            for sight in visitor.sights:
                gone = not sight.status and sight.error == "ConnectError"
                trial.must(gone or sight.kind in ("answer", "refused"), f"cut off: {sight}")
        trial.must(answered, "nobody was answered, so nothing was tested")
        trial.seen.append(
            f"{answered} messages answered, {refused} refused with 503, then no connection; "
            f"exit code {code} after {took:.1f} s"
        )
        place.server.start().wait_ready()
        trial.note("the booking, after the next start", booking.step())
        trial.red_flag(trial.visitor())
        trial.recover()
        trial.recovered = f"started again; {trial.recovered.partition('; ')[2]}"


@fault("terminated-under-load", "", "SIGTERM while eight visitors send message after message")
def terminated_under_load(trial: Trial) -> None:
    """Stop as a new release does."""
    _terminated(trial, 1)


@fault("terminated-twice", "", "SIGTERM three times, 0.2 s apart, under the same load")
def terminated_twice(trial: Trial) -> None:
    """Stop as an impatient operator does."""
    _terminated(trial, 3)


@contextmanager
def _two_workers(trial: Trial) -> Iterator[tuple[Place, ServerProcess]]:
    with places.large() as place:
        trial.place = place
        folder = place.folder / "second"
        folder.mkdir()
        second = ServerProcess(folder, dict(place.server.environment))
        second.start()
        try:
            second.wait_ready()
            yield place, second
        finally:
            second.stop()


@fault(
    "two-workers-one-conversation",
    "",
    "Two servers on one PostgreSQL and Redis; a visitor's messages go to both at once, 60 in all",
)
def two_workers_one_conversation(trial: Trial) -> None:
    """Send what belongs to one conversation to two processes."""
    with _two_workers(trial) as (place, second):
        visitor = trial.visitor()
        visitor.in_order = False  # what is sent at once has no order
        urls = [place.url, second.url]
        with ThreadPoolExecutor(6) as pool:
            for _ in range(10):
                sights = list(pool.map(lambda n: visitor.say(QUESTION, url=urls[n % 2]), range(6)))
                for sight in sights:
                    trial.note("one of six messages at once", sight)
                    trial.must(sight.kind == "answer", f"not answered: {sight}")
        _turns_are_whole(trial, visitor)
        _same_message_to_both(trial, urls)
        _booking_on_both(trial, urls)
        trial.red_flag(trial.visitor())
        trial.recover()


def _turns_are_whole(trial: Trial, visitor: Visitor) -> None:
    """Each message must be followed by its answer, and by no other message."""
    history = visitor.history()
    questions = [place for place, m in enumerate(history) if m.get("from") == "visitor"]
    trial.must(len(questions) == 60, f"{len(questions)} of 60 messages are in the conversation")
    for place in questions:
        answer = history[place + 1] if place + 1 < len(history) else {"from": "visitor"}
        trial.must(answer.get("from") != "visitor", "two messages stand before one answer")


def _same_message_to_both(trial: Trial, urls: list[str]) -> None:
    """Send one message to both at once, twenty times; each must be handled once."""
    visitor = trial.visitor()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            message_id = uuid.uuid4().hex
            both = list(
                pool.map(lambda url: visitor.say(OTHER_QUESTION, message_id, url), urls)  # noqa: B023
            )
            trial.note("one message at both servers", both[0])
            trial.must(both[0].messages == both[1].messages, "one message has two answers")


def _booking_on_both(trial: Trial, urls: list[str]) -> None:
    """Answer each question of a booking at the other server; send at both at once."""
    booking = trial.booking()
    number = 0
    while booking.asks != "decision":
        booking.visitor.url = urls[(number := number + 1) % 2]
        trial.note("the booking, at the servers in turn", booking.step())
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda url: booking.visitor.say("send", url=url), urls))
    for sight in both:
        trial.note('"send" at both servers', sight)
    booking.visitor.in_order = False


@fault(
    "one-of-two-workers-killed",
    "",
    "Two servers; one is killed (kill -9) while visitors talk, and its supervisor starts it again",
)
def one_of_two_workers_killed(trial: Trial) -> None:
    """Kill the worker that holds the locks; the other goes on with the same conversations."""
    with _two_workers(trial) as (_, second):
        booking, visitor = trial.booking("time"), trial.visitor()
        for number in range(4):
            timer = threading.Timer(0.03 * number, second.process.kill)
            timer.start()
            first = visitor.say(QUESTION, url=second.url)
            timer.join()
            second.process.wait()
            trial.note("at the killed server", first, may_be_cut=True)
            began = time.monotonic()
            again = trial.note("again, at the other", visitor.say(QUESTION, first.message_id))
            took = time.monotonic() - began
            trial.must(again.kind == "answer", f"the other server could not answer: {again}")
            trial.must(took < 35, f"the dead server's lock held for {took:.0f} s")
            second.start().wait_ready()
        trial.note("the booking", booking.step())
        trial.red_flag(trial.visitor())
        trial.recover()
        trial.recovered += "; the killed one was started again by its supervisor"


@fault(
    "two-workers-without-redis",
    "",
    "Two servers; Redis goes away for 15 s while a visitor's messages go to both in turn",
)
def two_workers_without_redis(trial: Trial) -> None:
    """Take the shared lock away from two workers."""
    with _two_workers(trial) as (place, second):
        visitor, urls = trial.visitor(), [place.url, second.url]
        booking = trial.booking("time")
        trial.wire("redis").refuse()
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 15:
            number += 1
            sight = visitor.say(QUESTION, url=urls[number % 2])
            trial.note("a message, at the servers in turn", sight)
            trial.must(sight.kind == "answer", f"not answered: {sight}")
        trial.note("the booking", booking.step())
        trial.red_flag(trial.visitor())
        trial.wire("redis").restore()
        trial.recover()


@fault("memory-short", "", "The process may use no more memory than it has (prlimit --as), for 5 s")
def memory_short(trial: Trial) -> None:
    """Let allocations fail; whether the process lives on or its supervisor starts a new one."""
    from pathlib import Path

    from tests.faults.services import tool

    prlimit = tool("prlimit", "util-linux")
    with new_folder() as folder:
        home = project_copy(folder)
        server = ServerProcess(folder, environment_of(folder, home))
        trial.place = Place(folder, home, server, engine_of(server.environment["DATABASE_URL"]))
        with Supervisor(server) as supervisor:
            server.wait_ready()
            booking = trial.booking("time")
            pid = server.process.pid
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            limit = f"--as={pages * 4096}:"
            subprocess.run([prlimit, f"--pid={pid}", limit], check=True)
            visitor = trial.visitor()
            began = time.monotonic()
            while time.monotonic() - began < 5 and supervisor.starts == 1:
                trial.note("a question", visitor.say(QUESTION), may_be_cut=True)
                trial.note("an emergency", visitor.say(RED_FLAG), may_be_cut=True)
                if not booking.number:
                    trial.note("the booking", booking.step(), may_be_cut=True)
            if supervisor.starts == 1 and server.process.poll() is None:
                subprocess.run([prlimit, f"--pid={pid}", "--as=unlimited:"], check=True)
            else:
                server.wait_ready()
            trial.recover()
            if supervisor.starts > 1:
                trial.recovered = trial.recovered.replace(
                    "by itself, the same process", "by its supervisor"
                )
