"""Die at the first step with the database, then at the second, and so on, until nothing is left to do.

Each life is a process of its own that stores a request and delivers what is due; a step is the
begin or the end of a statement or a commit. Prints a line of JSON for each life.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from assistant.contact.cipher import Cipher
from assistant.contact.desk import contact_desk
from assistant.contact.inbox import Inbox
from assistant.contact.request import Draft
from assistant.delivery.outbox import Outbox
from assistant.delivery.worker import OutboxWorker, senders_for
from assistant.settings import load_settings
from assistant.storage.database import engine_for


def draft_of(life: int) -> Draft:
    """What the visitor of a life wants."""
    return Draft(name=f"Ana {life}", phone="+18185550134", key=f"life-{life}")


def main() -> None:
    """Live again and again, each time a step longer."""
    contact_desk()  # makes the tables
    engine_for(load_settings().database_url).dispose()  # a connection must not be shared by forks
    for life in range(1, 1000):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _live(life, writer)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            number = pipe.read()
        killed = os.WIFSIGNALED(status)
        print(json.dumps({"life": life, "killed": killed, "number": number}), flush=True)
        if not killed:
            sys.exit(status)


def _live(life: int, writer: int) -> None:
    try:
        desk = contact_desk()
        _die_at(life)
        desk.keep_draft(f"web-{life}", draft_of(life))
        os.write(writer, desk.submit(f"web-{life}").number.encode())
        asyncio.run(_deliver())
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _die_at(last: int) -> None:
    steps = 0

    def step(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    for place, name in (
        (Engine, "before_cursor_execute"),
        (Engine, "after_cursor_execute"),
        (Engine, "commit"),
        (Pool, "checkin"),
    ):
        sa.event.listen(place, name, step)


async def _deliver() -> None:
    settings = load_settings()
    engine = engine_for(settings.database_url)
    worker = OutboxWorker(
        Outbox(engine, lease_seconds=0.0, first_pause=0.0),
        Inbox(engine, Cipher(settings.contact_keys)),
        senders_for(settings),
    )
    for target in settings.targets:
        while await worker.deliver_next(target.name):
            pass


if __name__ == "__main__":
    main()
