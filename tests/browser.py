"""The widget in a real browser: one Chromium, and a page object for the chat."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, sync_playwright

WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  (window.violations ??= []).push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""

AXE_RULES = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }
}
"""What axe looks for: WCAG 2.2, levels A and AA, and what is good practice."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Provide the browser that `deploy/browser` found. Only for a module: Playwright keeps a loop."""
    found = subprocess.run(
        [Path(__file__).parent.parent / "deploy" / "browser"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.fail(found.stderr, pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.stdout.strip(), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class ChatPage:
    """A page with the chat, as a visitor uses it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script(WATCH)

    def visit(self) -> ChatPage:
        self.page.goto(self.url)
        self.find(":is(.launcher, .panel):visible").first.wait_for()
        return self

    def find(self, selector: str) -> Locator:
        return self.page.locator(f"practice-chat {selector}")

    @property
    def launcher(self) -> Locator:
        return self.find(".launcher")

    @property
    def panel(self) -> Locator:
        return self.find(".panel")

    @property
    def input(self) -> Locator:
        return self.find("textarea")

    @property
    def notice(self) -> Locator:
        return self.find(".notice")

    def open(self, save: bool | None = None) -> ChatPage:
        """Open the panel; agree to saving or not, or leave that question."""
        self.launcher.click()
        self.find(".note button").first.wait_for()
        if save is not None:
            self.find(".note button").nth(0 if save else 1).click()
            self.find(".note button").first.wait_for(state="detached")
        return self

    def send(self, text: str) -> None:
        self.input.fill(text)
        self.find(".send").click()

    def ask(self, text: str) -> None:
        """Send a text and wait for its answer."""
        before = self.answers()
        self.send(text)
        self.page.wait_for_function(
            "n => document.querySelector('practice-chat').shadowRoot"
            ".querySelectorAll('.bubble.assistant').length > n",
            arg=before,
        )

    def answers(self) -> int:
        return self.find(".bubble.assistant").count()

    def said(self, kind: str = "bubble") -> list[str]:
        """Return the texts of all bubbles, without who says them."""
        return self.find(f".{kind} > span[lang], .{kind} > span:not(.spoken)").all_inner_texts()

    def focused(self) -> str:
        """Return class or id, and words, of what has the focus."""
        return str(
            self.page.evaluate(
                """() => {
                    let one = document.activeElement;
                    while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
                    return `${one.localName}.${one.className || one.id}: `
                        + (one.getAttribute("aria-label") ?? one.textContent).trim();
                }"""
            )
        )

    def tab_to(self, words: str, key: str = "Tab", most: int = 60) -> None:
        """Press a key until something with these words has the focus."""
        seen = []
        for _ in range(most):
            self.page.keyboard.press(key)
            seen.append(self.focused())
            if words in seen[-1]:
                return
        raise AssertionError(f"{words!r} is not reached by {key}: {seen}")

    def kept(self) -> dict[str, Any] | None:
        """Return what the browser keeps of the chat."""
        value = self.page.evaluate(
            "Object.entries(localStorage).find(([key]) => key.startsWith('practice-chat:'))?.[1]"
        )
        return json.loads(value) if value else None

    def violations(self) -> list[str]:
        return list(self.page.evaluate("window.violations ?? []"))


def new_page(context: BrowserContext, url: str) -> ChatPage:
    page = context.new_page()
    page.set_default_timeout(15_000)
    return ChatPage(page, url)


def answer_with(status: int, body: dict[str, Any], **headers: str) -> Callable[[Route], None]:
    """Return a handler that answers in the server's place."""
    return lambda route: route.fulfill(
        status=status,
        headers={"Content-Type": "application/json", **headers},
        body=json.dumps(body),
    )


@contextmanager
def site(origin: str, pages: dict[str, tuple[str, str]]) -> Iterator[None]:
    """Serve a practice's own site.

    Args:
        origin: where.
        pages: by path, the content security policy and the HTML.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            policy, page = pages.get(self.path, ("", ""))
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            pass

    where = urlsplit(origin)
    server = ThreadingHTTPServer((where.hostname or "localhost", where.port or 80), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()
