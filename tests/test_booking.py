"""The contact form: written conversations over HTTP against a running server and its database."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ruamel.yaml import YAML

from assistant.contact.cipher import Cipher
from assistant.contact.inbox import Inbox
from assistant.settings import load_settings
from tests.conftest import DATA, PROJECT, Chat, Server, start_server, stop_server
from tests.postgres import postgres_database

CONVERSATIONS = YAML(typ="safe").load((DATA / "booking" / "conversations.yml").read_text("utf-8"))

BEGINNING = [
    ("consent", "I want to book an appointment"),
    ("name", "yes"),
    ("reach", "Ana Lopez"),
    ("time", "818 555 0134"),
    ("note", "Tuesday afternoon"),
    ("decision", "Skip"),
]


@pytest.fixture(scope="session")
def bare_server(
    model: Path, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of an office that gave no facts, on PostgreSQL."""
    with postgres_database(postgres) as url:
        folder = tmp_path_factory.mktemp("bare")
        server = start_server(folder, OFFICE_FILE=str(PROJECT / "office.yml"), DATABASE_URL=url)
        yield server
        stop_server(server)


@pytest.fixture(scope="session")
def postgres_server(
    model: Path, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of the invented practice, on PostgreSQL."""
    with postgres_database(postgres) as url:
        server = start_server(tmp_path_factory.mktemp("postgres_server"), DATABASE_URL=url)
        yield server
        stop_server(server)


class Talk:
    """One conversation, and what the database holds of it."""

    def __init__(self, server: Server) -> None:
        self.chat: Chat = server.open()
        self.engine = sa.create_engine(server.database_url, poolclass=sa.pool.NullPool)
        self.messages = self.chat.session["messages"]

    @property
    def conversation_id(self) -> str:
        return str(self.chat.session["conversation_id"])

    def say(self, text: str) -> None:
        self.messages = self.chat.say(text)

    def press(self, title: str) -> None:
        payloads = {b["title"]: b["payload"] for b in self.buttons()}
        assert title in payloads, f"there is no button {title!r} among {list(payloads)}"
        self._send(payloads[title])

    def press_number(self, number: int) -> None:
        self._send(self.buttons()[number - 1]["payload"])

    def buttons(self) -> list[dict[str, str]]:
        return [button for message in self.messages for button in message["buttons"]]

    def asks(self) -> str:
        return str(self.messages[-1]["metadata"].get("asks", "nothing"))

    def topics(self) -> list[str]:
        return [message["metadata"].get("topic", "") for message in self.messages]

    def words(self) -> str:
        return "\n".join(message["text"] for message in self.messages)

    def wait(self, minutes: float) -> None:
        """Let time pass, by moving into the past what is stored of the conversation."""
        values = {"seconds": minutes * 60, "mine": self.conversation_id}
        with self.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "update contact_drafts set expires_at = expires_at - :seconds "
                    "where conversation_id = :mine"
                ),
                values,
            )
            query = sa.text("select id, data from events where sender_id = :mine")
            for row, data in connection.execute(query, values).all():
                event = json.loads(data)
                event["timestamp"] -= values["seconds"]
                connection.execute(
                    sa.text(
                        "update events set data = :data, timestamp = timestamp - :seconds "
                        "where id = :row"
                    ),
                    {**values, "data": json.dumps(event), "row": row},
                )

    def break_database(self, broken: bool) -> None:
        names = ("contact_requests", "contact_requests_away")
        old, new = names if broken else names[::-1]
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.execute(sa.text("pragma legacy_alter_table = on"))
            connection.execute(sa.text(f"alter table {old} rename to {new}"))

    def mend_database(self) -> None:
        if "contact_requests_away" in sa.inspect(self.engine).get_table_names():
            self.break_database(False)

    def sent(self) -> list[dict[str, str]]:
        """Return the requests of the conversation as the office sees them, the oldest first."""
        inbox = Inbox(self.engine, Cipher(load_settings().contact_keys))
        mine = [r for r in inbox.requests() if r.conversation_id == self.conversation_id]
        return [
            {**vars(r.wishes), "number": r.receipt.number, "status": r.receipt.status} for r in mine
        ]

    def has_draft(self) -> bool:
        query = sa.text(
            "select 1 from contact_drafts where conversation_id = :mine "
            "and sealed is not null and expires_at > :now"
        )
        with self.engine.connect() as connection:
            values = {"mine": self.conversation_id, "now": time.time()}
            return connection.execute(query, values).first() is not None

    def _send(self, payload: str) -> None:
        response = self.chat.post(postback=payload)
        assert response.status_code == 200, response.text
        self.messages = response.json()["messages"]


def test_there_are_sixty_conversations_and_more() -> None:
    names = [conversation["name"] for conversation in CONVERSATIONS]
    assert len(set(names)) == len(names) >= 60


SERVERS = {"example": ("server", "postgres_server"), "bare": ("bare_server",)}
"""Where a conversation is held, by the office that it is written for."""


@pytest.mark.parametrize(
    ("written", "server_name"),
    [
        pytest.param(written, name, id=f"{written['name']} ({name})")
        for written in CONVERSATIONS
        for name in SERVERS[written.get("office", "example")]
    ],
)
def test_a_written_conversation(
    written: dict[str, Any], server_name: str, request: pytest.FixtureRequest
) -> None:
    talk = Talk(request.getfixturevalue(server_name))
    try:
        begin(talk, written.get("from", ""))
        for turn in written["turns"]:
            take(talk, turn)
    finally:
        if any("database" in turn for turn in written["turns"]):
            talk.mend_database()
    sent = talk.sent()
    assert len(sent) == len(written["sent"]), sent
    for found, expected in zip(sent, written["sent"], strict=True):
        assert found.items() >= expected.items()
    assert talk.has_draft() == written.get("draft", False)


def begin(talk: Talk, step: str) -> None:
    if not step:
        return
    for asked, text in BEGINNING:
        talk.say(text)
        assert talk.asks() == asked, talk.words()
        if asked == step:
            return


def take(talk: Talk, turn: dict[str, Any]) -> None:
    if "wait" in turn:
        talk.wait(turn["wait"])
    if "database" in turn:
        talk.break_database(turn["database"] == "away")
    if "press" in turn:
        talk.press(turn["press"])
    elif "press_number" in turn:
        talk.press_number(turn["press_number"])
    else:
        talk.say(turn["say"])
    words = talk.words()
    if "asks" in turn:
        assert talk.asks() == turn["asks"], words
    if "topic" in turn:
        assert turn["topic"] in talk.topics(), words
    for wanted in turn.get("has", []):
        assert wanted in words
    for unwanted in turn.get("lacks", []):
        assert unwanted not in words
    assert "{" not in words


def test_deleting_the_chat_takes_the_request_back(server: Server) -> None:
    talk = Talk(server)
    begin(talk, "decision")
    talk.say("send")
    (request,) = talk.sent()
    assert talk.chat.http.delete("/webchat/session", headers=talk.chat.headers).status_code == 204
    assert talk.sent() == []
    query = sa.text(
        "select status, sealed, conversation_id from contact_requests where number = :number"
    )
    with talk.engine.connect() as connection:
        row = connection.execute(query, {"number": request["number"]}).one()
    assert tuple(row) == ("withdrawn", None, None)


def test_the_same_send_twice_makes_one_request(server: Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    talk = Talk(server)
    begin(talk, "decision")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(talk.chat.say, ["send", "send"]))
    assert len(talk.sent()) == 1
