"""Delivery: real servers take mail and webhooks; nothing is lost, doubled for the receiver, or told."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
import json
import logging
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.contact.cipher import Cipher
from assistant.contact.desk import ContactDesk
from assistant.contact.inbox import Inbox
from assistant.contact.request import new_key
from assistant.delivery.mail import MailSender
from assistant.delivery.message import DeliveryError, OfficeMessage
from assistant.delivery.outbox import MOST_ATTEMPTS, Delivery, Outbox
from assistant.delivery.worker import OutboxWorker, senders_for
from assistant.settings import MailServer as MailSettings
from assistant.settings import Settings, load_settings
from assistant.storage.database import engine_for, outbox
from tests.conftest import start_server
from tests.receivers import Call, MailServer, WebhookReceiver
from tests.test_contact_desk import ANA, CIPHER

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
PERSONAL = ("Ana", "Placeholder", "5550134", "ana@moonbeam", "Tuesday", "ramp")


@pytest.fixture
def engine(database_url: str) -> Engine:
    return engine_for(database_url)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def webhook() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    receiver.start()
    yield receiver
    receiver.stop()


def settings_for(mail: MailServer, webhook: WebhookReceiver, **more: str) -> Settings:
    return load_settings(
        {
            "OFFICE_EMAILS": "desk@moonbeam.example",
            "SMTP_URL": f"smtp+plain://127.0.0.1:{mail.port}",
            "MAIL_FROM": "assistant@moonbeam.example",
            "WEBHOOK_URLS": webhook.url,
            "WEBHOOK_SECRET": SECRET,
            **more,
        }
    )


class Office:
    """A desk with its outbox and worker, which turns without waiting."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.targets = [target.name for target in settings.targets]
        self.desk = ContactDesk(engine, CIPHER, self.targets)
        self.outbox = Outbox(engine, lease_seconds=60, first_pause=0.0)
        self.senders = senders_for(settings)
        self.worker = OutboxWorker(
            self.outbox, Inbox(engine, CIPHER), self.senders, settings.delivery_details
        )

    def request(self, conversation: str = "one") -> str:
        self.desk.keep_draft(conversation, dataclasses.replace(ANA, key=new_key()))
        return self.desk.submit(conversation).number

    def deliver(self, rounds: int = 1) -> None:
        """Let each target try what is due, so many times."""

        async def turn() -> None:
            for _ in range(rounds):
                for target in self.targets:
                    await self.worker.deliver_next(target)

        asyncio.run(turn())

    def states(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return {row.target: row.state for row in connection.execute(sa.select(outbox))}


@pytest.fixture
def office(engine: Engine, mail: MailServer, webhook: WebhookReceiver) -> Office:
    return Office(engine, settings_for(mail, webhook))


def is_signed(call: Call, secret: str = SECRET) -> bool:
    """Verify a call, as docs/staff.md tells a receiver to."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    headers = call.headers
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        return False
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + call.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(
        hmac.compare_digest(part, f"v1,{expected}")
        for part in headers["webhook-signature"].split(" ")
    )


def test_the_office_gets_a_mail_and_a_signed_call_that_tell_only_the_number(
    office: Office, mail: MailServer, webhook: WebhookReceiver
) -> None:
    number = office.request()
    office.deliver()
    assert set(office.states().values()) == {"delivered"}

    (letter,) = mail.mails
    assert letter["To"] == "desk@moonbeam.example"
    assert letter["From"] == "assistant@moonbeam.example"
    assert letter["Subject"] == f"New request {number}"
    assert number in letter.get_content()
    (call,) = webhook.calls
    assert is_signed(call)
    body = json.loads(call.body)
    assert body["type"] == "request.new"
    assert body["data"] == {"number": number}
    assert number in body["text"]
    for word in PERSONAL:
        assert word not in letter.as_string()
        assert word not in call.body.decode()


def test_with_details_the_office_reads_the_request_in_the_message(
    engine: Engine, mail: MailServer, webhook: WebhookReceiver
) -> None:
    office = Office(engine, settings_for(mail, webhook, DELIVERY_DETAILS="yes"))
    office.request()
    office.deliver()
    content = mail.mails[0].get_content()
    details = json.loads(webhook.calls[0].body)["data"]["details"]
    assert details["Phone"] == "+18185550134"
    for word in PERSONAL:
        assert word in content
        assert word in json.dumps(details)


def test_a_forged_or_old_call_does_not_verify(office: Office, webhook: WebhookReceiver) -> None:
    office.request()
    office.deliver()
    (call,) = webhook.calls
    assert not is_signed(Call(call.headers, call.body + b" "))
    assert not is_signed(call, "whsec_" + base64.b64encode(b"x" * 32).decode())
    assert not is_signed(Call({**call.headers, "webhook-timestamp": "1700000000"}, call.body))


def test_while_receivers_are_down_nothing_is_lost_and_the_id_stays(
    office: Office, mail: MailServer, webhook: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    mail.stop()
    webhook.stop()
    office.request()
    with caplog.at_level(logging.WARNING):
        office.deliver(rounds=3)
    assert set(office.states().values()) == {"pending"}
    waiting = office.outbox.undelivered()
    assert [delivery.attempts for delivery in waiting] == [3, 3]
    assert all(delivery.last_error for delivery in waiting)
    assert "is tried again" in caplog.text
    assert "secret-path" not in caplog.text
    for word in PERSONAL:
        assert word not in caplog.text

    mail.start()
    webhook.start()
    mail.answer = "451 4.7.1 greylisted, try later"
    webhook.status = 503
    office.deliver()
    assert set(office.states().values()) == {"pending"}
    mail.answer, webhook.status = "250 OK", 200
    office.deliver(rounds=2)
    assert set(office.states().values()) == {"delivered"}
    assert len(mail.mails) == len(webhook.calls) == 1


def test_who_dies_before_noting_the_delivery_delivers_again_with_the_same_id(
    engine: Engine, mail: MailServer, webhook: WebhookReceiver
) -> None:
    settings = settings_for(mail, webhook)
    office = Office(engine, settings)
    office.request()
    impatient = Outbox(engine, lease_seconds=0.0)

    async def deliver_and_forget() -> None:
        inbox = Inbox(engine, CIPHER)
        worker = OutboxWorker(_Forgetful(impatient), inbox, office.senders)  # type: ignore[arg-type]
        for target in office.targets:
            await worker.deliver_next(target)

    asyncio.run(deliver_and_forget())
    office.deliver()
    assert set(office.states().values()) == {"delivered"}
    assert len(mail.mails) == len(webhook.calls) == 2
    assert len({letter["Message-ID"] for letter in mail.mails}) == 1
    assert len({letter["Date"] for letter in mail.mails}) == 1
    assert len({call.headers["webhook-id"] for call in webhook.calls}) == 1
    assert len({call.headers["idempotency-key"] for call in webhook.calls}) == 1


class _Forgetful:
    """An outbox whose worker dies before it can note anything."""

    def __init__(self, real: Outbox) -> None:
        self.take = real.take

    def settle(self, delivery: Delivery, error: str | None) -> str:
        return "delivered"


def test_several_workers_never_take_the_same_delivery(office: Office) -> None:
    count = 12
    for number in range(count):
        office.request(f"conversation-{number}")
    target = office.targets[0]
    together = threading.Barrier(4)

    def take_all(_: int) -> list[str]:
        mine = Outbox(office.engine)
        taken = []
        together.wait(timeout=10)
        # Skipped rows are another worker's; so look until all are out of the way.
        while delivery := mine.take(target):
            taken.append(delivery.message_id)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [message for part in pool.map(take_all, range(4)) for message in part]
    assert len(taken) == len(set(taken)) == count


def test_pauses_grow_and_are_never_in_step(engine: Engine) -> None:
    box = Outbox(engine, first_pause=15.0)
    pauses = [[box._pause(attempt) for _ in range(50)] for attempt in range(1, MOST_ATTEMPTS)]
    for attempt, drawn in enumerate(pauses, 1):
        full = min(15.0 * 2 ** (attempt - 1), 3600.0)
        assert full / 2 <= min(drawn) < max(drawn) <= full
    days = sum(sum(drawn) / len(drawn) for drawn in pauses) / 86_400
    assert 2 < days < 4


def test_after_days_a_message_is_dead_and_seen_and_can_be_revived(
    office: Office, webhook: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = 410
    number = office.request()
    with office.engine.begin() as connection:
        connection.execute(sa.update(outbox).values(attempts=MOST_ATTEMPTS - 1))
    with caplog.at_level(logging.ERROR):
        office.deliver()
    assert sorted(office.states().values()) == ["dead", "delivered"]
    assert number in caplog.text
    assert "assistant outbox retry" in caplog.text
    assert office.outbox.counts() == {"pending": 0, "dead": 1}
    (dead,) = office.outbox.undelivered()
    assert dead.state == "dead"
    assert dead.last_error == "the receiver answered 410"

    webhook.status = 200
    office.deliver()
    assert webhook.calls == [], "what is dead is left alone"
    assert office.outbox.retry_dead() == 1
    office.deliver()
    assert len(webhook.calls) == 1
    assert office.outbox.counts() == {"pending": 0, "dead": 0}


def test_a_target_that_left_the_settings_is_dead_not_forgotten(office: Office) -> None:
    office.request()
    kept, left = office.targets
    assert office.outbox.bury_strangers([kept]) == 1
    assert office.states() == {kept: "pending", left: "dead"}


def test_a_withdrawn_request_is_told_as_withdrawn(
    office: Office, mail: MailServer, webhook: WebhookReceiver
) -> None:
    number = office.request()
    office.deliver()
    assert office.desk.withdraw("one", number)
    office.deliver()
    assert [letter["Subject"] for letter in mail.mails] == [
        f"New request {number}",
        f"Request {number} was withdrawn",
    ]
    assert [json.loads(call.body)["type"] for call in webhook.calls] == [
        "request.new",
        "request.withdrawn",
    ]
    assert len({letter["Message-ID"] for letter in mail.mails}) == 2


def test_a_request_withdrawn_while_it_is_being_delivered_is_not_told_as_new(
    office: Office, mail: MailServer
) -> None:
    number = office.request()
    target = office.targets[0]
    taken = office.outbox.take(target)
    assert taken is not None
    assert office.desk.withdraw("one", number)
    assert office.worker._message(taken) is None
    asyncio.run(office.worker.deliver_next(target))
    assert [letter["Subject"] for letter in mail.mails] == [f"Request {number} was withdrawn"]


def test_a_slow_target_delays_no_other(
    engine: Engine, mail: MailServer, webhook: WebhookReceiver
) -> None:
    office = Office(engine, settings_for(mail, webhook))
    office.request()
    hangs, works = office.targets[1], office.targets[0]
    asked = threading.Event()

    class Hanging:
        async def send(self, message: OfficeMessage, seconds: float) -> None:
            asked.set()
            await asyncio.sleep(60)

    async def run() -> None:
        senders = {**office.senders, hangs: Hanging()}
        worker = OutboxWorker(office.outbox, Inbox(engine, CIPHER), senders, rest_seconds=0.01)
        task = asyncio.create_task(worker.run())
        while not (mail.mails and asked.is_set()):
            await asyncio.sleep(0.01)
        while office.states()[works] != "delivered":
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert office.states() == {works: "delivered", hangs: "pending"}


def test_the_worker_outlives_a_database_that_goes_away(office: Office, mail: MailServer) -> None:
    office.request()

    async def run() -> None:
        rename(office.engine, "outbox", "away")
        worker = OutboxWorker(
            office.outbox, Inbox(office.engine, CIPHER), office.senders, rest_seconds=0.01
        )
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.2)
        assert not task.done()
        rename(office.engine, "away", "outbox")
        while not mail.mails:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert len(mail.mails) == 1


def rename(engine: Engine, old: str, new: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))


MESSAGE = OfficeMessage("id", "new", "R-7K3M-92QF", dt.datetime.now(dt.timezone.utc))


def send(settings: MailSettings) -> None:
    asyncio.run(MailSender(settings, "desk@moonbeam.example").send(MESSAGE, 10))


def test_mail_goes_out_only_over_tls(mail: MailServer) -> None:
    for security in ("tls", "starttls"):
        with pytest.raises(DeliveryError):
            send(MailSettings("127.0.0.1", mail.port, "a@moonbeam.example", security))
    assert mail.mails == []


def test_mail_over_tls_with_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, context = self_signed(tmp_path)
    seen: list[Any] = []

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        seen.append(data)
        return AuthResult(success=data.password == b"p@ss word")

    server = MailServer(
        {
            "tls_context": context,
            "require_starttls": True,
            "authenticator": authenticate,
            "auth_required": True,
        }
    )
    server.start()
    try:
        settings = MailSettings(
            "localhost", server.port, "a@moonbeam.example", "starttls", "office", "p@ss word"
        )
        with pytest.raises(DeliveryError):
            send(settings)  # nobody vouches for the certificate
        assert seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        send(settings)
    finally:
        server.stop()
    assert len(seen) == 1
    assert server.mails[0]["Message-ID"] == "<id@moonbeam.example>"


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost, and the context of a server that has it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "localhost.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, folder / "localhost.key")
    return path, context


def test_the_server_delivers_and_says_how_the_outbox_is(
    model: Path,
    tmp_path: Path,
    database_url: str,
    engine: Engine,
    mail: MailServer,
    webhook: WebhookReceiver,
) -> None:
    webhook.status = 503
    key = base64.urlsafe_b64encode(b"k" * 32).decode()
    server = start_server(
        tmp_path,
        DATABASE_URL=database_url,
        CONTACT_KEYS=key,
        OFFICE_EMAILS="desk@moonbeam.example",
        SMTP_URL=f"smtp+plain://127.0.0.1:{mail.port}",
        MAIL_FROM="assistant@moonbeam.example",
        WEBHOOK_URLS=webhook.url,
        WEBHOOK_SECRET=SECRET,
    )
    try:
        chat = server.open()
        chat.say("what is sciatica")
        history = server.http.get("/webchat/messages", headers=chat.headers).json()["messages"]
        assert "what is sciatica" in [message["text"] for message in history]
        desk = ContactDesk(
            engine, Cipher([key]), [target.name for target in settings_for(mail, webhook).targets]
        )
        desk.keep_draft("one", ANA)
        number = desk.submit("one").number
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            waits = server.http.get("/health/ready").json()["outbox"]["pending"]
            # The letter is here before the outbox knows that it was taken.
            if waits == 1 and mail.mails and "was not told" in server.log.read_text():
                break
            time.sleep(0.05)  # between looks; the deadline decides
        assert [letter["Subject"] for letter in mail.mails] == [f"New request {number}"]
        answer = server.http.get("/health/ready")
        assert answer.status_code == 200, "a receiver that is away is no reason to be unready"
        assert answer.json()["outbox"] == {"pending": 1, "dead": 0}
    finally:
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=30)
    log = server.log.read_text()
    assert f"Request {number} was not told to webhook:127.0.0.1" in log
    for word in (*PERSONAL, "secret-path", SECRET, key):
        assert word not in log
