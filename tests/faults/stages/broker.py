"""RabbitMQ, which hands the events of conversations to others, and the wire to it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict
from typing import Any

import aio_pika
import sqlalchemy as sa

from tests.faults.place import Place
from tests.faults.trial import Trial, fault


class Listener:
    """Takes all events from the broker, past the faulty wire, as a consumer would."""

    def __init__(self, place: Place) -> None:
        self._address = f"amqp://guest:guest@127.0.0.1:{place.rabbitmq_port}/"
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def must_have_all(self, trial: Trial, within: float = 60.0) -> None:
        """Wait until each stored event of the trial's visitors has arrived."""
        deadline = time.monotonic() + within
        while True:
            missing = sum((_stored(trial) - self._arrived()).values())
            if not missing:
                break
            if time.monotonic() > deadline:
                trial.must(False, f"{missing} stored events did not reach the broker")
                return
            time.sleep(0.2)  # between looks; the deadline decides
        trial.recovered += f"; all {sum(_stored(trial).values())} events reached RabbitMQ"
        self._must_be_in_order(trial)

    def _arrived(self) -> Counter[tuple[str, str, float]]:
        return Counter(_key(event["sender_id"], event) for event in list(self.events))

    def _must_be_in_order(self, trial: Trial) -> None:
        times = defaultdict(list)
        for event in list(self.events):
            if event["timestamp"] not in times[event["sender_id"]]:  # may come twice
                times[event["sender_id"]].append(event["timestamp"])
        for visitor in trial.visitors:
            mine = times[visitor.conversation_id]
            trial.must(mine == sorted(mine), "events reached the broker in another order")

    async def _listen(self) -> None:
        connection = await aio_pika.connect(self._address)
        async with connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(
                "rasa-exchange", aio_pika.ExchangeType.FANOUT, durable=True
            )
            queue = await channel.declare_queue("rasa_core_events", durable=True)
            await queue.bind(exchange, "")
            while not self._over.is_set():
                message = await queue.get(fail=False)
                if message is None:
                    await asyncio.sleep(0.05)  # between looks
                    continue
                self.events.append(json.loads(message.body))
                await message.ack()


def _key(conversation_id: str, event: dict[str, Any]) -> tuple[str, str, float]:
    return conversation_id, event["event"], event["timestamp"]


def _stored(trial: Trial) -> Counter[tuple[str, str, float]]:
    query = sa.text("select sender_id, data from events where sender_id in :mine").bindparams(
        sa.bindparam("mine", expanding=True)
    )
    mine = [visitor.conversation_id for visitor in trial.visitors]
    with trial.place.engine.connect() as connection:
        rows = connection.execute(query, {"mine": mine}).all()
    assert rows, "nothing is stored, so nothing was tested"
    return Counter(_key(sender, json.loads(data)) for sender, data in rows)


@fault("broker-away", "large", "RabbitMQ refuses all connections for 20 s in a conversation")
def broker_away(trial: Trial) -> None:
    """Take the broker away; nothing may be lost and nobody may wait."""
    booking = trial.booking("time")
    wire = trial.wire("rabbitmq")
    with Listener(trial.place) as listener:
        wire.refuse()
        try:
            trial.endure(booking, 20.0)
        finally:
            wire.restore()
        trial.recover()
        listener.must_have_all(trial)


@fault("broker-hangs", "large", "RabbitMQ takes connections and never answers, for 20 s")
def broker_hangs(trial: Trial) -> None:
    """Let the broker fall silent."""
    booking = trial.booking("time")
    wire = trial.wire("rabbitmq")
    with Listener(trial.place) as listener:
        wire.hang()
        try:
            trial.endure(booking, 20.0)
        finally:
            wire.reset()
            wire.restore()
        trial.recover()
        listener.must_have_all(trial)


@fault("broker-connections-reset", "large", "All connections to RabbitMQ are reset, twenty times")
def broker_connections_reset(trial: Trial) -> None:
    """Reset while events are sent."""
    booking = trial.booking("time")
    wire = trial.wire("rabbitmq")
    over = threading.Event()

    def reset() -> None:
        for _ in range(20):
            wire.reset()
            over.wait(0.3)
        over.set()

    with Listener(trial.place) as listener:
        resetting = threading.Thread(target=reset, daemon=True)
        resetting.start()
        trial.endure(booking, over.is_set)
        resetting.join()
        trial.recover()
        listener.must_have_all(trial)
