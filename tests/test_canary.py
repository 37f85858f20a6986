"""Planted personal data is found nowhere but, encrypted, in the requests: the canary test."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import Chat, Server, start_server, stop_server
from tests.receivers import MailServer, WebhookReceiver

NAME = "Xanthippe Vauquelin"
PHONE = "(747) 555-0188"
EMAIL = "xanthippe.canary@example.com"
NOTE = "Purple walrus statue at the door"
TIME = "Thursdays at 4:47 sharpish"
OUTSIDE_NAME = "Zebulon Quixley"
OUTSIDE_PHONE = "747-555-0166"
OUTSIDE_EMAIL = "quixley.outside@example.com"
MISTYPED = "xanthippe.mistyped@nowhere"
ABANDONED = "Ferdinanda Gribblewick"

# Each in the forms in which it could stand somewhere.
CANARIES = [
    "xanthippe", "vauquelin", "7475550188", "555-0188", "555 0188", "xanthippe.canary", "walrus",
    "sharpish", "zebulon", "quixley", "7475550166", "555-0166", "555 0166", "nowhere", "ferdinanda",
    "gribblewick", "747-5501", "wallpaper",
]  # fmt: skip


@pytest.fixture
def receivers() -> Iterator[tuple[MailServer, WebhookReceiver]]:
    mail, webhook = MailServer(), WebhookReceiver()
    mail.start()
    webhook.start()
    yield mail, webhook
    mail.stop()
    webhook.stop()


@pytest.fixture
def office(
    model: Path, tmp_path: Path, database_url: str, receivers: tuple[MailServer, WebhookReceiver]
) -> Iterator[Server]:
    mail, webhook = receivers
    server = start_server(
        tmp_path,
        DATABASE_URL=database_url,
        OFFICE_EMAILS="office@moonbeam.example",
        SMTP_URL=f"smtp+plain://127.0.0.1:{mail.port}",
        MAIL_FROM="assistant@moonbeam.example",
        WEBHOOK_URLS=webhook.url,
        WEBHOOK_SECRET="whsec_" + base64.b64encode(b"s" * 32).decode(),
    )
    yield server
    if server.process.poll() is None:
        stop_server(server)


def test_planted_data_is_only_in_the_encrypted_fields(
    office: Server, database_url: str, receivers: tuple[MailServer, WebhookReceiver]
) -> None:
    mail, webhook = receivers
    chat = office.open()
    shown = send_a_request(chat)
    for text in (NAME, PHONE, EMAIL, NOTE, TIME):
        assert text in shown, "the visitor did not see what is to be sent"
    write_outside_the_form(chat)
    leave_a_form(office.open())
    send_what_is_refused(chat)
    wait_for(lambda: bool(mail.mails and webhook.calls))
    history = chat.http.get("/webchat/messages", headers=chat.headers).text
    assert "(your answer; not kept here)" in history
    assert "[answer" not in history
    stop_server(office)

    stored = dump(database_url)
    assert "[answer: name]" in stored["events"]
    assert "[phone]" in stored["events"]
    places = {
        **stored,
        "what is shown after a reload": history,
        "mail": "\n".join(part.as_string() for part in mail.mails),
        "webhook": "\n".join(f"{call.headers} {call.body!r}" for call in webhook.calls),
        **{
            path.name: path.read_bytes().decode("latin-1")
            for path in office.log.parent.iterdir()
            if path.is_file()
        },
    }
    assert {"events", "contact_requests", "contact_drafts", "outbox", "server.log"} <= places.keys()
    found = [
        f"{canary} in {place}"
        for place, text in places.items()
        for canary in CANARIES
        if canary in text.lower()
    ]
    assert found == []
    assert planted_request(database_url) == {
        "name": NAME, "phone": "+17475550188", "email": EMAIL, "note": NOTE, "preferred_time": TIME,
    }  # fmt: skip


def send_a_request(chat: Chat) -> str:
    """Fill in the form with every kind of detour; return what was shown before sending."""
    said = [
        "I want to book an appointment", "Yes, that's okay", f"my name is {NAME}",
        "747-5501", MISTYPED, "does acupuncture hurt?", PHONE, "the wallpaper is blue", TIME,
        "i have crushing chest pain and cant breathe", "I have been checked by a doctor already",
        f"actually my e-mail is {EMAIL}", NOTE, "why?", "go back", NOTE,
    ]  # fmt: skip
    shown = [message["text"] for text in said for message in chat.say(text)]
    assert "has your request" in chat.say("send")[0]["text"]
    return "\n".join(shown)


def write_outside_the_form(chat: Chat) -> None:
    chat.say(f"my name is {OUTSIDE_NAME}")
    chat.say(f"my number is {OUTSIDE_PHONE}, is that stored?")
    chat.say(f"you can write to {OUTSIDE_EMAIL} and tell me about parking")
    chat.say("what did you store about me?")
    chat.say("can you repeat that?")


def leave_a_form(chat: Chat) -> None:
    for text in ("book me in", "yes", ABANDONED):
        chat.say(text)


def send_what_is_refused(chat: Chat) -> None:
    address, headers = "/webchat/messages", chat.headers
    for body in (f'{{"text": "{NAME}"', f'{{"postback": "{NAME}"}}', f'{{"text": "{NAME * 100}"}}'):
        response = chat.http.post(address, content=body, headers=headers)
        assert response.status_code in (400, 413)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 seconds"
        time.sleep(0.05)  # between looks; the deadline decides, not this


def dump(database_url: str) -> dict[str, str]:
    """Return every row of every table as text."""
    engine = sa.create_engine(database_url)
    schema = sa.MetaData()
    schema.reflect(engine)
    with engine.connect() as connection:
        rows = {t.name: connection.execute(sa.select(t)).all() for t in schema.sorted_tables}
    engine.dispose()
    return {name: "\n".join(repr(tuple(row)) for row in found) for name, found in rows.items()}


def planted_request(database_url: str) -> dict[str, str]:
    """Return the one request, decrypted."""
    from assistant.contact.cipher import Cipher
    from assistant.contact.inbox import Inbox
    from assistant.settings import load_settings
    from assistant.storage.database import engine_for

    inbox = Inbox(engine_for(database_url), Cipher(load_settings().contact_keys))
    (request,) = inbox.requests()
    assert request.wishes is not None
    return {name: value for name, value in vars(request.wishes).items() if name != "key"}
