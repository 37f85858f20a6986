"""The first page: what is new."""

from __future__ import annotations

from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.staff.guard import SIGNED_IN, Guard
from assistant.staff.pages import page
from assistant.staff.visit import Visit


def add_today(guard: Guard, engine: Engine) -> None:
    """Add the first page."""

    @guard.get("/", SIGNED_IN, menu="Today")
    async def show(request: Request, visit: Visit) -> HTTPResponse:
        return page("today.html", visit)
