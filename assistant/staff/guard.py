"""The door to the staff pages: each route says who may use it, and is served through here alone.

    guard = Guard(engine, settings)

    @guard.get("/requests", STAFF, menu="Requests")
    async def show(request: Request, visit: Visit) -> HTTPResponse: ...

    @guard.post("/requests/<number:str>/note", STAFF)
    async def add_note(request: Request, visit: Visit, number: str) -> HTTPResponse: ...

Before a handler is called it is sure that the session lives, that the account has the role, and of a form
that it comes from a page of ours (`Origin`) and of this session (`csrf`).
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sanic import Blueprint
from sanic.exceptions import SanicException, ServiceUnavailable
from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.channels.webchat import failure
from assistant.settings import Settings
from assistant.staff.accounts import EDITOR, ROLES, STAFF
from assistant.staff.pages import PREFIX, NotThereError, RefusedError, refusal_page, see
from assistant.staff.sessions import Session, Sessions
from assistant.staff.visit import MenuEntry, Visit
from assistant.storage.database import StorageError, in_thread

logger = logging.getLogger(__name__)

SIGNED_IN = "signed in"
"""For every account, whatever its role."""

OPEN = "open"
"""For everybody: the sign-in and the files of the pages."""

_ALLOWED = (*ROLES, SIGNED_IN, OPEN)

Handler = Callable[..., Awaitable[HTTPResponse]]


@dataclass(frozen=True)
class Route:
    """What a route says of itself.

    Attributes:
        method: GET or POST.
        path: below `/staff`, as Sanic writes it.
        role: `STAFF`, `EDITOR`, `SIGNED_IN` or `OPEN`.
        menu: its words in the menu; "" if it is not there.
        quiet: whether a page asks for it by itself, which must not keep a session open.
    """

    method: str
    path: str
    role: str
    menu: str = ""
    quiet: bool = False


class _NoPagesError(Exception):
    """There is no account, so there are no pages."""


class Guard:
    """Holds the blueprint and all that its routes say of themselves.

    Args:
        engine: the database, with our tables.
        settings: whether this is production, which wants HTTPS.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.blueprint = Blueprint("staff", url_prefix=PREFIX)
        self.routes: list[Route] = []
        self.sessions = Sessions(engine)
        self._production = settings.production
        self._refuse_in_html()

    def get(
        self, path: str, role: str, menu: str = "", quiet: bool = False
    ) -> Callable[[Handler], Handler]:
        """Declare a page; see `Route`. Its handler gets the request, the visit and the path's parts."""
        return self._declare(Route("GET", path, role, menu, quiet))

    def post(self, path: str, role: str) -> Callable[[Handler], Handler]:
        """Declare what takes a form; see `Route`."""
        return self._declare(Route("POST", path, role))

    def cookie(self, request: Request) -> str:
        """Return the name of the cookie; `__Host-` makes browsers insist on HTTPS and this host."""
        return "__Host-staff" if self.is_secure(request) else "staff"

    def is_secure(self, request: Request) -> bool:
        """Whether cookies are for HTTPS only; not on a developer's machine, which has none."""
        return self._production or request.scheme == "https"

    def token(self, request: Request) -> str:
        """Return the session token that the browser brought; "" for none."""
        return str(request.cookies.get(self.cookie(request)) or "")

    def _declare(self, route: Route) -> Callable[[Handler], Handler]:
        if route.role not in _ALLOWED:
            raise ValueError(
                f"{route.path}: there is no role '{route.role}'; use one of {_ALLOWED}."
            )
        self.routes.append(route)

        def wrap(handler: Handler) -> Handler:
            async def guarded(request: Request, **parts: Any) -> HTTPResponse:
                visit = await self._admit(request, route)
                return await handler(request, visit, **parts)

            name = f"{route.method} {route.path}".translate(_NAME_PARTS)
            self.blueprint.add_route(guarded, route.path, methods=[route.method], name=name)
            return handler

        return wrap

    async def _admit(self, request: Request, route: Route) -> Visit | None:
        """Let in who may; the visit is None only on open routes.

        Raises:
            RefusedError: who asks may not.
        """
        some, session = await in_thread(self.sessions.find, self.token(request), not route.quiet)
        if not some:
            raise _NoPagesError
        visit = self._visit(request, session) if session else None
        request.ctx.visit = visit
        if route.method == "POST" and not _is_from_here(request):
            raise RefusedError(
                403,
                "This form came from another site",
                "Nothing was changed. Open the page here and send its form again.",
            )
        if route.role == OPEN:
            return visit
        if visit is None:
            raise _signed_out(request, route)
        if route.role != SIGNED_IN and route.role not in visit.roles:
            raise RefusedError(
                403,
                "This page is not for your account",
                f"It needs the role {route.role}. Whoever runs the assistant can give it to you.",
            )
        if route.method == "POST" and not _same(_field(request, "csrf"), visit.csrf):
            raise RefusedError(
                403,
                "This form is out of date",
                "Nothing was changed. Go back, reload the page and send the form again.",
            )
        return visit

    def _visit(self, request: Request, session: Session) -> Visit:
        account = session.account
        menu = tuple(
            MenuEntry(f"{PREFIX}{route.path}", route.menu, _is_under(request.path, route.path))
            for route in self.routes
            if route.menu and route.role in (SIGNED_IN, *account.roles)
        )
        return Visit(account.name, account.roles, session.csrf, session.digest, menu)

    def _refuse_in_html(self) -> None:
        blueprint = self.blueprint

        @blueprint.exception(_NoPagesError)
        async def know_nothing(request: Request, error: _NoPagesError) -> HTTPResponse:
            return failure(404).response()  # as for any other address that there is not

        @blueprint.exception(RefusedError)
        async def refuse(request: Request, error: RefusedError) -> HTTPResponse:
            visit = getattr(request.ctx, "visit", None)
            if isinstance(error, _SignedOutError) and error.leads_on:
                return see("/sign-in", next=error.wanted)
            return refusal_page(error, visit)

        @blueprint.exception(StorageError)
        async def apologize(request: Request, error: StorageError) -> HTTPResponse:
            logger.error("A staff page needs the database. %s", error)
            return refusal_page(
                RefusedError(
                    503,
                    "The database does not answer",
                    "Nothing was changed. Please try again in a minute.",
                    retry_after=5,
                ),
                None,
            )

        @blueprint.exception(Exception)
        async def fail(request: Request, error: Exception) -> HTTPResponse:
            if isinstance(error, ServiceUnavailable):  # so Sanic says that the browser hung up
                logger.info("A browser did not wait for its staff page.")
            elif not isinstance(error, SanicException) or error.status_code >= 500:
                logger.error("A staff page failed.", exc_info=error)
            status = error.status_code if isinstance(error, SanicException) else 500
            if status == 404:
                return refusal_page(NotThereError(), getattr(request.ctx, "visit", None))
            return refusal_page(
                RefusedError(
                    status,
                    "Something went wrong here" if status >= 500 else "This could not be read",
                    "Go back and try again. If it stays so, tell whoever runs the assistant: the "
                    "log of the server says more.",
                ),
                None,
            )


class _SignedOutError(RefusedError):
    def __init__(self, leads_on: bool, wanted: str) -> None:
        super().__init__(
            401,
            "You are signed out",
            "Nobody was here for half an hour, or you signed out elsewhere. What you sent was not "
            "taken: sign in and send it again.",
        )
        self.leads_on = leads_on
        self.wanted = wanted


def _signed_out(request: Request, route: Route) -> RefusedError:
    """Return the refusal for who is not signed in: a page leads to the sign-in and back."""
    leads_on = route.method == "GET" and not route.quiet
    query = f"?{request.query_string}" if request.query_string else ""
    return _SignedOutError(leads_on, f"{request.path}{query}")


def _is_from_here(request: Request) -> bool:
    """Whether a form comes from a page of this server: browsers say so of every form."""
    try:
        site = urlsplit(request.headers.get("origin", "")).netloc
    except ValueError:  # such as http://[
        return False
    return bool(site) and site == request.host


def _field(request: Request, name: str) -> str:
    return str((request.form or {}).get(name) or "")


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), right.encode())


def _is_under(path: str, menu_path: str) -> bool:
    whole = f"{PREFIX}{menu_path}".rstrip("/")
    return path.rstrip("/") == whole or (menu_path != "/" and path.startswith(f"{whole}/"))


_NAME_PARTS = str.maketrans(dict.fromkeys(" /<>:.-", "_"))

__all__ = ["EDITOR", "OPEN", "SIGNED_IN", "STAFF", "Guard", "Route"]
