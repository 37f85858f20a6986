"""The visitor's rights, and the end of every record: nothing is left that should be gone."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from assistant.command_line import app
from assistant.contact.cipher import Cipher
from assistant.contact.desk import ContactDesk
from assistant.contact.inbox import Inbox
from assistant.contact.request import Draft, new_key
from assistant.office_commands import OfficeCommandError
from assistant.privacy import Deleted, Found, PersonalData, Retention
from assistant.storage.database import (
    contact_drafts,
    contact_requests,
    contact_status_history,
    ended_sessions,
    engine_for,
    outbox,
    privacy_receipts,
)
from tests.test_contact_desk import ANA, TARGETS, rows

KEY = Fernet.generate_key().decode()
CIPHER = Cipher([KEY])
BEN = Draft(name="Ben Placeholder", email="Ben@Moonbeam.example")
DAY = 86_400.0
KEPT = Retention(transcript=30, handled=30, request=180)


@pytest.fixture
def engine(database_url: str) -> Engine:
    """A database in which Rasa has made its table, too."""
    from rasa.core.tracker_store import SQLTrackerStore

    engine = engine_for(database_url)
    SQLTrackerStore.SQLEvent.metadata.create_all(engine)
    return engine


@pytest.fixture
def desk(engine: Engine) -> ContactDesk:
    return ContactDesk(engine, CIPHER, TARGETS)


@pytest.fixture
def data(engine: Engine) -> PersonalData:
    return PersonalData(engine, CIPHER)


def say(engine: Engine, conversation: str, text: str, days_ago: float = 0.0) -> None:
    """Store what a visitor said, as Rasa does."""
    moment = time.time() - days_ago * DAY
    event = {"event": "user", "text": text, "timestamp": moment}
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO events (sender_id, type_name, timestamp, data) "
                "VALUES (:sender, 'user', :moment, :data)"
            ),
            {"sender": conversation, "moment": moment, "data": json.dumps(event)},
        )


def said(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT data FROM events ORDER BY id")).scalars()
        return [json.loads(data)["text"] for data in found]


def send(desk: ContactDesk, conversation: str, draft: Draft) -> str:
    desk.keep_draft(conversation, dataclasses.replace(draft, key=new_key()))
    return desk.submit(conversation).number


def test_a_visitor_is_found_by_whatever_they_left(
    desk: ContactDesk, data: PersonalData, engine: Engine
) -> None:
    ana = send(desk, "web-ana", ANA)
    ben = send(desk, "web-ben", BEN)
    desk.keep_draft("web-cleo", Draft(phone="+18185550177"))
    say(engine, "web-dan", "hello")
    found_ana = Found(frozenset(["web-ana"]), frozenset([ana]))
    found_ben = Found(frozenset(["web-ben"]), frozenset([ben]))
    assert data.find(conversation="web-ana") == found_ana
    assert data.find(number=f" {ana.lower()} ") == found_ana
    assert data.find(phone="(818) 555-0134") == found_ana
    assert data.find(phone="+1 818 555 0134") == found_ana
    assert data.find(email="ben@moonbeam.EXAMPLE") == found_ben
    assert data.find(phone="818 555 0177") == Found(frozenset(["web-cleo"]), frozenset())
    assert data.find(conversation="web-dan") == Found(frozenset(["web-dan"]), frozenset())
    for nobody in (
        data.find(conversation="web-eve"),
        data.find(number="R-0000-0000"),
        data.find(phone="818 555 0199"),
        data.find(email="eve@moonbeam.example"),
        data.find(),
    ):
        assert not nobody


def test_the_export_holds_everything_of_one_visitor_and_nothing_of_another(
    desk: ContactDesk, data: PersonalData, engine: Engine
) -> None:
    number = send(desk, "web-ana", ANA)
    desk.keep_draft("web-ana", Draft(note="a second wish"))
    say(engine, "web-ana", "does it hurt")
    send(desk, "web-ben", BEN)
    say(engine, "web-ben", "where are you")

    exported = json.loads(json.dumps(data.export(data.find(phone="818 555 0134"))))
    (request,) = exported["requests"]
    assert request["number"] == number
    assert request["name"] == ANA.name
    assert request["phone"] == ANA.phone
    assert [step["status"] for step in request["history"]] == ["new"]
    assert {told["target"] for told in request["told"]} == set(TARGETS)
    assert [draft["note"] for draft in exported["drafts"]] == ["a second wish"]
    assert [event["text"] for event in exported["conversations"]["web-ana"]] == ["does it hurt"]
    assert "Ben" not in json.dumps(exported)
    assert "where are you" not in json.dumps(exported)
    (receipt,) = rows(engine, privacy_receipts)
    assert (receipt.action, receipt.requests, receipt.drafts, receipt.events) == ("export", 1, 1, 1)


def test_erasing_one_visitor_leaves_another_whole(
    desk: ContactDesk, data: PersonalData, engine: Engine
) -> None:
    number = send(desk, "web-ana", ANA)
    desk.keep_draft("web-ana", ANA)
    say(engine, "web-ana", "does it hurt")
    other = send(desk, "web-ben", BEN)
    say(engine, "web-ben", "where are you")

    assert data.erase(data.find(number=number)) == Deleted(requests=1, drafts=1, events=1)
    assert said(engine) == ["where are you"]
    requests = {row.number: row for row in rows(engine, contact_requests)}
    assert requests[number].sealed is None
    assert requests[number].conversation_id is None
    assert requests[other].status == "new"
    assert requests[other].sealed
    assert not data.find(phone=ANA.phone)
    assert not data.find(conversation="web-ana")
    receipt = rows(engine, privacy_receipts)[-1]
    assert (receipt.action, receipt.requests, receipt.drafts, receipt.events) == ("erase", 1, 1, 1)
    assert set(receipt._mapping) == {"id", "at", "action", "requests", "drafts", "events"}


def set_times(engine: Engine, number: str, created: float, changed: float) -> None:
    now = time.time()
    with engine.begin() as connection:
        connection.execute(
            sa.update(contact_requests)
            .where(contact_requests.c.number == number)
            .values(created_at=now - created * DAY, changed_at=now - changed * DAY)
        )


def test_the_purge_deletes_what_is_over_and_nothing_else(
    desk: ContactDesk, data: PersonalData, engine: Engine
) -> None:
    inbox = Inbox(engine, CIPHER)
    numbers = {
        name: send(desk, f"web-{name}", ANA)
        for name in ("long_handled", "just_handled", "withdrawn", "waiting", "very_old")
    }
    for name in ("long_handled", "just_handled"):
        assert inbox.mark_handled(numbers[name])
    assert desk.withdraw("web-withdrawn", numbers["withdrawn"])
    set_times(engine, numbers["long_handled"], created=40, changed=31)
    set_times(engine, numbers["just_handled"], created=40, changed=29)
    set_times(engine, numbers["withdrawn"], created=40, changed=31)
    set_times(engine, numbers["waiting"], created=179, changed=179)
    set_times(engine, numbers["very_old"], created=181, changed=181)
    ContactDesk(engine, CIPHER, draft_seconds=-1).keep_draft("web-late", ANA)
    desk.keep_draft("web-now", ANA)
    say(engine, "web-ana", "long ago", days_ago=31)
    say(engine, "web-ana", "lately", days_ago=29)
    with engine.begin() as connection:
        for name, expires_at in (("over", time.time() - 1), ("valid", time.time() + 60)):
            connection.execute(
                sa.insert(ended_sessions).values(conversation_id=name, expires_at=expires_at)
            )

    assert data.purge(KEPT) == Deleted(requests=3, drafts=1, events=1)
    left = {numbers["just_handled"], numbers["waiting"]}
    assert {row.number for row in rows(engine, contact_requests)} == left
    assert {row.number for row in rows(engine, contact_status_history)} == left
    assert {row.number for row in rows(engine, outbox)} == left
    assert said(engine) == ["lately"]
    assert [row.conversation_id for row in rows(engine, ended_sessions)] == ["valid"]
    assert "web-now" in {row.conversation_id for row in rows(engine, contact_drafts)}
    receipt = rows(engine, privacy_receipts)[-1]
    assert (receipt.action, receipt.requests, receipt.drafts, receipt.events) == ("purge", 3, 1, 1)

    before = len(rows(engine, privacy_receipts))
    assert data.purge(KEPT) == Deleted()
    assert len(rows(engine, privacy_receipts)) == before, "no receipt for nothing"


def test_a_purge_of_many_events_goes_in_batches(
    data: PersonalData, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.privacy._BATCH", 2)
    for number in range(5):
        say(engine, "web-ana", f"long ago {number}", days_ago=31)
    say(engine, "web-ana", "lately")
    assert data.purge(KEPT) == Deleted(events=5)
    assert said(engine) == ["lately"]


def test_a_database_without_conversations_can_be_purged(database_url: str) -> None:
    assert PersonalData(engine_for(database_url), CIPHER).purge(KEPT) == Deleted()


def everything(url: str) -> bytes:
    """What the files of an SQLite database, or a dump of a PostgreSQL one, hold."""
    address = sa.engine.make_url(url)
    if address.get_backend_name() == "sqlite":
        path = Path(str(address.database))
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    with engine_for(url).connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        return "\n".join(
            str(tuple(row))
            for table in tables
            for row in connection.execute(sa.select(sa.text("*")).select_from(sa.table(table)))
        ).encode()


CANARY = Draft(
    name="Zyxwv Qqplanted",
    phone="+18185550188",
    email="zyxwv.planted@moonbeam.example",
    preferred_time="Wednesdayish qqplanted",
    note="qqplanted note about a ramp",
)
PLANTED = (b"Zyxwv", b"qqplanted", b"5550188", b"zyxwv.planted", b"Wednesdayish")


def test_canary_planted_words_are_in_no_file_and_no_log(
    database_url: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.echo = True  # so that the log holds each statement with its values
    with caplog.at_level(logging.DEBUG):
        desk = ContactDesk(engine, CIPHER, TARGETS)
        data = PersonalData(engine, CIPHER)
        number = send(desk, "web-canary", CANARY)
        desk.keep_draft("web-canary", CANARY)
        assert data.find(phone=CANARY.phone).numbers == {number}
        data.export(data.find(email=CANARY.email))
        stored = everything(database_url)
        assert number.encode() in stored, "this is where requests are"
        assert desk.withdraw("web-canary", number)
        data.erase(data.find(conversation="web-canary"))
    logged = caplog.text.encode()
    assert b"INSERT INTO contact_requests" in logged
    assert number.encode() in logged
    for word in PLANTED:
        assert word not in stored
        assert word not in logged
        assert word not in everything(database_url)


def test_what_was_erased_is_not_in_the_files_of_sqlite_either(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'assistant.db'}"
    engine = engine_for(url)
    from rasa.core.tracker_store import SQLTrackerStore

    SQLTrackerStore.SQLEvent.metadata.create_all(engine)
    say(engine, "web-canary", "I am Qqplanted and I say so")
    assert b"Qqplanted" in everything(url)
    data = PersonalData(engine, CIPHER)
    data.erase(data.find(conversation="web-canary"))
    assert b"Qqplanted" not in everything(url)


@pytest.fixture
def run(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `assistant` with words; returns what it printed."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CONTACT_KEYS", KEY)

    def run(*words: str, answer: str = "") -> str:
        result = CliRunner().invoke(app, list(words), input=answer, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_staff_read_and_mark_requests(run: Any, desk: ContactDesk) -> None:
    number = send(desk, "web-ana", ANA)
    assert number in run("requests")
    assert ANA.name in run("requests")
    shown = run("requests", "show", number.lower())
    for value in (number, ANA.name, ANA.phone, ANA.email, ANA.preferred_time, ANA.note):
        assert value in shown
    assert "30 days" in run("requests", "handled", number)
    assert number not in run("requests")
    assert number in run("requests", "--all")
    for words in (["show", "R-0000-0000"], ["handled", number]):
        with pytest.raises(OfficeCommandError, match="There is no"):
            run("requests", *words)


def test_staff_see_and_revive_what_is_dead(run: Any, desk: ContactDesk, engine: Engine) -> None:
    number = send(desk, "web-ana", ANA)
    assert "2 waiting, 0 dead" in run("outbox")
    with engine.begin() as connection:
        connection.execute(sa.update(outbox).values(state="dead", last_error="answered 410"))
    shown = run("outbox")
    assert "0 waiting, 2 dead" in shown
    assert number in shown
    assert "answered 410" in shown
    assert "2 messages" in run("outbox", "retry")
    assert "2 waiting, 0 dead" in run("outbox")


def test_staff_export_erase_and_purge(run: Any, desk: ContactDesk, engine: Engine) -> None:
    number = send(desk, "web-ana", ANA)
    say(engine, "web-ana", "long ago", days_ago=31)
    assert json.loads(run("export", "--phone", "818 555 0134"))["requests"][0]["number"] == number
    assert "1 events" in run("purge")
    assert "Deleted 1 requests" in run("erase", "--number", number, answer="y\n")
    with pytest.raises(OfficeCommandError, match="Nothing is stored"):
        run("export", "--phone", "818 555 0134")
    with pytest.raises(OfficeCommandError, match="Say whose"):
        run("erase", "--yes")
    with pytest.raises(OfficeCommandError, match="not a phone number"):
        run("erase", "--phone", "ramp")


def test_erasing_asks_first(run: Any, desk: ContactDesk, engine: Engine) -> None:
    number = send(desk, "web-ana", ANA)
    result = CliRunner().invoke(app, ["erase", "--number", number], input="n\n")
    assert result.exit_code == 1
    assert rows(engine, contact_requests)[0].sealed
    assert "Deleted" in run("erase", "--number", number, "--yes")
    assert rows(engine, contact_requests)[0].sealed is None


def test_staff_rotate_keys(
    run: Any, desk: ContactDesk, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(desk, "web-ana", ANA)
    newer = Fernet.generate_key().decode()
    monkeypatch.setenv("CONTACT_KEYS", newer)
    with pytest.raises(OfficeCommandError, match="1 could not be read"):
        run("rotate-keys")
    monkeypatch.setenv("CONTACT_KEYS", f"{newer}, {KEY}")
    assert "1 requests and drafts" in run("rotate-keys")
    monkeypatch.setenv("CONTACT_KEYS", newer)
    assert ANA.name in run("requests")


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    command = [sys.executable, "-m", "assistant.command_line", "requests"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "DATABASE_URL" in result.stderr
    assert "Traceback" not in result.stderr
