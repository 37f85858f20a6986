"""The pictures of the widget, for docs/embedding.md.

Each picture shows one width and one color scheme: the chat closed, open, answering, taking a booking,
in an emergency, and without its server.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.browser import ChatPage, new_page

FOLDER = Path(__file__).parent
SCREENS = {360: (740, 6, 1.0), 768: (900, 6, 0.5), 1280: (800, 3, 0.55)}
"""Height, pictures in a row and scale, by width."""
GAP = 16


def states(chat: ChatPage) -> list[bytes]:
    """Return a picture of each state."""

    def shot() -> bytes:
        chat.page.wait_for_timeout(900)  # scrolling is smooth
        return chat.page.screenshot()

    taken = [shot()]
    chat.open()
    taken.append(shot())
    chat.find(".note button").first.click()
    chat.ask("does acupuncture help sciatica?")
    taken.append(shot())
    chat.ask("I want to book an appointment")
    chat.ask("yes")
    taken.append(shot())
    chat.ask("I can't feel my groin and cannot pee since this morning")
    taken.append(shot())
    chat.page.route("**/messages", lambda route: route.abort())
    chat.send("thank you")
    chat.notice.wait_for()
    taken.append(shot())
    return taken


def picture(browser: Browser, url: str, width: int, scheme: str, scratch: Path) -> Image.Image:
    """Return one sheet with all states."""
    height, columns, scale = SCREENS[width]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=width < 700,
    )
    chat = new_page(context, url).visit()
    size = (round(width * scale), round(height * scale))
    taken = states(chat)
    rows = -(-len(taken) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (size[0] + GAP) - GAP, rows * (size[1] + GAP) - GAP),
        "#24302f" if scheme == "dark" else "#cfd6d2",
    )
    for place, content in enumerate(taken):
        file = scratch / "state.png"
        file.write_bytes(content)
        with Image.open(file) as state:
            where = ((place % columns) * (size[0] + GAP), (place // columns) * (size[1] + GAP))
            sheet.paste(state.convert("RGB").resize(size, Image.Resampling.LANCZOS), where)
    context.close()
    return sheet


def widget_pictures(browser: Browser, url: str, scratch: Path) -> None:
    """Write all pictures of the widget.

    Args:
        browser: takes the pictures.
        url: the address of a running server.
        scratch: a folder that goes afterwards.
    """
    for width in SCREENS:
        for scheme in ("light", "dark"):
            sheet = picture(browser, f"{url}/webchat/", width, scheme, scratch)
            sheet.save(FOLDER / f"widget-{width}-{scheme}.webp", quality=82, method=6)
