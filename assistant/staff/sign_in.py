"""Sign in, sign out, and one's own account."""

from __future__ import annotations

import asyncio
import logging
import math
from urllib.parse import urlsplit

import sqlalchemy as sa
from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.channels.rate_limit import network_of
from assistant.settings import Settings
from assistant.staff import log
from assistant.staff.accounts import SHORTEST_PASSWORD, Account, AccountError, Accounts
from assistant.staff.guard import OPEN, SIGNED_IN, Guard
from assistant.staff.lockout import Lockout
from assistant.staff.pages import PREFIX, RefusedError, page, see, static_file
from assistant.staff.sessions import Opened
from assistant.staff.visit import Visit
from assistant.storage.database import connected, in_thread, staff_sessions, transaction

logger = logging.getLogger(__name__)

_MOST_WAITING = 8
"""Passwords that wait to be looked at: each takes 64 MiB and a core for a while."""

_SAID = {
    "out": "You are signed out.",
    "everywhere": "You are signed out everywhere.",
    "kept": "Your browser did not keep the sign-in. These pages need cookies and, on a public "
    "server, HTTPS.",
}
_SAID_OF_ACCOUNT = {
    "password": "Your password is changed. Everywhere else you are signed out.",
    "others": "Everywhere else you are signed out.",
}


class SignIn:
    """Checks passwords, one at a time, and opens sessions.

    Args:
        engine: the database, with our tables.
        guard: knows the sessions and their cookie.
        settings: how many proxies stand in front.
    """

    def __init__(self, engine: Engine, guard: Guard, settings: Settings) -> None:
        self._engine = engine
        self._guard = guard
        self._proxies = settings.proxies
        self._accounts = Accounts(engine)
        self._lockout = Lockout(engine)
        self._one = asyncio.Lock()
        self._waiting = 0

    async def open(self, request: Request, name: str, password: str) -> Opened | None:
        """Open a session; None if name and password do not belong together.

        Raises:
            RefusedError: too many tries, or too many at once.
        """
        account = await self._check(request, name, password)
        if account is None:
            return None

        def enter() -> Opened:
            with transaction(self._engine) as connection:
                self._lockout.succeed(connection, name, self._network(request))
                log.note(connection, account.name, "signed in")
                return self._guard.sessions.open(
                    connection, account.name, before=self._guard.token(request)
                )

        return await in_thread(enter)

    async def change_password(self, request: Request, visit: Visit, password: str, new: str) -> str:
        """Change the password and end all other sessions.

        Returns:
            Why it could not be done; "" if it was.

        Raises:
            RefusedError: too many tries, or too many at once.
        """
        if await self._check(request, visit.name, password) is None:
            return "The present password is wrong."
        try:
            await in_thread(self._accounts.set_password, visit.name, new, visit.name, visit.digest)
        except AccountError as error:
            return str(error)

        def forgive() -> None:
            with transaction(self._engine) as connection:
                self._lockout.succeed(connection, visit.name, self._network(request))

        await in_thread(forgive)
        return ""

    async def _check(self, request: Request, name: str, password: str) -> Account | None:
        wait = await in_thread(self._lockout.begin, name, self._network(request))
        if wait > 0:
            minutes = math.ceil(wait / 60)
            raise RefusedError(
                429,
                "Too many tries",
                f"Please wait {minutes} minute{'s' if minutes > 1 else ''}, then try again. Whoever "
                f"runs the assistant can give you a new password.",
                retry_after=math.ceil(wait),
            )
        if self._waiting >= _MOST_WAITING:
            raise RefusedError(503, "Too busy", "Please try again in a minute.", retry_after=10)
        self._waiting += 1
        try:
            async with self._one:
                # Not `in_thread`: on a busy machine hashing takes longer than a database may.
                account = await asyncio.to_thread(self._accounts.check, name, password)
        finally:
            self._waiting -= 1
        if account is None:
            await in_thread(self._note_failure, name)
        return account

    def _note_failure(self, name: str) -> None:
        known = name.strip().lower() in {account.name for account in self._accounts.all()}
        with transaction(self._engine) as connection:
            # Not what was typed: it may be a password.
            log.note(connection, name.strip().lower() if known else "", "gave a wrong password")

    def _network(self, request: Request) -> str:
        behind_proxy = self._proxies > 0 and request.remote_addr
        return network_of(behind_proxy or request.ip)


def add_sign_in(guard: Guard, engine: Engine, settings: Settings) -> None:
    """Add the routes for signing in and out, the account's own page, and the files of the pages."""
    sign_in = SignIn(engine, guard, settings)

    @guard.get("/files/<name:str>", OPEN)
    async def show_file(request: Request, visit: Visit | None, name: str) -> HTTPResponse:
        return static_file(request, name)

    @guard.get("/sign-in", OPEN)
    async def ask(request: Request, visit: Visit | None) -> HTTPResponse:
        wanted = _safe(request.args.get("next", ""))
        if visit:
            return see(wanted[len(PREFIX) :] or "/")
        said = _SAID.get(request.args.get("done", ""), "")
        return page("sign_in.html", wanted=wanted, said=said, wrong="", name="")

    @guard.post("/sign-in", OPEN)
    async def enter(request: Request, visit: Visit | None) -> HTTPResponse:
        form = request.form or {}
        name, wanted = form.get("name", ""), _safe(form.get("next", ""))
        opened = await sign_in.open(request, name, form.get("password", ""))
        if opened is None:
            return page(
                "sign_in.html",
                status=403,
                wanted=wanted,
                said="",
                wrong="Name or password is wrong.",
                name=name,
            )
        # If the browser drops the cookie, the sign-in is what it gets to see, and says so.
        response = see("/sign-in", done="kept", next=wanted)
        _set_cookie(guard, request, response, opened.token)
        return response

    @guard.post("/sign-out", SIGNED_IN)
    async def leave(request: Request, visit: Visit) -> HTTPResponse:
        def end() -> None:
            with transaction(engine) as connection:
                guard.sessions.end(connection, visit.digest)
                log.note(connection, visit.name, "signed out")

        await in_thread(end)
        return _forget_cookie(guard, request, see("/sign-in", done="out"))

    @guard.post("/sign-out-everywhere", SIGNED_IN)
    async def leave_everywhere(request: Request, visit: Visit) -> HTTPResponse:
        def end() -> None:
            with transaction(engine) as connection:
                guard.sessions.end_all(connection, visit.name)
                log.note(connection, visit.name, "signed out everywhere")

        await in_thread(end)
        return _forget_cookie(guard, request, see("/sign-in", done="everywhere"))

    async def account_page(
        visit: Visit, said: str = "", wrong: str = "", status: int = 200
    ) -> HTTPResponse:
        def read() -> tuple[int, list[log.Entry]]:
            query = (
                sa.select(sa.func.count())
                .select_from(staff_sessions)
                .where(staff_sessions.c.name == visit.name)
            )
            with connected(engine) as connection:
                count = int(connection.execute(query).scalar() or 0)
            return count, log.entries(engine, visit.name, most=20)

        sessions, entries = await in_thread(read)
        return page(
            "account.html",
            visit,
            status,
            sessions=sessions,
            entries=reversed(entries),
            shortest=SHORTEST_PASSWORD,
            said=said,
            wrong=wrong,
        )

    @guard.get("/account", SIGNED_IN)
    async def show_account(request: Request, visit: Visit) -> HTTPResponse:
        return await account_page(visit, _SAID_OF_ACCOUNT.get(request.args.get("done", ""), ""))

    @guard.post("/account/password", SIGNED_IN)
    async def change_password(request: Request, visit: Visit) -> HTTPResponse:
        form = request.form or {}
        new = form.get("new", "")
        if new != form.get("again", ""):
            wrong = "The two new passwords are not the same."
        else:
            wrong = await sign_in.change_password(request, visit, form.get("password", ""), new)
        if wrong:
            return await account_page(visit, wrong=wrong, status=400)
        return see("/account", done="password")


def _set_cookie(guard: Guard, request: Request, response: HTTPResponse, token: str) -> None:
    name = guard.cookie(request)
    response.cookies[name] = token
    cookie = response.cookies[name]
    cookie["path"] = "/"
    cookie["httponly"] = True
    cookie["samesite"] = "Strict"
    if guard.is_secure(request):
        cookie["secure"] = True


def _forget_cookie(guard: Guard, request: Request, response: HTTPResponse) -> HTTPResponse:
    _set_cookie(guard, request, response, "")
    response.cookies[guard.cookie(request)]["max-age"] = 0
    return response


def _safe(path: str) -> str:
    """Return a path that the sign-in may lead to: one of ours; "" for anything else."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return ""
    ours = path.startswith(f"{PREFIX}/") and not parts.scheme and not parts.netloc
    harmless = path.isascii() and path.isprintable() and "\\" not in path and "//" not in path
    return path if ours and harmless and not path.startswith(f"{PREFIX}/sign-") else ""
