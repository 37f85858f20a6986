"""Writes docs/channel-renderings.md: the same answers on every channel, side by side.

    PYTHONPATH=. python docs/renderings.py

It has the talk of `tests/test_channel_conversation.py` with a server of the invented practice, once on
each channel and once in the web chat, and shows some of its turns as they arrived.
"""

from __future__ import annotations

import html
import re
import tempfile
from pathlib import Path

from tests.channel_server import start_channels, stop_channels
from tests.test_channel_conversation import CHANNELS, TALK, ChannelPatient, WebPatient, talk

PAGE = Path(__file__).parent / "channel-renderings.md"
NAMES = {
    "webchat": "Web chat", "sms": "SMS", "whatsapp": "WhatsApp", "messenger": "Messenger",
    "telegram": "Telegram", "slack": "Slack",
}  # fmt: skip
SHOWN = (
    "hello", "the office", "two questions", "not understood", "the form", "the name", "no note",
    "a change", "sent", "a red flag", "erased",
)  # fmt: skip

HEAD = """# The same answers on every channel

Made by `docs/renderings.py` from a talk with the invented practice of the tests; each column is what its
platform was sent. Words in brackets are buttons. Where not all buttons fit, a numbered list stands in their
place, and the number or the words choose. On SMS and WhatsApp the number that is known is offered in the form.
"""


def main() -> None:
    """Have the talks and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        channels = start_channels(Path(folder))
        try:
            columns = {"webchat": dict(talk(WebPatient(channels.server.open())))}
            for channel in CHANNELS:
                columns[channel] = dict(talk(ChannelPatient(channels.line(channel))))
        finally:
            stop_channels(channels)
    words = {name: step.words for name, step, _ in TALK}
    parts = [HEAD, *(section(words[name], name, columns) for name in SHOWN)]
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    print(f"{PAGE} shows {len(SHOWN)} turns on {len(columns)} channels.")


def section(words: str, name: str, columns: dict[str, dict[str, str]]) -> str:
    """Return one turn as a table with a column for each channel."""
    heads = "".join(f"<th>{NAMES.get(channel, channel)}</th>" for channel in columns)
    cells = "".join(f"<td>{cell(turns[name])}</td>" for turns in columns.values())
    return f"## {words}\n\n<table>\n<tr>{heads}</tr>\n<tr valign=top>{cells}</tr>\n</table>\n"


def cell(text: str) -> str:
    """Return a text as a cell; what is new in each run is left out."""
    steady = re.sub(r"R-[0-9A-Z]{4}-[0-9A-Z]{4}", "R-XXXX-XXXX", text)
    return html.escape(steady, quote=False).replace("\n", "<br>")


if __name__ == "__main__":
    main()
