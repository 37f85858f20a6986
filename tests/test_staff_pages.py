"""The staff pages in Chromium: by keyboard, with axe at three widths, without a script, kept up to date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy.engine import Engine

from assistant.contact.cipher import Cipher
from assistant.contact.desk import ContactDesk
from assistant.contact.request import Draft
from assistant.settings import Settings, load_settings
from assistant.staff.guard import OPEN
from assistant.staff.routes import staff_guard
from assistant.storage.database import engine_for
from tests.browser import WATCH, chromium
from tests.conftest import Server
from tests.staff import looked_at, office_of, out_of_reach, press, sign_in, write_into

LONG = "Maximiliane von und zu Placeholder-Langenname"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def office(server: Server) -> Iterator[Engine]:
    with office_of(server) as engine:
        forget_requests(engine)  # those of the tests before
        yield engine
        forget_requests(engine)


def forget_requests(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in ("contact_requests", "contact_drafts"):
            connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608


@pytest.fixture
def context(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    context.add_init_script(WATCH)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


def ask(engine: Engine, name: str) -> str:
    desk = ContactDesk(
        engine, Cipher(load_settings().contact_keys), ["email:desk@moonbeam.example"]
    )
    draft = Draft(
        name=name,
        phone="+18185550134",
        email="a-rather-long-address-of-somebody@moonbeam.example",
        preferred_time="Tuesday",
        note="x" * 200,
    )
    desk.keep_draft(draft.key, draft)
    return desk.submit(draft.key).number


def test_a_request_is_answered_by_keyboard_alone(page: Page, office: Engine) -> None:
    number = ask(office, "Kim Keyboard")
    sign_in(page, "ana")
    press(page, "Skip to the page")
    assert page.evaluate("document.activeElement.id") == "main"
    press(page, "Kim Keyboard")
    expect(page.get_by_role("heading", name="Kim Keyboard")).to_be_visible()
    press(page, "I do it")
    expect(page.get_by_role("status").first).to_contain_text("It is yours")
    write_into(page, "New note", "Called at ten.")
    press(page, "Add the note")
    expect(page.get_by_text("Called at ten.")).to_be_visible()
    press(page, "Mark as done")
    expect(page.get_by_role("status").first).to_contain_text("It is done")
    assert page.url.endswith(f"/staff/requests/{number}?done=handled")
    assert page.evaluate("window.violations ?? []") == []
    press(page, "Sign out")
    expect(page.get_by_text("You are signed out.")).to_be_visible()


def test_a_list_follows_what_is_new_without_a_reload(page: Page, office: Engine) -> None:
    sign_in(page)
    page.goto("/staff/requests")
    page.evaluate("window.sameDocument = true")
    ask(office, "Nadia New")
    # As if the tab came to the front again, which looks at once instead of in some seconds.
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("link", name="Nadia New")).to_be_visible()
    expect(page.locator("[data-status]")).to_contain_text("new request")
    assert page.evaluate("window.sameDocument") is True


def test_axe_finds_nothing_and_nothing_is_cut_off(
    page: Page, office: Engine, tmp_path: Path
) -> None:
    number = ask(office, LONG)
    guard = staff_guard(
        engine_for(f"sqlite:///{tmp_path / 'routes.db'}"),
        Settings(contact_keys=load_settings().contact_keys),
    )
    paths = [
        route.path.replace("<number:str>", number).replace("/topic", "/topic?name=diet/gluten")
        for route in guard.routes
        if route.method == "GET" and route.role != OPEN and not route.quiet
    ]
    pages = [path for path in paths if "<" not in path and "." not in path]
    assert {"/", "/requests", f"/requests/{number}", "/numbers", "/office"} <= set(pages)
    assert "/content/topic?name=diet/gluten" in pages
    page.goto("/staff/sign-in")
    problems = looked_at(page, "/sign-in")
    sign_in(page)
    for path in pages:
        response = page.goto(f"/staff{path}")
        assert response is not None
        assert response.status == 200, path
        problems += looked_at(page, path) + out_of_reach(page, path)
    page.goto("/staff/office")
    page.get_by_label("Phone", exact=True).fill("call us")
    page.get_by_role("button", name="Look at the changes").click()
    expect(page.get_by_role("alert")).to_be_visible()
    problems += looked_at(page, "/office with a mistake")
    assert problems == []


def test_the_pages_work_without_a_script(browser: Browser, server: Server, office: Engine) -> None:
    number = ask(office, "Sam Scriptless")
    context = browser.new_context(base_url=server.url, java_script_enabled=False)
    page = context.new_page()
    sign_in(page)
    page.goto(f"/staff/requests/{number}")
    page.get_by_role("button", name="I do it").click()
    expect(page.get_by_text("olga (you)")).to_be_visible()
    context.close()
