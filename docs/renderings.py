"""Shows the same answers on every channel, side by side: docs/channel-renderings.md and its pictures.

    PYTHONPATH=. python docs/renderings.py

It has the talk of `tests/test_channel_conversation.py` with a server of the invented practice, once on
each channel and once in the web chat, and shows the turns as they arrived.
"""

from __future__ import annotations

import html
import io
import re
import tempfile
from pathlib import Path

from jinja2 import Environment
from PIL import Image

from tests.browser import chromium
from tests.channel_server import start_channels, stop_channels
from tests.conftest import EXAMPLE_OFFICE
from tests.test_channel_conversation import CHANNELS, TALK, ChannelPatient, WebPatient, talk

PAGE = Path(__file__).parent / "channel-renderings.md"
IMAGES = Path(__file__).parent / "images"
NAMES = {
    "webchat": "Web chat", "sms": "SMS", "whatsapp": "WhatsApp", "messenger": "Messenger",
    "telegram": "Telegram", "slack": "Slack",
}  # fmt: skip
CHAPTERS = {
    "questions": ("hello", "the office", "two questions", "not understood", "what was meant"),
    "request": ("the form", "consent", "the name", "an interruption", "the number", "no note"),
    "sent": ("a change", "of the note", "sent", "a red flag", "erased"),
}
"""The turns that are shown, by picture."""

SCALE = 0.72

Columns = dict[str, dict[str, str]]
"""What was shown, by channel and turn; buttons are lines in brackets."""

HEAD = """# The same answers on every channel

Made by `docs/renderings.py` from a talk with the invented practice of the tests; each column is what its
platform was sent. The colors are like those of the apps, the shapes are not. Where a platform has no
buttons, or not all fit, a numbered list stands in their place, and the number or the words choose. On SMS
and WhatsApp the form offers the number that is known already. The words stand below each picture.
"""

DRAWING = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Channels</title><style>
body { margin: 0; padding: 20px; width: 1900px; background: #eef1ef; color: #16211d;
       font: 15px/1.4 "DejaVu Sans", Arial, sans-serif; }
table { border-spacing: 14px 0; width: 100%; table-layout: fixed; }
th { padding: 6px 0 10px; font-size: 18px; text-align: left; }
td { vertical-align: top; background: #fff; padding: 10px 12px; }
tr.said td { padding-top: 16px; }
.said p, .read p { margin: 0 0 6px; padding: 8px 11px; border-radius: 12px; white-space: pre-wrap;
                   overflow-wrap: anywhere; }
.said p { margin-left: 40px; color: #fff; }
.read p { margin-right: 14px; background: #eceff0; }
.button { display: inline-block; margin: 0 6px 6px 0; padding: 4px 11px; border: 2px solid;
          border-radius: 14px; background: #fff; }
.webchat .own { background: #0b6b58; } .webchat .button { color: #0b6b58; }
.sms .own { background: #2f7d32; } .sms .button { color: #2f7d32; }
.whatsapp .own { background: #0a6b5a; } .whatsapp .button { color: #0a6b5a; }
.messenger .own { background: #0a62c9; } .messenger .button { color: #0a62c9; }
.telegram .own { background: #1f6fa3; } .telegram .button { color: #1f6fa3; }
.slack .own { background: #4a154b; } .slack .button { color: #4a154b; border-radius: 5px; }
</style><table><tr>{% for name in names %}<th>{{ name }}</th>{% endfor %}</tr>
{% for words, cells in turns %}
<tr class="said">{% for channel, _ in cells %}<td class="{{ channel }}"><p class="own">{{ words }}</p></td>{% endfor %}</tr>
<tr class="read">{% for channel, parts in cells %}<td class="{{ channel }}">
{% for text, buttons in parts %}{% if text %}<p>{{ text }}</p>{% endif %}
{% for title in buttons %}<span class="button">{{ title }}</span>{% endfor %}{% endfor %}
</td>{% endfor %}</tr>{% endfor %}</table></html>"""


def main() -> None:
    """Have the talks, draw the pictures and write the page."""
    columns = have_talks()
    write_page(columns)
    draw(columns)
    print(f"{PAGE} shows {sum(map(len, CHAPTERS.values()))} turns on {len(columns)} channels.")


def have_talks() -> Columns:
    """Return what is shown at each turn on each channel."""
    with tempfile.TemporaryDirectory() as folder:
        channels = start_channels(Path(folder), OFFICE_FILE=str(EXAMPLE_OFFICE))
        try:
            columns = {"webchat": dict(talk(WebPatient(channels.server.open())))}
            for channel in CHANNELS:
                columns[channel] = dict(talk(ChannelPatient(channels.line(channel))))
        finally:
            stop_channels(channels)
    # The web chat erases by a button of its own and says nothing afterwards.
    columns["webchat"]["erased"] = '(The button "Delete this chat" erases everything.)'
    return {
        channel: {name: steady(text) for name, text in turns.items()}
        for channel, turns in columns.items()
    }


def steady(text: str) -> str:
    """Return a text without what is new in each run: numbers of requests, and the patients' own."""
    numbered = re.sub(r"R-[0-9A-Z]{4}-[0-9A-Z]{4}", "R-XXXX-XXXX", text)
    return re.sub(r"\(213\) \d{3}-\d{4}", "(213) 555-0123", numbered)


def words_of(name: str) -> str:
    """Return what the patient does in a turn."""
    return next(step.words for turn, step, _ in TALK if turn == name)


def draw(columns: Columns) -> None:
    """Write a picture of each chapter."""
    template = Environment(autoescape=True).from_string(DRAWING)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1940, "height": 800})
        for chapter, names in CHAPTERS.items():
            turns = [
                (
                    words_of(name).strip("[]"),
                    [(channel, parts(texts[name])) for channel, texts in columns.items()],
                )
                for name in names
            ]
            heads = [NAMES.get(channel, channel) for channel in columns]
            page.set_content(template.render(names=heads, turns=turns))
            with Image.open(io.BytesIO(page.screenshot(full_page=True))) as picture:
                size = (round(picture.width * SCALE), round(picture.height * SCALE))
                smaller = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
                smaller.save(IMAGES / f"channels-{chapter}.webp", quality=70, method=6)


def parts(text: str) -> list[tuple[str, list[str]]]:
    """Return texts, each with the buttons that follow it."""
    found: list[tuple[list[str], list[str]]] = [([], [])]
    for line in text.splitlines():
        button = re.fullmatch(r"\[(.+)\]", line)
        if button:
            found[-1][1].append(button[1])
            continue
        if found[-1][1]:
            found.append(([], []))
        found[-1][0].append(line)
    return [("\n".join(lines).strip(), buttons) for lines, buttons in found]


def write_page(columns: Columns) -> None:
    """Write the page."""
    sections = [HEAD]
    for chapter, names in CHAPTERS.items():
        titles = ", ".join('"' + words_of(name).strip("[]") + '"' for name in names)
        picture = f"images/channels-{chapter}.webp"
        sections.append(
            f"## {chapter.capitalize()}\n\n![The answers to {titles} on each channel]({picture})\n"
        )
        tables = [table(words_of(name), name, columns) for name in names]
        sections.append(
            "<details>\n<summary>The words</summary>\n\n" + "\n".join(tables) + "\n</details>\n"
        )
    PAGE.write_text("\n".join(sections), encoding="utf-8")


def table(words: str, name: str, columns: Columns) -> str:
    """Return one turn as a table with a column for each channel."""
    heads = "".join(f"<th>{NAMES.get(channel, channel)}</th>" for channel in columns)
    cells = "".join(f"<td>{cell(turns[name])}</td>" for turns in columns.values())
    return f"**{words}**\n\n<table>\n<tr>{heads}</tr>\n<tr valign=top>{cells}</tr>\n</table>\n"


def cell(text: str) -> str:
    """Return a text as a cell."""
    return html.escape(text, quote=False).replace("\n", "<br>")


if __name__ == "__main__":
    main()
