"""The pictures of the staff pages, for docs/staff.md and docs/editors.md."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import sqlalchemy as sa
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from assistant.storage.daily_counts import add_count
from assistant.storage.database import transaction
from tests.conftest import Server, start_server, stop_server
from tests.staff import copy_of_the_project, office_of, press, sign_in, tab_to, write_into

FOLDER = Path(__file__).parent
DESKTOP, PHONE = (1100, 900), (390, 780)
SLOW = 300_000.0  # milliseconds for what checks or trains

REQUESTS = (
    ("Ana Lopez", "818 555 0134", "Tuesday afternoon", "It is for my father"),
    ("Kim Park", "kim@example.com", "any morning", "Skip"),
    ("Sam Rivera", "818 555 0177", "as soon as you can", "Skip"),
)
QUESTIONS = (
    "can i charge my ebike battery at the office",
    "where do i charge my ebike battery at the office",
    "do you validate museum tickets",
)
WEEK = {"conversations": (9, 14, 12, 17, 15, 6, 4), "answered": (31, 44, 37, 58, 49, 20, 15)}
"""Invented counts of the days before today, the latest last."""
TOPICS = {"office/hours": 31, "treatment/does_it_work": 27, "symptoms/what_is_sciatica": 22,
          "stretches/which": 14, "office/price": 12}  # fmt: skip


def staff_pictures(browser: Browser, scratch: Path) -> None:
    """Write all pictures of the staff pages, from a copy of the project in which a change is published.

    Args:
        browser: takes the pictures.
        scratch: a folder that goes afterwards.
    """
    home = copy_of_the_project(scratch / "project")
    folder = scratch / "staff"
    folder.mkdir()
    server = start_server(folder, ASSISTANT_HOME=str(home), ANSWER_SECONDS="120")
    try:
        with office_of(server) as engine:
            _visit(server)
            _earlier_days(engine)
            context = browser.new_context(
                base_url=server.url,
                viewport={"width": DESKTOP[0], "height": DESKTOP[1]},
                device_scale_factor=1.5,
            )
            page = context.new_page()
            page.set_default_timeout(SLOW)
            sign_in(page)
            _of_the_office(page)
            _of_the_editors(page)
            context.close()
    finally:
        stop_server(server)


def _visit(server: Server) -> None:
    """Be visitors: leave requests, ask what is known and what is not."""
    for name, reach, time, note in REQUESTS:
        chat = server.open()
        for text in ("I want to book an appointment", "yes", name, reach, time, note, "send"):
            chat.say(text)
    for text in QUESTIONS:
        chat = server.open()
        chat.say("what is sciatica")
        chat.say(text)


def _earlier_days(engine: sa.engine.Engine) -> None:
    today = dt.datetime.now(dt.timezone.utc).date()
    with transaction(engine) as connection:
        for kind, counts in WEEK.items():
            for ago, number in enumerate(reversed(counts), 1):
                day = (today - dt.timedelta(days=ago)).isoformat()
                add_count(connection, kind, number=number, day=day)
        yesterday = (today - dt.timedelta(days=1)).isoformat()
        for topic, number in TOPICS.items():
            add_count(connection, "topic", topic, number, yesterday)
        add_count(connection, "turned_away", "rephrase", 11, yesterday)


def _of_the_office(page: Page) -> None:
    page.goto("/staff/requests")
    _take(page, "staff-requests")
    page.get_by_role("link", name="Ana Lopez").click()
    expect(page.get_by_role("heading", name="Ana Lopez")).to_be_visible()
    press(page, "I do it")
    expect(page.get_by_role("status").first).to_contain_text("It is yours")
    write_into(page, "New note", "Called at ten, calls back.")
    press(page, "Add the note")
    expect(page.get_by_text("Called at ten")).to_be_visible(timeout=SLOW)
    _take(page, "staff-request", 1150)
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    _take(page, "staff-phone", PHONE[1])
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    page.goto("/staff/numbers")
    _take(page, "staff-numbers")
    page.goto("/staff/office")
    _take(page, "staff-office")


def _of_the_editors(page: Page) -> None:
    page.goto("/staff/questions")
    _take(page, "editors-questions")
    tab_to(page, QUESTIONS[0])
    write_into(page, "Topic", "office/parking_access")
    press(page, "Add to the topic")
    expect(page.get_by_text("Added. It counts")).to_be_visible(timeout=SLOW)

    page.goto("/staff/content/topic?name=diet/gluten")
    write_into(page, "Text", "Needles cure sciatica, so eat what you like.")
    press(page, "Save the answer")
    expect(page.get_by_text("promises or praises").first).to_be_visible(timeout=SLOW)
    _take(page, "editors-refused", 1150)
    page.goto("/staff/content/topic?name=diet/gluten")
    _take(page, "editors-topic", 1150)
    page.goto("/staff/content/try")
    write_into(page, "What a visitor might write", "is bread bad for my nerve")
    press(page, "Try it")
    expect(page.get_by_text("Understood as")).to_be_visible(timeout=SLOW)
    _take(page, "editors-try")

    page.goto("/staff/publish")
    page.get_by_role("button", name="Publish").click()
    page.get_by_role("heading", name="The new version is live").wait_for()
    _take(page, "editors-publish", 700)


def _take(page: Page, name: str, height: int = 0) -> None:
    """Write a picture of the top of the page.

    Args:
        page: what is seen.
        name: of the file.
        height: in pixels of the page; 0 for the window's.
    """
    window = page.viewport_size or {"width": DESKTOP[0], "height": DESKTOP[1]}
    page.set_viewport_size({"width": window["width"], "height": height or window["height"]})
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(FOLDER / f"{name}.webp", quality=80, method=6)
    page.set_viewport_size({"width": window["width"], "height": window["height"]})
