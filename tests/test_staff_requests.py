"""The requests inbox: what the office sees of requests, does with them, and no longer sees."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.engine import Engine

from assistant.contact.cipher import Cipher
from assistant.contact.desk import ContactDesk
from assistant.contact.inbox import Inbox
from assistant.contact.request import Draft
from assistant.delivery.outbox import Outbox
from assistant.privacy import PersonalData, Retention
from assistant.settings import load_settings
from assistant.staff.accounts import Accounts
from assistant.staff.request_files import as_csv
from assistant.staff.request_work import NoRequestError, RequestWork, WorkError
from assistant.storage.daily_counts import read_counts
from assistant.storage.database import engine_for, request_notes
from tests.conftest import Server
from tests.staff import PASSWORDS, Browser, office_of, signed_in, words

CIPHER = Cipher([Fernet.generate_key().decode()])
KEPT = Retention(transcript=30, handled=30, request=180)
DAY = 86_400.0
TARGET = "email:desk@moonbeam.example"
ROSA = Draft(
    name="Rosa Placeholder",
    phone="+18185550134",
    email="rosa@moonbeam.example",
    preferred_time="Tuesday after four",
    note="prefers the ramp; <b>and</b> a quiet room",
)


# On the running server


@pytest.fixture(scope="module")
def office(server: Server) -> Iterator[Engine]:
    with office_of(server) as engine:
        yield engine
        with engine.begin() as connection:
            for table in ("request_notes", "outbox", "contact_requests", "contact_drafts"):
                connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608


@pytest.fixture(scope="module")
def ana(server: Server, office: Engine) -> Browser:
    return signed_in(server, "ana")


@pytest.fixture(scope="module")
def olga(server: Server, office: Engine) -> Browser:
    return signed_in(server, "olga")


_made = 0


def ask(engine: Engine, draft: Draft = ROSA, cipher: Cipher | None = None) -> str:
    """Make a request as the web chat does; return its number."""
    global _made
    _made += 1
    cipher = cipher or Cipher(load_settings().contact_keys)
    desk = ContactDesk(engine, cipher, [TARGET])
    conversation = f"asks-{_made}-{time.time()}"
    desk.keep_draft(conversation, Draft(**{**vars(draft), "key": conversation}))
    return desk.submit(conversation).number


def test_a_request_is_taken_noted_and_done(office: Engine, ana: Browser, olga: Browser) -> None:
    number = ask(office)
    assert "Rosa Placeholder" in ana.text("/requests")
    page = ana.get(f"/requests/{number.lower()}")
    assert page.status_code == 200
    assert 'href="tel:+18185550134"' in page.text
    assert f'href="mailto:rosa@moonbeam.example?subject=Your%20request%20{number}"' in page.text
    assert "&lt;b&gt;and&lt;/b&gt;" in page.text, "what a visitor wrote must not become HTML"
    assert "(818) 555-0134" in words(page.text)

    assert ana.post(f"/requests/{number}/take").status_code == 303
    assert "ana (you)" in ana.text(f"/requests/{number}")
    assert "Rosa Placeholder" in ana.text("/requests?status=in_progress&mine=yes")
    assert "Rosa Placeholder" not in olga.text("/requests?status=in_progress&mine=yes")
    assert ana.post(f"/requests/{number}/assign", name="olga").status_code == 303
    assert "Rosa Placeholder" in olga.text("/requests?status=in_progress&mine=yes")

    assert olga.post(f"/requests/{number}/note", note="called at ten").status_code == 303
    assert "called at ten" in ana.text(f"/requests/{number}")
    assert olga.post(f"/requests/{number}/status", status="handled").status_code == 303
    assert "Rosa Placeholder" in ana.text("/requests?status=handled")
    assert "Rosa Placeholder" not in ana.text("/requests")
    did = [
        tuple(row)
        for row in ana_log(office, number)
        if row.what not in ("read a request", "signed in")
    ]
    assert did == [
        ("ana", "gave a request to ana"),
        ("ana", "set a request to in progress"),
        ("ana", "gave a request to olga"),
        ("olga", "added a note"),
        ("olga", "set a request to handled"),
    ]


def ana_log(engine: Engine, number: str) -> list[Any]:
    with engine.connect() as connection:
        return connection.execute(
            sa.text("SELECT name, what FROM staff_log WHERE object = :number ORDER BY id"),
            {"number": number},
        ).all()


def test_a_request_is_found_by_part_of_its_number(office: Engine, ana: Browser) -> None:
    number = ask(office, Draft(name="Findable Sample", phone="+18185550135"))
    ask(office, Draft(name="Other Sample", phone="+18185550136"))
    for part in (number, number.lower(), number[2:6], number.replace("-", "")[1:]):
        found = ana.text(f"/requests?number={part}")
        assert "Findable Sample" in found
        assert "Other Sample" not in found, part
    for nothing in ("R-0000-0000", "%25", "_____", "';--"):
        assert "No request has" in ana.text(f"/requests?number={nothing}")


def test_only_ones_own_notes_can_be_deleted(
    server: Server, office: Engine, ana: Browser, olga: Browser
) -> None:
    number, other = ask(office), ask(office)
    ana.post(f"/requests/{number}/note", note="a secret of the office")
    with office.connect() as connection:
        note = connection.execute(
            sa.select(request_notes.c.id).where(request_notes.c.number == number)
        ).scalar()
    holding = [
        name for name, content in server.kept().items() if b"a secret of the office" in content
    ]
    assert holding == [], "the note is not encrypted"
    assert olga.post(f"/requests/{number}/note/{note}/delete").status_code == 404
    assert ana.post(f"/requests/{other}/note/{note}/delete").status_code == 404
    assert "a secret of the office" in olga.text(f"/requests/{number}")
    assert ana.post(f"/requests/{number}/note/{note}/delete").status_code == 303
    assert "a secret of the office" not in olga.text(f"/requests/{number}")


def test_what_is_not_there_is_a_404_and_what_cannot_be_is_said(
    office: Engine, ana: Browser
) -> None:
    for path in ("", "/delete", "/calendar.ics?day=2027-01-04&time=10:00&minutes=60"):
        assert ana.get(f"/requests/R-0000-0000{path}").status_code == 404
    for path in ("take", "assign", "status", "note", "send-again", "delete", "note/1/delete"):
        form = {"note": "words", "status": "handled", "message": "none"}
        assert ana.post(f"/requests/R-0000-0000/{path}", **form).status_code == 404, path
    number = ask(office)
    for path, form, why in (
        ("note", {"note": "  "}, "1 to 2000"),
        ("note", {"note": "much " * 500}, "shorten it"),
        ("status", {"status": "withdrawn"}, "Somebody changed"),
        ("status", {"status": "nonsense"}, "Somebody changed"),
        ("assign", {"name": "eddie"}, "eddie does not answer requests"),
        ("send-again", {"message": message_of(office, number)}, "not in the settings"),
    ):
        response = ana.post(f"/requests/{number}/{path}", **form)
        assert response.status_code == 400
        assert why in words(response.text)


def message_of(engine: Engine, number: str) -> str:
    with engine.connect() as connection:
        return str(
            connection.execute(
                sa.text("SELECT message_id FROM outbox WHERE number = :number"), {"number": number}
            ).scalar()
        )


def test_an_open_page_hears_of_what_is_new(office: Engine, ana: Browser) -> None:
    for page, live in (("/requests", "/requests/live?status=new"), ("/", "/news")):
        tag = re.search(r'data-tag="([^"]+)"', ana.get(page).text)
        assert tag
        known = {"If-None-Match": tag[1].replace("&#34;", '"')}
        assert ana.get(live, headers=known).status_code == 304
        ask(office, Draft(name=f"New for {page}", email="new@moonbeam.example"))
        changed = ana.get(live, headers=known)
        assert changed.status_code == 200
        assert changed.headers["etag"] != known["If-None-Match"]
        if page == "/requests":
            assert "New for /requests" in words(changed.text)


def test_an_editor_sees_nothing_of_requests(server: Server, office: Engine) -> None:
    ask(office, Draft(name="Hidden Sample", phone="+18185550137"))
    eddie = signed_in(server, "eddie")
    for path in ("/", "/news", "/account"):
        page = eddie.text(path)
        assert "Hidden Sample" not in page
        assert "new request" not in page


def test_a_list_is_exported_and_a_spreadsheet_runs_nothing_of_it(
    office: Engine, ana: Browser
) -> None:
    evil = '=HYPERLINK("https://evil.example";"x")'
    number = ask(office, Draft(name=evil, phone="+18185550138", note="one,\ntwo"))
    response = ana.get(f"/requests/export.csv?number={number}")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.search(r'filename="requests-[0-9-]+\.csv"', response.headers["content-disposition"])
    head, row = csv.reader(io.StringIO(response.text))
    fields = dict(zip(head, row, strict=True))
    assert fields["number"] == number
    assert fields["name"] == f"'{evil}"
    assert fields["phone"] == "(818) 555-0138"
    assert fields["note"] == "one,\ntwo"


def test_a_chosen_time_becomes_an_appointment_in_the_offices_zone(
    office: Engine, ana: Browser
) -> None:
    note = "Ramp; and, \\ more\nsecond line " + "é" * 60
    number = ask(office, Draft(name="Zoë Sample", phone="+18185550139", note=note))
    response = ana.get(f"/requests/{number}/calendar.ics?day=2027-01-04&time=09:30&minutes=75")
    assert response.headers["content-type"] == "text/calendar; charset=utf-8"
    lines = response.content.split(b"\r\n")
    assert all(len(line) <= 75 for line in lines)
    text = response.content.replace(b"\r\n ", b"").decode()
    entries = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    assert entries["DTSTART"] == "20270104T173000Z"  # Los Angeles, in winter
    assert entries["DTEND"] == "20270104T184500Z"
    assert entries["SUMMARY"] == f"Zoë Sample ({number})"
    assert "Ramp\\; and\\, \\\\ more\\nsecond line " + "é" * 60 in entries["DESCRIPTION"]
    for query in ("", "day=2027-02-30&time=10:00&minutes=60", "day=2027-01-04&time=10:00&minutes=0",
                  "day=2027-01-04&time=25:00&minutes=60"):  # fmt: skip
        assert ana.get(f"/requests/{number}/calendar.ics?{query}").status_code == 400


def test_a_request_is_deleted_after_a_question(office: Engine, ana: Browser) -> None:
    number = ask(office)
    ana.post(f"/requests/{number}/note", note="to be forgotten")
    assert "cannot be undone" in ana.text(f"/requests/{number}/delete")
    assert ana.get(f"/requests/{number}").status_code == 200
    assert ana.post(f"/requests/{number}/delete").status_code == 303
    assert ana.get(f"/requests/{number}").status_code == 404
    with office.connect() as connection:
        for table in ("request_notes", "outbox", "contact_status_history", "contact_requests"):
            rows = connection.execute(
                sa.text(f"SELECT * FROM {table} WHERE number = :number"),  # noqa: S608
                {"number": number},
            )
            assert rows.all() == [], table
    assert ana_log(office, number)[-1].what == "deleted a request"


# In the database alone


@pytest.fixture
def engine(database_url: str) -> Engine:
    engine = engine_for(database_url)
    Accounts(engine).add("ana", PASSWORDS["ana"], ["staff"])
    return engine


def work_at(engine: Engine, days: float = 0.0) -> RequestWork:
    return RequestWork(engine, CIPHER, KEPT, [TARGET], clock=lambda: time.time() + days * DAY)


def test_nothing_older_than_the_retention_is_shown_or_changed(engine: Engine) -> None:
    done, waiting = ask(engine, cipher=CIPHER), ask(engine, cipher=CIPHER)
    work_at(engine).take(waiting, "ana")
    work_at(engine).move(done, "handled", "ana")
    assert {line.request.receipt.number for line in work_at(engine).lines()} == {done, waiting}
    later = work_at(engine, days=31)
    assert [line.request.receipt.number for line in later.lines()] == [waiting]
    assert later.work(done, "ana") is None
    assert later.count() == {"in_progress": 1}
    for call in (later.move, later.assign):
        with pytest.raises(NoRequestError):
            call(done, "in_progress", "ana")
    assert work_at(engine, days=181).lines() == []
    with engine.begin() as connection:
        for column in ("changed_at", "created_at"):
            connection.execute(
                sa.text(f"UPDATE contact_requests SET {column} = {column} - {31 * DAY}")  # noqa: S608
            )
    assert PersonalData(engine, CIPHER).purge(KEPT).requests == 1
    assert [line.request.receipt.number for line in work_at(engine).lines()] == [waiting]


def test_who_comes_second_is_told_so(engine: Engine) -> None:
    number = ask(engine, cipher=CIPHER)
    work = work_at(engine)
    work.move(number, "handled", "ana")
    work.move(number, "handled", "ana")
    with pytest.raises(WorkError, match="Somebody changed"):
        work.move(number, "new", "ana")
    found = work.work(number, "ana")
    assert found is not None
    assert [step.status for step in found.history] == ["new", "handled"]


def test_the_first_answer_is_counted_once(engine: Engine) -> None:
    number = ask(engine, cipher=CIPHER)
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"UPDATE contact_status_history SET at = at - {5 * 3600}")  # noqa: S608
        )
    work = work_at(engine)
    for status in ("in_progress", "handled", "in_progress", "handled"):
        work.move(number, status, "ana")
    with engine.connect() as connection:
        counts = [(kind, topic, n) for _, kind, topic, n in read_counts(connection, "2000-01-01")]
    assert counts == [("first_answer", "within a day", 1), ("requests", "", 1)]


@pytest.mark.parametrize("state", ["dead", "delivered"])
def test_a_message_is_sent_again(engine: Engine, state: str) -> None:
    number = ask(engine, cipher=CIPHER)
    outbox, work = Outbox(engine), work_at(engine)
    first = outbox.take(TARGET)
    assert first is not None
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE outbox SET state = :state"), {"state": state})
    assert outbox.take(TARGET) is None
    work.send_again(number, first.message_id, "ana")
    again = outbox.take(TARGET)
    assert again is not None
    assert again.attempts == 2
    # A receiver drops an id that it has; so a message that arrived needs another.
    assert (again.message_id == first.message_id) == (state == "dead")
    with pytest.raises(NoRequestError):
        work.send_again("R-0000-0000", again.message_id, "ana")


def test_notes_share_the_fate_of_their_request(engine: Engine) -> None:
    number = ask(engine, cipher=CIPHER)
    work = work_at(engine)
    work.add_note(number, "called at ten", "ana")
    data = PersonalData(engine, CIPHER)
    found = data.find(number=number)
    (exported,) = data.export(found)["requests"]
    assert [note["note"] for note in exported["notes_of_the_office"]] == ["called at ten"]

    new = Fernet.generate_key().decode()
    old_key_too = Cipher([new])
    assert Inbox(engine, old_key_too).renew_encryption() == (0, 2)
    (line,) = RequestWork(engine, old_key_too, KEPT).lines()
    assert line.request.wishes is None
    assert "no key can read it" in as_csv([line])

    data.erase(found)
    with engine.connect() as connection:
        assert connection.execute(sa.select(request_notes)).all() == []


def test_all_about_a_visitor_is_deleted_at_wish(engine: Engine) -> None:
    number = ask(engine, cipher=CIPHER)
    work = work_at(engine)
    work.delete(number, "ana", everything=True)
    found = work.work(number, "ana")
    assert found is not None, "number and times stay as proof"
    assert found.request.receipt.status == "withdrawn"
    assert found.request.wishes == Draft(key=found.request.wishes.key)  # type: ignore[union-attr]
    with pytest.raises(NoRequestError):
        work.delete("R-0000-0000", "ana", everything=True)
    with engine.connect() as connection:
        conversations = connection.execute(
            sa.text("SELECT conversation_id FROM contact_requests")
        ).scalars()
        assert list(conversations) == [None]
