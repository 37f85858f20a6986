"""The first page: what is new."""

from __future__ import annotations

from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.delivery.outbox import Outbox
from assistant.settings import Settings
from assistant.staff.accounts import STAFF
from assistant.staff.guard import SIGNED_IN, Guard
from assistant.staff.pages import Part, page, part, part_alone
from assistant.staff.requests import request_work
from assistant.staff.visit import Visit
from assistant.storage.database import in_thread

_SHOWN = 5


def add_today(guard: Guard, engine: Engine, settings: Settings) -> None:
    """Add the first page. Who does not answer requests sees none of them there."""
    work = request_work(engine, settings)
    outbox = Outbox(engine)

    async def news(visit: Visit) -> Part:
        if STAFF not in visit.roles:
            return part("today_news.html", visit, counts=None, waiting=[], mine=0, dead=0)
        waiting = await in_thread(work.lines, "new")
        mine = await in_thread(work.lines, "in_progress", visit.name)
        return part(
            "today_news.html",
            visit,
            counts=await in_thread(work.count),
            waiting=waiting[:_SHOWN],
            mine=len(mine),
            dead=(await in_thread(outbox.counts))["dead"],
        )

    @guard.get("/", SIGNED_IN, menu="Today")
    async def show(request: Request, visit: Visit) -> HTTPResponse:
        return page("today.html", visit, live=await news(visit))

    @guard.get("/news", SIGNED_IN, quiet=True)
    async def show_news(request: Request, visit: Visit) -> HTTPResponse:
        return part_alone(request, await news(visit))
