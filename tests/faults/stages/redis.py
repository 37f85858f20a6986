"""Redis, which holds the locks that several workers share, and the wire to it."""

from __future__ import annotations

import threading
import time

import httpx
import redis

from tests.faults.trial import Trial, fault
from tests.faults.visitor import QUESTION


def _order_is_shared(trial: Trial, expected: bool, within: float = 30.0) -> None:
    """Wait until `/health/ready` says whether processes wait for each other."""
    deadline = time.monotonic() + within
    found = None
    while time.monotonic() < deadline:
        found = httpx.get(f"{trial.place.url}/health/ready", timeout=20).json()["shared_order"]
        if found == expected:
            return
        time.sleep(0.2)  # between looks; the deadline decides
    trial.must(False, f"/health/ready says that the order is shared: {found}")


@fault(
    "redis-away", "large", "Redis refuses all connections for 20 s in a conversation, then is back"
)
def redis_away(trial: Trial) -> None:
    """Take Redis away."""
    booking = trial.booking("time")
    wire = trial.wire("redis")
    wire.refuse()
    try:
        trial.endure(booking, 20.0)
        _order_is_shared(trial, False)
    finally:
        wire.restore()
    _order_is_shared(trial, True)
    trial.recover()


@fault("redis-hangs", "large", "Redis takes connections and never answers, for 20 s")
def redis_hangs(trial: Trial) -> None:
    """Let Redis fall silent."""
    booking = trial.booking("time")
    wire = trial.wire("redis")
    wire.hang()
    try:
        trial.endure(booking, 20.0)
        _order_is_shared(trial, False)
    finally:
        wire.reset()
        wire.restore()
    _order_is_shared(trial, True)
    trial.recover()


@fault("redis-slow", "large", "Each answer of Redis comes 5 s late")
def redis_slow(trial: Trial) -> None:
    """Slow Redis down."""
    booking = trial.booking("time")
    wire = trial.wire("redis")
    wire.delay(5.0)
    try:
        trial.endure(booking, 10.0)
    finally:
        wire.restore()
    _order_is_shared(trial, True)
    trial.recover()


@fault("redis-connections-reset", "large", "All connections to Redis are reset, ten times")
def redis_connections_reset(trial: Trial) -> None:
    """Reset between two messages and during them."""
    booking, visitor = trial.booking("time"), trial.visitor()
    wire = trial.wire("redis")
    for number in range(10):
        timer = threading.Timer(0.01 * number, wire.reset)
        timer.start()
        trial.note("a question", visitor.say(QUESTION))
        timer.join()
    wire.reset()
    trial.note("the booking", booking.step())
    trial.red_flag(trial.visitor())
    _order_is_shared(trial, True)
    trial.recover()


@fault(
    "redis-flushed",
    "large",
    "Redis forgets everything (FLUSHALL), 200 times, while a visitor's messages hold the lock",
)
def redis_flushed(trial: Trial) -> None:
    """Take the lock's record from whoever holds it or waits."""
    from concurrent.futures import ThreadPoolExecutor

    booking, visitor = trial.booking("time"), trial.visitor()
    over = threading.Event()

    def flush() -> None:
        client = redis.Redis(port=trial.place.redis_port)
        while not over.wait(0.02):
            client.flushall()

    flusher = threading.Thread(target=flush, daemon=True)
    flusher.start()
    try:
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                for sight in pool.map(visitor.say, [QUESTION] * 4):
                    trial.note("one of four messages at once", sight)
        trial.note("the booking", booking.step())
        trial.red_flag(trial.visitor())
    finally:
        over.set()
        flusher.join(timeout=5)
    visitor.in_order = False
    trial.recover()


@fault("redis-full", "large", "Redis has no memory left and refuses to write")
def redis_full(trial: Trial) -> None:
    """Leave Redis no room."""
    client = redis.Redis(port=trial.place.redis_port)
    booking = trial.booking("time")
    client.config_set("maxmemory", "1")
    try:
        trial.endure(booking, 5.0)
    finally:
        client.config_set("maxmemory", "0")
    _order_is_shared(trial, True)
    trial.recover()
