"""The requests inbox: what visitors asked the office for, and what became of it."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.contact.cipher import Cipher
from assistant.contact.request import STATUSES, Draft
from assistant.content.office import OfficeFileError, load_office
from assistant.privacy import Retention
from assistant.settings import Settings, office_file
from assistant.staff.guard import STAFF, Guard
from assistant.staff.pages import (
    NotThereError,
    Part,
    download,
    local_time,
    office_zone,
    page,
    part,
    part_alone,
    see,
)
from assistant.staff.request_files import as_calendar, as_csv
from assistant.staff.request_work import (
    LONGEST_NOTE,
    MOST_AT_ONCE,
    MOVES,
    NoRequestError,
    RequestWork,
    Work,
    WorkError,
)
from assistant.staff.visit import Visit
from assistant.storage.database import in_thread

STATUS_WORDS = {
    "new": "New",
    "in_progress": "In progress",
    "handled": "Done",
    "withdrawn": "Withdrawn",
}
_MOVE_WORDS = {"new": "Put back to new", "in_progress": "Take up again", "handled": "Mark as done"}
_SAID = {
    "taken": "It is yours, and in progress.",
    "assigned": "It is assigned.",
    "note": "The note is added.",
    "note-deleted": "The note is deleted.",
    "sent": "It will be sent again within seconds.",
    "new": "It is new again.",
    "in_progress": "It is in progress.",
    "handled": "It is done.",
}
_DEFAULT_MINUTES = 60
_LONGEST_MINUTES = 480


@dataclass(frozen=True)
class Filter:
    """What of the list is wanted.

    Attributes:
        status: one of `STATUSES`; "" for all.
        mine: only what is assigned to who asks.
        number: part of a number; "" for all.
        start: how many lines to skip.
    """

    status: str = "new"
    mine: bool = False
    number: str = ""
    start: int = 0

    @classmethod
    def of(cls, request: Request) -> Filter:
        """Read the filter of an address; what is no filter counts as none."""
        number = request.args.get("number", "").strip()[:20]
        # Who looks for a number does not know what became of it.
        status = request.args.get("status", "all" if number else "new")
        start = request.args.get("start", "")
        return cls(
            status="" if status not in STATUSES else status,
            mine=request.args.get("mine") == "yes",
            number=number,
            start=int(start) if re.fullmatch(r"[0-9]{1,6}", start) else 0,
        )

    def query(self, **changes: Any) -> str:
        """Return it as the query of an address, with some of it changed."""
        values = {**vars(self), "start": 0, **changes}
        chosen = {
            "status": values["status"] or "all",
            "mine": "yes" if values["mine"] else "",
            "number": values["number"],
            "start": values["start"] or "",
        }
        return urlencode({name: value for name, value in chosen.items() if value})


def request_work(engine: Engine, settings: Settings) -> RequestWork:
    """Return the work on requests as the settings have it."""
    return RequestWork(
        engine,
        Cipher(settings.contact_keys),
        Retention.of(settings),
        [target.name for target in settings.targets],
    )


def add_requests(guard: Guard, engine: Engine, settings: Settings) -> None:
    """Add the inbox and the page of each request."""
    work = request_work(engine, settings)

    async def listed(visit: Visit, wanted: Filter) -> Part:
        mine = visit.name if wanted.mine else ""
        lines = await in_thread(work.lines, wanted.status, mine, wanted.number, wanted.start)
        counts = await in_thread(work.count)
        return part(
            "request_list.html",
            visit,
            lines=lines[:MOST_AT_ONCE],
            more=len(lines) > MOST_AT_ONCE,
            most=MOST_AT_ONCE,
            wanted=wanted,
            counts=counts,
            words=STATUS_WORDS,
        )

    @guard.get("/requests", STAFF, menu="Requests")
    async def show_list(request: Request, visit: Visit) -> HTTPResponse:
        wanted = Filter.of(request)
        deleted = request.args.get("done") == "deleted"
        return page(
            "requests.html",
            visit,
            live=await listed(visit, wanted),
            wanted=wanted,
            settings=settings,
            said="The request is deleted." if deleted else "",
        )

    @guard.get("/requests/live", STAFF, quiet=True)
    async def show_list_alone(request: Request, visit: Visit) -> HTTPResponse:
        return part_alone(request, await listed(visit, Filter.of(request)))

    @guard.get("/requests/export.csv", STAFF)
    async def export(request: Request, visit: Visit) -> HTTPResponse:
        wanted = Filter.of(request)
        mine = visit.name if wanted.mine else ""
        lines = await in_thread(work.export, visit.name, wanted.status, mine, wanted.number)
        today = local_time(dt.datetime.now(dt.timezone.utc)).date()
        return download(as_csv(lines), f"requests-{today}.csv", "text/csv")

    async def show_work(
        visit: Visit, number: str, said: str = "", wrong: str = "", note: str = ""
    ) -> HTTPResponse:
        found = await _found(work, number, visit)
        receipt = found.request.receipt
        wishes = found.request.wishes
        return page(
            "request.html",
            visit,
            status=400 if wrong else 200,
            work=found,
            words=STATUS_WORDS,
            moves=[(status, _MOVE_WORDS[status]) for status in MOVES[receipt.status]],
            colleagues=await in_thread(work.colleagues),
            may_send_again=work.may_send_again,
            mail=_mail_link(receipt.number, wishes) if wishes and wishes.email else "",
            minutes=_visit_minutes(),
            today=local_time(dt.datetime.now(dt.timezone.utc)).date().isoformat(),
            longest_note=LONGEST_NOTE,
            longest_minutes=_LONGEST_MINUTES,
            ends_at=_ends_at(found, settings),
            said=said,
            wrong=wrong,
            note=note,
        )

    async def done(
        visit: Visit, number: str, said: str, call: Any, *arguments: Any
    ) -> HTTPResponse:
        """Do something with a request and show it again."""
        number = number.upper()
        try:
            await in_thread(call, number, *arguments)
        except NoRequestError as error:
            raise NotThereError(str(error)) from None
        except WorkError as error:
            return await show_work(visit, number, wrong=str(error))
        return see(f"/requests/{number}", done=said)

    @guard.get("/requests/<number:str>", STAFF)
    async def show(request: Request, visit: Visit, number: str) -> HTTPResponse:
        return await show_work(visit, number, _SAID.get(request.args.get("done", ""), ""))

    @guard.post("/requests/<number:str>/take", STAFF)
    async def take(request: Request, visit: Visit, number: str) -> HTTPResponse:
        return await done(visit, number, "taken", work.take, visit.name)

    @guard.post("/requests/<number:str>/assign", STAFF)
    async def assign(request: Request, visit: Visit, number: str) -> HTTPResponse:
        name = _field(request, "name")
        return await done(visit, number, "assigned", work.assign, name, visit.name)

    @guard.post("/requests/<number:str>/status", STAFF)
    async def move(request: Request, visit: Visit, number: str) -> HTTPResponse:
        status = _field(request, "status")
        return await done(visit, number, status, work.move, status, visit.name)

    @guard.post("/requests/<number:str>/note", STAFF)
    async def add_note(request: Request, visit: Visit, number: str) -> HTTPResponse:
        text = _field(request, "note")
        if len(text.strip()) > LONGEST_NOTE:  # shown again, so that nothing typed is lost
            wrong = f"The note has {len(text.strip())} characters; shorten it to {LONGEST_NOTE}."
            return await show_work(visit, number, wrong=wrong, note=text)
        return await done(visit, number, "note", work.add_note, text, visit.name)

    @guard.post("/requests/<number:str>/note/<note_id:int>/delete", STAFF)
    async def delete_note(
        request: Request, visit: Visit, number: str, note_id: int
    ) -> HTTPResponse:
        return await done(visit, number, "note-deleted", work.delete_note, note_id, visit.name)

    @guard.post("/requests/<number:str>/send-again", STAFF)
    async def send_again(request: Request, visit: Visit, number: str) -> HTTPResponse:
        message = _field(request, "message")
        return await done(visit, number, "sent", work.send_again, message, visit.name)

    @guard.get("/requests/<number:str>/calendar.ics", STAFF)
    async def calendar(request: Request, visit: Visit, number: str) -> HTTPResponse:
        found = await _found(work, number, visit)
        start, minutes = _chosen_time(request)
        if found.request.wishes is None or start is None:
            return await show_work(
                visit,
                number,
                wrong="Choose a day, a time and how many minutes it takes, up to "
                f"{_LONGEST_MINUTES}.",
            )
        receipt = found.request.receipt
        text = as_calendar(receipt.number, found.request.wishes, start, minutes, _address())
        return download(text, f"{receipt.number}.ics", "text/calendar")

    @guard.get("/requests/<number:str>/delete", STAFF)
    async def ask_before_deleting(request: Request, visit: Visit, number: str) -> HTTPResponse:
        return page("request_delete.html", visit, work=await _found(work, number, visit))

    @guard.post("/requests/<number:str>/delete", STAFF)
    async def delete(request: Request, visit: Visit, number: str) -> HTTPResponse:
        everything = _field(request, "everything") == "yes"
        try:
            await in_thread(work.delete, number.upper(), visit.name, everything)
        except NoRequestError as error:
            raise NotThereError(str(error)) from None
        return see("/requests", done="deleted")


async def _found(work: RequestWork, number: str, visit: Visit) -> Work:
    found = await in_thread(work.work, number.upper(), visit.name)
    if found is None:
        raise NotThereError(
            "There is no request with this number. It may have been deleted, by somebody or because "
            "its time was over."
        )
    return found


def _field(request: Request, name: str) -> str:
    return str((request.form or {}).get(name) or "")


def _mail_link(number: str, wishes: Draft) -> str:
    subject = quote(f"Your request {number}")
    return f"mailto:{quote(wishes.email, safe='@')}?subject={subject}"


def _chosen_time(request: Request) -> tuple[dt.datetime | None, int]:
    """Return the time that was chosen, and how many minutes; None if it cannot be read."""
    minutes = request.args.get("minutes", "")
    if not re.fullmatch("[0-9]{1,3}", minutes) or not 0 < int(minutes) <= _LONGEST_MINUTES:
        return None, 0
    try:
        day = dt.date.fromisoformat(request.args.get("day", ""))
        time = dt.time.fromisoformat(request.args.get("time", ""))
    except ValueError:
        return None, 0
    return dt.datetime.combine(day, time.replace(tzinfo=None), office_zone()), int(minutes)


def _ends_at(found: Work, settings: Settings) -> dt.datetime:
    """Return when the server deletes a request by itself."""
    receipt = found.request.receipt
    last = receipt.created_at + dt.timedelta(days=settings.request_days)
    if receipt.status in ("handled", "withdrawn"):
        handled = dt.timedelta(days=settings.handled_request_days)
        last = min(last, found.request.changed_at + handled)
    return last


def _visit_minutes() -> int:
    try:
        return load_office(office_file()).visit_minutes or _DEFAULT_MINUTES
    except OfficeFileError:
        return _DEFAULT_MINUTES


def _address() -> str:
    try:
        return load_office(office_file()).address
    except OfficeFileError:
        return ""
