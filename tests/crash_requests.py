"""Kill the process that takes requests, again and again, and look whether any request suffered.

A small server with our desk and our outbox worker, as `assistant serve` wires them but without
Rasa so that it starts in a second, takes requests over HTTP. It is killed with SIGKILL at random
moments while visitors send requests and while the office's mail server and webhook receiver go up
and down. In the end every request that a visitor saw confirmed must be in the database once and
delivered at least once under one message id; what nobody saw confirmed must be there whole or not
at all.

    python -m tests.crash_requests --kills 200
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from aiohttp import web

from assistant.contact.cipher import Cipher
from assistant.contact.desk import contact_desk
from assistant.contact.inbox import Inbox
from assistant.contact.request import Draft
from assistant.delivery.outbox import Outbox
from assistant.delivery.worker import OutboxWorker, senders_for
from assistant.settings import load_settings
from assistant.storage.database import (
    StorageError,
    contact_requests,
    contact_status_history,
    engine_for,
    outbox,
)
from tests.receivers import MailServer, WebhookReceiver, lasting_port

VISITORS = 6
LEASE_SECONDS = 2.0
FIRST_PAUSE = 0.2
REST_SECONDS = 0.05


async def _serve(port: int) -> None:
    """Take requests and deliver them until killed."""
    settings = load_settings()
    desk = contact_desk()
    engine = engine_for(settings.database_url)
    worker = OutboxWorker(
        Outbox(engine, LEASE_SECONDS, FIRST_PAUSE),
        Inbox(engine, Cipher(settings.contact_keys)),
        senders_for(settings),
        rest_seconds=REST_SECONDS,
    )

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        draft = Draft(**body["draft"])

        def send() -> str:
            desk.keep_draft(body["conversation"], draft)
            return desk.submit(body["conversation"]).number

        try:
            number = await asyncio.to_thread(send)
        except StorageError as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({"number": number}, status=201)

    async def live(request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(worker_outbox.counts))

    worker_outbox = Outbox(engine)
    app = web.Application()
    app.add_routes([web.post("/requests", take), web.get("/live", live)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await worker.run()


@dataclass
class Office:
    """The receivers, and the settings that lead to them."""

    database_url: str
    mail: MailServer = field(default_factory=MailServer)
    webhook: WebhookReceiver = field(default_factory=WebhookReceiver)
    key: str = field(default_factory=lambda: base64.urlsafe_b64encode(os.urandom(32)).decode())

    @property
    def environment(self) -> dict[str, str]:
        """The settings, as an installation gives them."""
        return {
            "DATABASE_URL": self.database_url,
            "CONTACT_KEYS": self.key,
            "OFFICE_EMAILS": "desk@moonbeam.example",
            "MAIL_FROM": "assistant@moonbeam.example",
            "SMTP_URL": f"smtp+plain://127.0.0.1:{self.mail.port}",
            "WEBHOOK_URLS": self.webhook.url,
            "WEBHOOK_SECRET": f"whsec_{base64.b64encode(b'k' * 32).decode()}",
        }

    def start(self) -> None:
        """Bring both receivers up."""
        self.mail.start()
        self.webhook.start()

    def stop(self) -> None:
        """Take both receivers down."""
        self.mail.stop()
        self.webhook.stop()


@dataclass
class Visits:
    """What the visitors sent and what they saw."""

    drafts: dict[str, Draft] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0

    def visit(self, url: str, chance: random.Random, over: threading.Event) -> None:
        """Send request after request; each some times, then give up."""
        with httpx.Client(base_url=url, timeout=5) as http:
            while not over.is_set():
                word = f"{chance.randrange(10**9):09d}"
                draft = Draft(name=f"Ana {word}", phone=f"+1818{word[:7]}", note=f"note {word}")
                self.drafts[draft.key] = draft
                self._send(http, draft, chance, over)
                over.wait(chance.uniform(0.0, 0.2))

    def _send(
        self, http: httpx.Client, draft: Draft, chance: random.Random, over: threading.Event
    ) -> None:
        for _ in range(chance.choice((1, 2, 40))):
            try:
                body = {"conversation": f"web-{draft.key}", "draft": asdict(draft)}
                answer = http.post("/requests", json=body)
            except (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout):
                self.unanswered += 1
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == 201:
                    self.numbers[draft.key] = answer.json()["number"]
                    return
            if over.wait(chance.uniform(0.05, 0.3)):
                return


def run(office: Office, kills: int, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Run the experiment.

    Args:
        office: the receivers and the database, which must be empty.
        kills: how often the server is killed.
        seed: of all chances that are ours; the moments of a machine are its own.
        say: takes lines of progress.

    Returns:
        The figures.

    Raises:
        AssertionError: a request was lost, doubled or halved; or nothing was put to the test.
    """
    chance = random.Random(seed)
    port = lasting_port()
    url = f"http://127.0.0.1:{port}"
    visits, over = Visits(), threading.Event()
    threads = [
        threading.Thread(
            target=visits.visit, args=(url, random.Random(chance.random()), over), daemon=True
        )
        for _ in range(VISITORS)
    ]
    threads.append(
        threading.Thread(
            target=_go_up_and_down, args=(office, random.Random(chance.random()), over), daemon=True
        )
    )
    for thread in threads:
        thread.start()
    for count in range(1, kills + 1):
        server = _start(office, port)
        if chance.random() < 0.9:
            _wait_until_live(server, url)
        time.sleep(chance.uniform(0.0, 1.0))  # the moment is the experiment
        server.send_signal(signal.SIGKILL)
        server.wait()
        if count % 10 == 0 or count == kills:
            say(f"{count} kills, {len(visits.drafts)} requests, {len(visits.numbers)} confirmed")
    over.set()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    office.start()
    server = _start(office, port)
    try:
        _wait_until_live(server, url)
        _wait_until_delivered(url, say)
    finally:
        server.kill()
        server.wait()
    return {"kills": kills, "answers lost": visits.unanswered, **check(office, visits)}


def check(office: Office, visits: Visits) -> dict[str, int]:
    """Compare what visitors saw, what is stored and what arrived; return the figures.

    Raises:
        AssertionError: they do not agree.
    """
    engine, cipher = engine_for(office.database_url), Cipher([office.key])
    with engine.connect() as connection:
        requests = list(connection.execute(sa.select(contact_requests)))
        history = defaultdict(list)
        for step in connection.execute(sa.select(contact_status_history)):
            history[step.number].append(step.status)
        deliveries = defaultdict(list)
        for row in connection.execute(sa.select(outbox)):
            deliveries[row.number].append(row)

    stored = {row.idempotency_key: row.number for row in requests}
    assert len(stored) == len(requests), "a request is stored twice"
    lost = {key: number for key, number in visits.numbers.items() if stored.get(key) != number}
    assert not lost, f"confirmed, but not stored so: {lost}"
    assert set(history) == set(deliveries) == set(stored.values()), "a request is half stored"

    arrived = {
        "email": Counter(
            str(mail["Message-ID"]).strip("<>").split("@")[0] for mail in office.mail.mails
        ),
        "webhook": Counter(call.headers["webhook-id"] for call in office.webhook.calls),
    }
    for row in requests:
        assert (
            Draft(**cipher.open(row.sealed), key=row.idempotency_key)
            == visits.drafts[row.idempotency_key]
        )
        assert history[row.number] == ["new"], f"{row.number} has the history {history[row.number]}"
        kinds = {delivery.target.split(":")[0]: delivery for delivery in deliveries[row.number]}
        assert len(deliveries[row.number]) == 2, f"{row.number} has {deliveries[row.number]}"
        for kind, messages in arrived.items():
            assert kinds[kind].state == "delivered"
            assert messages[kinds[kind].message_id] >= 1, f"{row.number} did not arrive by {kind}"
    for kind, messages in arrived.items():
        assert len(messages) == len(requests), f"{kind}: an unknown message id arrived"
    assert visits.numbers, "no request was confirmed, so nothing was tested"
    unconfirmed = set(visits.drafts) - set(visits.numbers)
    return {
        "requests tried": len(visits.drafts),
        "confirmed": len(visits.numbers),
        "unconfirmed and whole": len(unconfirmed & set(stored)),
        "unconfirmed and absent": len(unconfirmed - set(stored)),
        "mails": arrived["email"].total(),
        "mails again": arrived["email"].total() - len(requests),
        "calls": arrived["webhook"].total(),
        "calls again": arrived["webhook"].total() - len(requests),
        "attempts": sum(row.attempts for rows in deliveries.values() for row in rows),
    }


def _go_up_and_down(office: Office, chance: random.Random, over: threading.Event) -> None:
    while not over.is_set():
        receiver: Any = chance.choice((office.mail, office.webhook))
        chance.choice((receiver.start, receiver.start, receiver.stop))()
        over.wait(chance.uniform(0.05, 0.6))


def _start(office: Office, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash_requests", "--serve", str(port)],
        env={**os.environ, **office.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_until_live(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server stopped by itself"
        try:
            httpx.get(f"{url}/live", timeout=5)
        except httpx.TransportError:
            time.sleep(0.02)  # between looks; the deadline decides
        else:
            return
    raise AssertionError("the server does not answer")


def _wait_until_delivered(url: str, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + 600
    shown = time.monotonic()
    while time.monotonic() < deadline:
        counts = httpx.get(f"{url}/live", timeout=30).json()
        if counts["pending"] == 0:
            return
        if time.monotonic() - shown > 5:
            say(f"{counts['pending']} messages wait to be delivered")
            shown = time.monotonic()
        time.sleep(0.1)  # between looks; the deadline decides
    raise AssertionError("not everything was delivered in ten minutes")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how often to kill [200]")
    parser.add_argument("--seed", type=int, default=5, help="of the chances [5]")
    parser.add_argument(
        "--database", default="", help="address of an empty database [a new SQLite file]"
    )
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS, metavar="PORT")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(_serve(arguments.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        office = Office(arguments.database or f"sqlite:///{Path(folder) / 'requests.db'}")
        office.start()
        began = time.monotonic()
        try:
            figures = run(
                office, arguments.kills, arguments.seed, lambda line: print(line, flush=True)
            )
        finally:
            office.stop()
        figures["seconds"] = round(time.monotonic() - began)
    for name, figure in figures.items():
        print(f"{figure:8}  {name}")
    print("Every confirmed request is stored once and was delivered; none is half there.")


if __name__ == "__main__":
    main()
