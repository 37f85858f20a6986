"""Kill a process that saves conversations, again and again, and look whether a turn suffered.

Each life is a fork of this process, so that two hundred take a minute: it goes on with the
conversations where they are stored, saves turn after turn through our tracker store, and says so
over a pipe once `save` has returned. It is killed with SIGKILL at a random moment. After each kill
every turn that was said to be saved must be there once, whole and in order; the one that was under
way must be there whole or not at all.

    python -m tests.faults.kill_while_saving --kills 200 [--database URL]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import sqlalchemy as sa
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, BotUttered, SlotSet, UserUttered

from assistant.storage.tracker_store import ConversationStore

_CONVERSATIONS = 5
_TURNS = 40  # of a conversation, before the next begins
_EVENTS_OF_A_TURN = 4


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how often to kill [200]")
    parser.add_argument("--seed", type=int, default=7, help="of the moments [7]")
    parser.add_argument("--database", default="", help="an empty database [a new SQLite file]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{Path(folder) / 'saves.db'}"
        print(run(url, arguments.kills, arguments.seed))


def run(url: str, kills: int, seed: int) -> str:
    """Run the experiment; return its figures in a sentence.

    Raises:
        AssertionError: a turn was lost, doubled, halved or moved.
    """
    chance = random.Random(seed)
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    store = ConversationStore(Domain.empty(), host=url)
    asyncio.run(_save_one(store, "warm-up", -1))  # what is made once is made before the forks
    with engine.begin() as connection:
        connection.execute(sa.text("delete from events"))
    store.engine.dispose()  # a connection must not be shared by forks
    saved = 0
    under_way = {"whole": 0, "absent": 0}
    number = 0
    for _ in range(kills):
        told = _live_and_die(store, number, chance)
        saved += len(told)
        stored = _stored(engine)
        last = max([number - 1, *told])
        assert set(range(last + 1)) <= set(stored), "a saved turn is lost"
        assert set(stored) <= set(range(last + 2)), "a turn is stored that nobody saved"
        under_way["whole" if last + 1 in stored else "absent"] += 1
        number = len(stored)
    assert saved, "no turn was saved, so nothing was tested"
    assert under_way["whole"] + under_way["absent"] == kills
    _read_again(store, number)
    return (
        f"{kills} kills; {number} turns, {saved} of them acknowledged: each is stored once, whole "
        f"and in order; of the turns under way {under_way['whole']} are whole and "
        f"{under_way['absent']} absent"
    )


def _live_and_die(store: ConversationStore, number: int, chance: random.Random) -> list[int]:
    """Let a child save turns from a number on, kill it; return what it said it has saved."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_save(store, number, writer))
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        said = b""
        for _ in range(chance.randint(1, 5)):  # "at work", and up to four saved turns
            ready, _, _ = select.select([pipe], [], [], 60)
            assert ready, "the child saves nothing"
            said += pipe.read(64)
        time.sleep(chance.uniform(0.0, 0.02))  # the moment is the experiment
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended by itself"
        while more := pipe.read(65_536):
            said += more
    # What follows the last line's end was not said.
    return [int(line) for line in said.decode().split("\n")[1:-1]]


async def _save(store: ConversationStore, number: int, writer: int) -> None:
    os.write(writer, b"at work\n")
    while True:
        name = f"conversation-{number // (_CONVERSATIONS * _TURNS)}-{number % _CONVERSATIONS}"
        await _save_one(store, name, number)
        os.write(writer, f"{number}\n".encode())
        number += 1


async def _save_one(store: ConversationStore, conversation: str, number: int) -> None:
    tracker = await store.retrieve(conversation) or store.init_tracker(conversation)
    tracker.update(UserUttered(f"turn {number}", input_channel="webchat"))
    tracker.update(ActionExecuted("utter_answer"))
    tracker.update(BotUttered(f"answer {number}"))
    tracker.update(SlotSet("turn", number))
    await store.save(tracker)


def _stored(engine: sa.engine.Engine) -> list[int]:
    """Return the numbers of all stored turns, in the order of each conversation.

    Raises:
        AssertionError: a turn is not whole, or stands twice or in another order.
    """
    turns: dict[str, list[str]] = defaultdict(list)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("select sender_id, data from events order by id")).all()
    for conversation, data in rows:
        event = json.loads(data)
        turns[conversation].append(event["event"])
        if event["event"] == "user":
            turns[conversation][-1] = event["text"].removeprefix("turn ")
    found = []
    for conversation, events in turns.items():
        numbers = [int(event) for event in events if event.isdigit()]
        shape = ["action", "bot", "slot"]
        for place in range(0, len(events), _EVENTS_OF_A_TURN):
            turn = events[place : place + _EVENTS_OF_A_TURN]
            assert turn[0].isdigit(), f"{conversation}: half a turn is stored"
            assert turn[1:] == shape, f"{conversation}: half a turn is stored"
        assert numbers == sorted(set(numbers)), f"{conversation}: turns are doubled or moved"
        found += numbers
    return sorted(found)


def _read_again(store: ConversationStore, number: int) -> None:
    """Read the last conversation through the store."""
    last = number - 1
    conversation = f"conversation-{last // (_CONVERSATIONS * _TURNS)}-{last % _CONVERSATIONS}"
    tracker = asyncio.run(store.retrieve(conversation))
    assert tracker is not None
    assert tracker.latest_message is not None
    assert tracker.latest_message.text == f"turn {last}", "the last turn cannot be read"


if __name__ == "__main__":
    main()
