"""RabbitMQ, which hands the events of conversations to others, and the wire to it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict

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
        self.numbers: list[int] = []
        """Of the events that arrived, in the order of their arrival."""

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def must_have_all(self, trial: Trial, within: float = 90.0) -> None:
        """Wait until each stored event of the trial's visitors has arrived."""
        deadline = time.monotonic() + within
        stored = _stored(trial)
        while missing := set(stored) - set(self.numbers):
            if time.monotonic() > deadline:
                trial.must(False, f"{len(missing)} stored events did not reach the broker")
                return
            time.sleep(0.2)  # between looks; the deadline decides
        trial.recovered += f"; all {len(stored)} events reached RabbitMQ"
        arrived: dict[str, list[int]] = defaultdict(list)
        for number in dict.fromkeys(self.numbers):  # one may arrive twice, under its number
            if number in stored:
                arrived[stored[number]].append(number)
        for numbers in arrived.values():
            trial.must(numbers == sorted(numbers), "events reached the broker in another order")

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
                self.numbers.append(int(str(message.message_id).partition("-")[0]))
                await message.ack()


def _stored(trial: Trial) -> dict[int, str]:
    """Return the conversation of each stored event, by the event's number."""
    query = sa.text("select id, sender_id from events where sender_id in :mine").bindparams(
        sa.bindparam("mine", expanding=True)
    )
    mine = [visitor.conversation_id for visitor in trial.visitors]
    with trial.place.engine.connect() as connection:
        stored = dict(connection.execute(query, {"mine": mine}).all())
    assert stored, "nothing is stored, so nothing was tested"
    return stored


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
