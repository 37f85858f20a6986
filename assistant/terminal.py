"""The assistant in a terminal, for trying things out; nothing is stored."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rasa.core.tracker_store import InMemoryTrackerStore

from assistant.agent import load_agent, read_endpoints
from assistant.channels.conversation import converse
from assistant.channels.message_text import UnreadableTextError, clean

_SECONDS = 30.0


def talk(project: Path, model: Path) -> None:
    """Answer line by line until an empty line or the end of input."""
    agent = load_agent(model, read_endpoints(project), tracker_store=InMemoryTrackerStore(None))
    print("Type a question; an empty line ends.")
    loop = asyncio.new_event_loop()
    while True:
        try:
            text = clean(input("> "))
        except UnreadableTextError as error:
            print(error)
            continue
        except (EOFError, KeyboardInterrupt):
            break
        if not text:
            break
        for message in loop.run_until_complete(
            converse(agent.handle_message, "terminal", text, _SECONDS)
        ):
            print(f"  {message['text']}")
            for button in message["buttons"]:
                print(f"    [{button['title']}] {button['payload']}")
    loop.close()
