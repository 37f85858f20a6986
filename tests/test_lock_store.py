"""The locks: a visitor's messages in order, in one process and in several, whatever Redis does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_client

from assistant.storage.lock_store import ConversationLocks
from tests.conftest import PROJECT, free_port
from tests.redis_server import NoRedisError, redis_server

Open = Callable[[str], Awaitable[ConversationLocks]]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    try:
        with redis_server() as url:
            yield url
    except NoRedisError as error:
        pytest.skip(str(error))


@pytest.fixture
async def open_locks(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens the locks of a process; closes them at the end."""
    opened: list[ConversationLocks] = []

    async def open_one(url: str) -> ConversationLocks:
        monkeypatch.setenv("REDIS_URL", url)
        opened.append(ConversationLocks())
        return opened[-1]

    yield open_one
    for locks in opened:
        await locks.close()


async def hold(locks: ConversationLocks, order: list[str], name: str, seconds: float) -> None:
    async with locks.lock("someone"):
        order.append(f"{name} begins")
        await asyncio.sleep(seconds)
        order.append(f"{name} ends")


async def begun(order: list[str], line: str) -> None:
    deadline = time.monotonic() + 10
    while line not in order:
        assert time.monotonic() < deadline, order
        await asyncio.sleep(0.005)


def in_turn(*names: str) -> list[str]:
    return [f"{name} {what}" for name in names for what in ("begins", "ends")]


@pytest.mark.parametrize("shared", [False, True])
async def test_messages_wait_for_each_other_without_polling_by_the_second(
    shared: bool, open_locks: Open, redis_url: str
) -> None:
    """Rasa's own lock looks once a second; ten short turns would take nine seconds."""
    locks = await open_locks(redis_url if shared else "")
    order: list[str] = []
    started = time.monotonic()
    await asyncio.gather(*(hold(locks, order, str(number), 0.01) for number in range(10)))
    assert order == in_turn(*map(str, range(10)))
    assert time.monotonic() - started < 4
    assert locks._locks == {}


@pytest.mark.parametrize("shared", [False, True])
async def test_another_visitor_does_not_wait(
    shared: bool, open_locks: Open, redis_url: str
) -> None:
    locks = await open_locks(redis_url if shared else "")
    async with locks.lock("someone"), locks.lock("another"):
        pass


async def test_processes_take_turns_in_the_order_of_the_messages(
    open_locks: Open, redis_url: str
) -> None:
    one, other = await open_locks(redis_url), await open_locks(redis_url)
    order: list[str] = []
    tasks = []
    for number in range(6):
        process = (one, other)[number % 2]
        tasks.append(asyncio.create_task(hold(process, order, str(number), 0.02)))
        await asyncio.sleep(0.03)  # messages come one after the other; the first lasts longer
        if number == 0:
            tasks.append(asyncio.create_task(hold(one, order, "long", 0.3)))
            await begun(order, "long begins")
    await asyncio.gather(*tasks)
    assert order == in_turn("0", "long", "1", "2", "3", "4", "5")


async def test_who_stops_waiting_holds_nobody_up(open_locks: Open, redis_url: str) -> None:
    one, other = await open_locks(redis_url), await open_locks(redis_url)
    order: list[str] = []
    first = asyncio.create_task(hold(one, order, "first", 0.2))
    await begun(order, "first begins")
    impatient = asyncio.create_task(hold(other, order, "impatient", 0))
    patient = asyncio.create_task(hold(other, order, "patient", 0))
    await asyncio.sleep(0.05)
    impatient.cancel()
    await asyncio.gather(first, patient)
    assert order == in_turn("first", "patient")


_HOLDER = """
import asyncio, sys
from assistant.storage.lock_store import ConversationLocks
async def main():
    async with ConversationLocks().lock("someone"):
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_process_that_is_killed_holds_nobody_up_for_long(
    open_locks: Open, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = await open_locks(redis_url)  # sets REDIS_URL for the child, too
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLDER], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "held\n"
    order: list[str] = []
    waiting = asyncio.create_task(hold(locks, order, "next", 0))
    await asyncio.sleep(0.1)
    assert order == []
    child.kill()
    child.wait()
    await asyncio.wait_for(waiting, 15)
    assert order == in_turn("next")


async def test_a_turn_that_takes_longer_than_a_ticket_lives_is_kept(
    open_locks: Open, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.storage.redis_queue._LIFE", 1.0)
    one, other = await open_locks(redis_url), await open_locks(redis_url)
    order: list[str] = []
    first = asyncio.create_task(hold(one, order, "first", 2.5))
    await begun(order, "first begins")
    await asyncio.gather(first, hold(other, order, "second", 0))
    assert order == in_turn("first", "second")


async def test_without_redis_a_process_goes_on_alone_and_says_so(
    open_locks: Open, caplog: pytest.LogCaptureFixture
) -> None:
    locks = await open_locks(f"redis://127.0.0.1:{free_port()}/0")
    order: list[str] = []
    await asyncio.gather(*(hold(locks, order, str(number), 0.01) for number in range(5)))
    assert order == in_turn(*map(str, range(5)))
    assert locks.degraded
    assert sum("Redis does not answer" in record.message for record in caplog.records) == 1


async def test_redis_may_go_and_come_back(open_locks: Open, redis_url: str) -> None:
    port = free_port()
    order: list[str] = []
    with redis_server(port):
        one = await open_locks(f"redis://127.0.0.1:{port}/0")
        other = await open_locks(f"redis://127.0.0.1:{port}/0")
        await hold(one, order, "before", 0)
        assert not one.degraded
    await hold(one, order, "without", 0)
    await hold(other, order, "without too", 0)
    assert one.degraded
    assert other.degraded
    with redis_server(port):
        deadline = time.monotonic() + 20
        while one.degraded or other.degraded:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        tasks = [asyncio.create_task(hold(one, order, "back", 0.2))]
        await begun(order, "back begins")
        await asyncio.gather(*tasks, hold(other, order, "in order again", 0))
    assert order == in_turn("before", "without", "without too", "back", "in order again")


async def test_a_redis_that_hangs_delays_a_message_by_little(open_locks: Open) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    locks = await open_locks(f"redis://127.0.0.1:{port}/0")
    order: list[str] = []
    started = time.monotonic()
    await asyncio.gather(*(hold(locks, order, str(number), 0) for number in range(20)))
    assert order == in_turn(*map(str, range(20)))
    assert time.monotonic() - started < 2  # not a time-out for each of them
    server.close()


async def test_a_process_that_is_busy_does_not_take_redis_for_away(
    open_locks: Open, redis_url: str
) -> None:
    async def be_busy() -> None:
        for _ in range(12):
            time.sleep(0.3)  # what computing does to the event loop
            await asyncio.sleep(0)

    one, other = await open_locks(redis_url), await open_locks(redis_url)
    order: list[str] = []
    first = asyncio.create_task(hold(one, order, "first", 0))
    busy = asyncio.create_task(be_busy())
    await asyncio.gather(first, busy, hold(other, order, "second", 0))
    assert order == in_turn("first", "second")
    assert not one.degraded
    assert not other.degraded


async def test_a_redis_that_is_emptied_while_a_turn_lasts_loses_no_message(
    open_locks: Open, redis_url: str
) -> None:
    one, other = await open_locks(redis_url), await open_locks(redis_url)
    order: list[str] = []
    first = asyncio.create_task(hold(one, order, "first", 0.3))
    await begun(order, "first begins")
    second = asyncio.create_task(hold(other, order, "second", 0))
    await asyncio.sleep(0.05)
    redis_client.Redis.from_url(redis_url).flushall()
    await asyncio.wait_for(asyncio.gather(first, second), 10)
    assert sorted(order) == sorted(in_turn("first", "second"))
    # And nothing is left over that would hold up the next.
    await asyncio.wait_for(hold(one, order, "third", 0), 5)


def test_the_file_names_the_store() -> None:
    assert "assistant.storage.lock_store.ConversationLocks" in Path(
        PROJECT / "endpoints.yml"
    ).read_text(encoding="utf-8")
