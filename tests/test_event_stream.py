"""The event stream: nothing is lost, nothing is out of order, and nobody waits for the broker."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import logging
import random
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from aio_pika.abc import AbstractIncomingMessage
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rasa.core.brokers.pika import PikaEventBroker
from rasa.core.tracker_store import InMemoryTrackerStore
from rasa.shared.core.events import (
    ActionExecuted,
    BotUttered,
    Event,
    SessionStarted,
    SlotSet,
    UserUttered,
)
from yarl import URL

from assistant.delivery.event_stream import EventStream
from assistant.settings import SettingError
from assistant.storage.database import (
    engine_for,
    event_outbox,
    events,
    transaction,
)
from assistant.storage.transcripts import erase_transcript
from tests.rabbitmq import ABSENT, Consumer, consumer, rabbitmq_server, wire

STREAM_LOG = "assistant.delivery.event_stream"


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with rabbitmq_server() as address:
        if address is None:
            pytest.skip(ABSENT)
        yield address


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.engine.Engine]:
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


def store(engine: sa.engine.Engine, conversation_id: str, said: Sequence[Event]) -> list[int]:
    """Store events as the tracker store does, and note them to be sent; return their numbers."""
    numbers = []
    with transaction(engine) as connection:
        for event in said:
            row = event.as_dict()
            result = connection.execute(
                sa.insert(events).values(
                    sender_id=conversation_id,
                    type_name=event.type_name,
                    timestamp=event.timestamp,
                    data=json.dumps(row),
                )
            )
            numbers.append(result.inserted_primary_key[0])
        connection.execute(sa.insert(event_outbox), [{"event_id": number} for number in numbers])
    return numbers


def remarks(count: int, start: int = 0) -> list[Event]:
    return [UserUttered(f"remark {number}") for number in range(start, start + count)]


def stream(engine: sa.engine.Engine, server: str, consumer: Consumer, **more: Any) -> EventStream:
    url = f"{server}/?exchange={consumer.exchange}&queue={consumer.queue}"
    return EventStream(engine, url, **{"rest_seconds": 0.05, "retry_seconds": 0.2, **more})


@asynccontextmanager
async def running(*streams: EventStream) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * len(tasks)


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        result = true()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < deadline, "it did not become true in time"
        await asyncio.sleep(0.02)


def texts(messages: Sequence[AbstractIncomingMessage]) -> dict[str, list[str]]:
    """Return what was said in each conversation, in order, without what came again."""
    said: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, bytes] = {}
    for message in messages:
        assert message.message_id
        if message.message_id in seen:
            assert seen[message.message_id] == message.body
            continue
        seen[message.message_id] = message.body
        body = json.loads(message.body)
        said[body["sender_id"]].append(body["text"])
    return dict(said)


async def test_consumers_get_what_rasas_own_broker_sends(
    engine: sa.engine.Engine, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RASA_ENVIRONMENT", "the office")
    said: list[Event] = [
        ActionExecuted("action_session_start", policy="RulePolicy", confidence=1.0),
        SessionStarted(),
        ActionExecuted("action_listen"),
        UserUttered(
            "Tut der Rücken weh? 🙂",
            {"name": "symptoms", "confidence": 0.9871234567890123},
            [{"entity": "part", "value": "back", "start": 8, "end": 14}],
            metadata={"id": "message-0001"},
            input_channel="webchat",
        ),
        SlotSet("topic", ["symptoms/back", None]),
        BotUttered("It often does.", {"buttons": [{"title": "Why", "payload": "Why?"}]}, {"a": 1}),
    ]
    url = URL(broker)
    async with consumer(broker) as office:
        rasa = PikaEventBroker(
            f"amqp://{url.host}",
            url.user or "guest",
            url.password or "guest",
            port=url.port or 5672,
            queues=[office.queue],
            exchange_name=office.exchange,
        )
        await rasa.connect()
        await InMemoryTrackerStore(None)._stream_new_events(rasa, said, "visitor-1")
        theirs = await office.take(len(said))
        await rasa.close()
        # The exchange is still there, as Rasa's broker made it: ours must get along with it.
        store(engine, "visitor-1", said)
        async with running(stream(engine, broker, office)):
            ours = await office.take(len(said))

    def by_body(message: AbstractIncomingMessage) -> bytes:
        return message.body

    assert [message.body for message in ours] == [
        json.dumps({"sender_id": "visitor-1", **event.as_dict()}).encode() for event in said
    ]
    # Rasa's broker sends each in a task of its own, so theirs may be in another order.
    for one, other in zip(sorted(ours, key=by_body), sorted(theirs, key=by_body), strict=True):
        assert one.body == other.body
        assert one.headers == other.headers
        assert one.content_type == other.content_type
        assert one.app_id == other.app_id == "the office"
        assert one.delivery_mode == other.delivery_mode
        assert one.routing_key == other.routing_key
        assert one.exchange == other.exchange
    assert len({message.message_id for message in ours}) == len(said)


async def test_the_order_of_each_conversation_is_kept(
    engine: sa.engine.Engine, broker: str
) -> None:
    async with consumer(broker) as office:
        for turn in range(50):
            for visitor in range(7):
                store(engine, f"visitor-{visitor}", remarks(1, turn))
        sending = stream(engine, broker, office)
        assert sending.pending() == 350
        async with running(sending):
            messages = await office.take(350)
            await until(lambda: sending.pending() == 0)
            assert await office.count() == 0
    expected = [f"remark {number}" for number in range(50)]
    assert texts(messages) == {f"visitor-{visitor}": expected for visitor in range(7)}


@pytest.mark.parametrize("breaks", ["before the confirmation", "within a message"])
async def test_a_broken_connection_loses_nothing(
    engine: sa.engine.Engine, broker: str, breaks: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, STREAM_LOG)
    async with consumer(broker) as office, wire(broker) as cable:
        sending = stream(engine, f"amqp://guest:guest@127.0.0.1:{cable.port}", office)
        async with running(sending):
            store(engine, "visitor-0", [UserUttered("first")])
            await office.take(1)
            await until(lambda: sending.pending() == 0)
            if breaks == "before the confirmation":
                cable.answers_pass = False
            else:
                cable.bytes_left = 5_000
            for visitor in range(4):
                store(engine, f"visitor-{visitor}", remarks(30))
            if breaks == "before the confirmation":
                await until(office.has_some)
            else:
                await until(lambda: cable.bytes_left == 0)
            await cable.cut()
            await until(lambda: "rests" in caplog.text)
            waiting = sending.pending()
            assert 0 < waiting <= 120
            store(engine, "visitor-0", remarks(30, 30))  # is stored as if nothing were wrong
            assert sending.pending() == waiting + 30
            await cable.mend()
            await until(lambda: sending.pending() == 0)
            messages = await office.take_different(150)
    expected = [f"remark {number}" for number in range(60)]
    assert texts(messages) == {
        "visitor-0": expected,
        **{f"visitor-{visitor}": expected[:30] for visitor in range(1, 4)},
    }
    if breaks == "before the confirmation":
        assert len(messages) > 150  # what the broker had but could not confirm came again
    told = [record.getMessage() for record in caplog.records if record.name == STREAM_LOG]
    assert [line for line in told if "rests" in line and "RabbitMQ" in line] == [
        line for line in told if "rests" in line
    ]
    assert len([line for line in told if "rests" in line]) == 1
    assert len([line for line in told if "goes on" in line]) == 1
    assert "remark" not in caplog.text


async def test_a_broker_that_is_away_at_the_start_is_waited_for(
    engine: sa.engine.Engine, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, STREAM_LOG)
    async with consumer(broker) as office, wire(broker) as cable:
        await cable.cut()
        store(engine, "visitor-1", remarks(3))
        sending = stream(engine, f"amqp://guest:guest@127.0.0.1:{cable.port}", office)
        async with running(sending):
            await until(lambda: "ConnectionError" in caplog.text)
            assert sending.pending() == 3
            await cable.mend()
            messages = await office.take(3)
    assert texts(messages) == {"visitor-1": ["remark 0", "remark 1", "remark 2"]}


async def test_a_silent_broker_holds_up_nobody(engine: sa.engine.Engine, broker: str) -> None:
    async with consumer(broker) as office, wire(broker) as cable:
        sending = stream(
            engine,
            f"amqp://guest:guest@127.0.0.1:{cable.port}",
            office,
            answer_seconds=60.0,
        )
        async with running(sending):
            store(engine, "visitor-0", [UserUttered("first")])
            await office.take(1)
            await until(lambda: sending.pending() == 0)
            cable.answers_pass = False
            store(engine, "visitor-1", remarks(10))
            await until(office.has_some)  # so the stream waits for the confirmation
            # Either would fail after five seconds if the stream held a lock.
            await asyncio.to_thread(store, engine, "visitor-2", remarks(1))

            def erase() -> int:
                with transaction(engine) as connection:
                    return erase_transcript(connection, "visitor-1")

            assert await asyncio.to_thread(erase) == 10
            assert sending.pending() == 1


async def test_a_broker_that_says_nothing_is_left_and_asked_anew(
    engine: sa.engine.Engine, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, STREAM_LOG)
    async with consumer(broker) as office, wire(broker) as cable:
        server = f"amqp://guest:guest@127.0.0.1:{cable.port}"
        sending = stream(engine, server, office, answer_seconds=0.5)
        async with running(sending):
            store(engine, "visitor-1", [UserUttered("first")])
            await office.take(1)
            await until(lambda: sending.pending() == 0)
            cable.answers_pass = False  # as when a firewall forgot the connection
            store(engine, "visitor-1", remarks(3))
            await until(lambda: "no answer within 0.5 seconds" in caplog.text)
            await cable.cut()
            await cable.mend()
            messages = await office.take_different(3)
    assert texts(messages) == {"visitor-1": ["remark 0", "remark 1", "remark 2"]}


async def test_what_was_erased_before_is_never_sent(engine: sa.engine.Engine, broker: str) -> None:
    async with consumer(broker) as office:
        store(engine, "visitor-1", remarks(5))
        store(engine, "visitor-2", remarks(5))
        with transaction(engine) as connection:
            assert erase_transcript(connection, "visitor-1") == 5
        sending = stream(engine, broker, office)
        assert sending.pending() == 5
        async with running(sending):
            messages = await office.take(5)
            await until(lambda: sending.pending() == 0)
            assert await office.count() == 0
    assert set(texts(messages)) == {"visitor-2"}


async def test_an_erased_events_number_makes_no_later_event_a_repeat(
    engine: sa.engine.Engine, broker: str
) -> None:
    async with consumer(broker) as office, running(stream(engine, broker, office)):
        store(engine, "visitor-1", [UserUttered("before")])
        [before] = await office.take(1)
        with transaction(engine) as connection:
            erase_transcript(connection, "visitor-1")
        store(engine, "visitor-2", [UserUttered("after")])  # SQLite uses the number again
        [after] = await office.take(1)
    assert before.message_id != after.message_id


async def test_a_number_that_is_given_again_while_its_event_is_sent_is_not_forgotten(
    engine: sa.engine.Engine, broker: str
) -> None:
    async with consumer(broker) as office:
        sending = stream(engine, broker, office)
        store(engine, "visitor-1", [UserUttered("before")])
        [sent] = sending._oldest()
        with transaction(engine) as connection:
            erase_transcript(connection, "visitor-1")
        store(engine, "visitor-2", [UserUttered("after")])
        sending._forget([(sent.event_id, sent.timestamp)])
        assert sending.pending() == 1
        [waits] = sending._oldest()
        sending._forget([(waits.event_id, waits.timestamp)])
        assert sending.pending() == 0


async def test_a_large_event_arrives_whole(engine: sa.engine.Engine, broker: str) -> None:
    text = "ü" * 300_000  # several of the frames that RabbitMQ takes
    async with consumer(broker) as office:
        store(engine, "visitor-1", [UserUttered(text), UserUttered("and then")])
        async with running(stream(engine, broker, office)):
            messages = await office.take(2)
    assert texts(messages) == {"visitor-1": [text, "and then"]}


async def test_a_damaged_event_costs_only_itself(
    engine: sa.engine.Engine, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with consumer(broker) as office:
        damaged = store(engine, "visitor-1", remarks(4))[1:3]
        with transaction(engine) as connection:
            for number, data in zip(damaged, ('{"event": "user", "te', None), strict=True):
                connection.execute(sa.update(events).where(events.c.id == number).values(data=data))
        sending = stream(engine, broker, office)
        async with running(sending):
            messages = await office.take(2)
            await until(lambda: sending.pending() == 0)
    assert texts(messages) == {"visitor-1": ["remark 0", "remark 3"]}
    for number in damaged:
        assert f"Event {number} is damaged" in caplog.text


async def test_events_without_a_queue_wait_for_one(
    engine: sa.engine.Engine, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, STREAM_LOG)
    async with consumer(broker) as office:
        url = f"{broker}/?exchange={office.exchange}&queue="
        sending = EventStream(engine, url, rest_seconds=0.05, retry_seconds=0.2)
        async with running(sending):
            store(engine, "visitor-1", remarks(3))
            await until(lambda: "no queue is bound" in caplog.text)
            assert sending.pending() == 3
            queue = await office.channel.declare_queue(office.queue, durable=True)
            await queue.bind(office.exchange)
            messages = await office.take(3)
    assert texts(messages) == {"visitor-1": ["remark 0", "remark 1", "remark 2"]}


async def test_what_a_full_queue_refuses_is_sent_when_there_is_room(
    engine: sa.engine.Engine, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, STREAM_LOG)
    async with consumer(broker) as office:
        limits = {"x-max-length": 4, "x-overflow": "reject-publish"}
        await office.channel.declare_queue(office.queue, durable=True, arguments=limits)
        store(engine, "visitor-1", remarks(12))
        sending = stream(engine, broker, office)
        async with running(sending):
            await until(lambda: "refused an event" in caplog.text)
            assert 0 < sending.pending() < 12
            messages = await office.take_different(12)
    assert texts(messages) == {"visitor-1": [f"remark {number}" for number in range(12)]}


async def test_exchange_and_queue_outlive_the_broker(engine: sa.engine.Engine, broker: str) -> None:
    async with consumer(broker) as office:
        store(engine, "visitor-1", remarks(1))
        async with running(stream(engine, broker, office)):
            [message] = await office.take(1)
        # RabbitMQ refuses a declaration that differs from what is there.
        await office.channel.declare_exchange(office.exchange, "fanout", durable=True)
        await office.channel.declare_queue(office.queue, durable=True)
        assert message.delivery_mode == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_it_stops_at_any_moment_and_goes_on_later(
    engine: sa.engine.Engine, broker: str
) -> None:
    moments = random.Random(7)
    async with consumer(broker) as office:
        store(engine, "visitor-1", remarks(300))
        for _ in range(15):
            task = asyncio.create_task(stream(engine, broker, office).run())
            await asyncio.sleep(moments.uniform(0.0, 0.08))
            task.cancel()
            await asyncio.wait([task], timeout=20.0)
            assert task.cancelled()
        async with running(stream(engine, broker, office)):
            messages = await office.take_different(300)
    assert texts(messages) == {"visitor-1": [f"remark {number}" for number in range(300)]}


async def test_streams_of_several_processes_send_each_event_once(
    postgres: str, broker: str
) -> None:
    from tests.postgres import postgres_database

    with postgres_database(postgres) as url:
        engine = engine_for(url)
        others = [sa.create_engine(url) for _ in range(2)]
        async with consumer(broker) as office:
            for turn in range(60):
                for visitor in range(10):
                    store(engine, f"visitor-{visitor}", remarks(1, turn))
            streams = [stream(one, broker, office) for one in (engine, *others)]
            async with running(*streams):
                messages = await office.take(600)
                await until(lambda: streams[0].pending() == 0)
                # Those that stand back must go on when the one that sends stops.
            async with running(*streams[1:]):
                store(engine, "visitor-0", remarks(30, 60))
                messages += await office.take(30)
                await until(lambda: streams[0].pending() == 0)
                assert await office.count() == 0
        for one in (engine, *others):
            one.dispose()
    assert len({message.message_id for message in messages}) == 630
    expected = [f"remark {number}" for number in range(60)]
    said = texts(messages)
    assert said.pop("visitor-0") == [f"remark {number}" for number in range(90)]
    assert said == {f"visitor-{visitor}": expected for visitor in range(1, 10)}


async def test_the_stream_outlives_a_failing_database(
    postgres: str, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.postgres import postgres_database

    caplog.set_level(logging.WARNING, STREAM_LOG)
    with postgres_database(postgres) as url:
        engine = engine_for(url)
        async with consumer(broker) as office:
            sending = stream(engine, broker, office)
            async with running(sending):
                store(engine, "visitor-1", remarks(1))
                messages = await office.take(1)
                # Else it is sent again, as it should be, and taken for the next one below.
                await until(lambda: sending.pending() == 0)
                with engine.begin() as connection:
                    connection.execute(sa.text("ALTER TABLE event_outbox RENAME TO away"))
                await until(lambda: "The database failed" in caplog.text)
                with engine.begin() as connection:
                    connection.execute(sa.text("ALTER TABLE away RENAME TO event_outbox"))
                store(engine, "visitor-1", remarks(1, 1))
                messages += await office.take(1)
        engine.dispose()
    assert texts(messages) == {"visitor-1": ["remark 0", "remark 1"]}


def make_certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself; return the file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "broker.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("host", "knows_signer", "complaint"),
    [
        ("127.0.0.1", True, ""),
        ("127.0.0.1", False, "self-signed certificate|self signed certificate"),
        ("localhost", True, "Hostname mismatch"),
    ],
)
async def test_with_tls_the_brokers_certificate_is_checked(
    engine: sa.engine.Engine,
    broker: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    host: str,
    knows_signer: bool,
    complaint: str,
) -> None:
    caplog.set_level(logging.WARNING, STREAM_LOG)
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with consumer(broker) as office, wire(broker, context) as cable:
        url = f"amqps://guest:guest@{host}:{cable.port}/?exchange={office.exchange}&queue={office.queue}"
        if knows_signer:
            url += f"&cacertfile={quote(str(certificate))}"
        store(engine, "visitor-1", remarks(1))
        sending = EventStream(engine, url, rest_seconds=0.05, retry_seconds=0.2)
        async with running(sending):
            if not complaint:
                await office.take(1)
                return
            await until(lambda: any(part in caplog.text for part in complaint.split("|")))
            assert sending.pending() == 1


async def test_a_wrong_password_is_said_and_not_shown(
    engine: sa.engine.Engine, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with consumer(broker) as office:
        url = str(URL(broker).with_password("the-wrong-password"))
        async with running(stream(engine, url.rstrip("/"), office)):
            await until(lambda: "ACCESS_REFUSED" in caplog.text)
    assert "the-wrong-password" not in caplog.text


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("rabbitmq:5672", "must be amqps://"),
        ("http://user:hidden@rabbitmq", "must be amqps://"),
        ("amqp:///queue", "must be amqps://"),
        ("amqp://user:hidden@rabbitmq:99999", "cannot be read"),
        ("amqps://user:hidden@rabbitmq/?no_verify_ssl=1", "holds no_verify_ssl; it may hold"),
        ("amqp://user:hidden@rabbitmq/?exchange=", "exchange .* is empty"),
        ("amqp://user:hidden@rabbitmq/?cacertfile=/ca.pem", "must begin with amqps://"),
        ("amqps://user:hidden@rabbitmq/?cacertfile=/nowhere/ca.pem", "No such file"),
        ("amqps://user:hidden@rabbitmq/?certfile=" + quote(__file__), "cannot be used"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint) as refusal:
        EventStream(sa.create_engine("sqlite://"), url)
    assert "AMQP_URL" in str(refusal.value)
    assert "hidden" not in str(refusal.value)
