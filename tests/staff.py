"""People who use the staff pages, for the tests."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from assistant.staff.accounts import Accounts
from tests.browser import AXE_RULES
from tests.conftest import PROJECT, Server

PASSWORDS = {
    "ana": "harbor-lantern-seven-otters",
    "eddie": "velvet-quarry-nine-pigeons",
    "olga": "copper-meadow-two-sparrows",
}
ROLES = {"ana": ["staff"], "eddie": ["editor"], "olga": ["staff", "editor"]}

WIDTHS = (360, 768, 1280)

CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((one) => !one.disabled && one.type !== "hidden" && one.checkVisibility())
  // Of a group of which one is chosen, that one is reached; the arrow keys reach the others.
  .filter((one) => one.type !== "radio" || one.checked
                   || !document.querySelector(`[name="${one.name}"]:checked`))
  .map((one) => one.outerHTML.slice(0, 120))"""
HAS_FOCUS = """() => {
  const one = document.activeElement, look = getComputedStyle(one);
  // Of a date or a time the browser itself marks the part that has the focus.
  const parts = ["date", "time"].includes(one.type);
  const marked = parts || look.outlineStyle !== "none" || look.boxShadow !== "none";
  return [one.outerHTML.slice(0, 120), marked];
}"""


def copy_of_the_project(folder: Path) -> Path:
    """Copy what editors change, and what it is trained and served with, to a new folder; return that."""
    for name in ("data", "models", "actions"):
        shutil.copytree(PROJECT / name, folder / name)
    for path in PROJECT.glob("*.yml"):
        shutil.copy(path, folder)
    # A training there is from nothing unless Rasa's cache comes along.
    if (PROJECT / ".rasa").exists():
        shutil.copytree(PROJECT / ".rasa", folder / ".rasa")
    return folder


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
    """Sign in with a real browser, by keyboard."""
    page.goto("/staff/")
    write_into(page, "Name", name)
    write_into(page, "Password", PASSWORDS[name])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Today")).to_be_visible()


def tab_to(page: Page, words: str, most: int = 400) -> None:
    """Press Tab until what has the focus says these words."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        seen.append(
            str(
                page.evaluate(
                    "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()"
                )
            )
        )
        if words in seen[-1]:
            return
    raise AssertionError(f"{words!r} is not reached by Tab: {seen}")


def press(page: Page, words: str) -> None:
    """Tab to a link or a button and press it."""
    tab_to(page, words)
    page.keyboard.press("Enter")


def write_into(page: Page, label: str, text: str) -> None:
    """Tab to a field and write into it in the place of what stands there, or choose from a list."""
    tab_to(page, label)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def looked_at(page: Page, path: str) -> list[str]:
    """Return what axe finds at three widths and in the dark, and what does not fit."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="dark" if width == 768 else "light")
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if too_wide > 0:
            found.append(f"{path} at {width}: {too_wide} pixels too wide")
        result = Axe().run(page, options=AXE_RULES).response
        assert result["passes"], path
        found += [
            f"{path} at {width}: {violation['id']} {[node['target'] for node in violation['nodes']]}"
            for violation in result["violations"]
        ]
    found += [f"{path}: {violation}" for violation in page.evaluate("window.violations ?? []")]
    return found


def out_of_reach(page: Page, path: str) -> list[str]:
    """Return what the Tab key does not reach, or where it does not show that it is there."""
    expected = page.evaluate(CONTROLS)
    assert expected, path
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges()")
    reached, unmarked = [], []
    for _ in range(len(expected) + 60):
        page.keyboard.press("Tab")
        html, marked = page.evaluate(HAS_FOCUS)
        if html.startswith("<body"):
            break
        reached.append(html)
        if not marked:
            unmarked.append(f"{path}: nothing shows the focus on {html}")
    return unmarked + [f"{path}: Tab does not reach {one}" for one in set(expected) - set(reached)]
