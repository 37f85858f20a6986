"""People who use the staff pages, for the tests."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from assistant.staff.accounts import Accounts
from tests.conftest import Server

PASSWORDS = {
    "ana": "harbor-lantern-seven-otters",
    "eddie": "velvet-quarry-nine-pigeons",
    "olga": "copper-meadow-two-sparrows",
}
ROLES = {"ana": ["staff"], "eddie": ["editor"], "olga": ["staff", "editor"]}


@contextmanager
def office_of(server: Server) -> Iterator[sa.engine.Engine]:
    """Make the accounts in a server's database; provide the database, and leave no account behind."""
    engine = sa.create_engine(server.database_url, poolclass=sa.pool.NullPool)
    accounts = Accounts(engine)
    for name, password in PASSWORDS.items():
        accounts.add(name, password, ROLES[name])
    try:
        yield engine
    finally:
        with engine.begin() as connection:
            for table in ("staff_sessions", "request_assignments", "staff_accounts", "staff_tries"):
                connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608
        engine.dispose()


@dataclass
class Browser:
    """A browser with the staff pages: keeps cookies, says where forms come from, follows nothing."""

    url: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=30, headers={"Origin": self.url})

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(f"/staff{path}", **options)

    def post(self, path: str, **form: Any) -> httpx.Response:
        """Send a form, with the session's token unless the form has one."""
        return self.http.post(f"/staff{path}", data={"csrf": self.csrf(), **form})

    def sign_in(self, name: str, password: str = "", **form: str) -> httpx.Response:
        values = {"name": name, "password": password or PASSWORDS.get(name, ""), **form}
        return self.http.post("/staff/sign-in", data=values)

    def csrf(self) -> str:
        """Return the token that the forms of this session hold."""
        if not hasattr(self, "_csrf"):
            found = re.search(r'name="csrf" value="([^"]+)"', self.get("/account").text)
            self._csrf = found[1] if found else ""
        return self._csrf

    @property
    def token(self) -> str:
        return self.http.cookies.get("staff") or ""

    def text(self, path: str) -> str:
        """Return a page as plain words."""
        response = self.get(path)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return words(response.text)


def words(page: str) -> str:
    body = re.sub(r"(?s)<(script|style|head)\b.*?</\1>", " ", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def signed_in(server: Server, name: str) -> Browser:
    browser = Browser(server.url)
    response = browser.sign_in(name)
    assert response.status_code == 303, words(response.text)
    return browser


def sign_in(page: Page, name: str = "olga") -> None:
    """Sign in with a real browser."""
    page.goto("/staff/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Today")).to_be_visible()
