"""The contact form: written conversations over HTTP against a running server and its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import DATA, PROJECT, Chat, Server, start_server, stop_server

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
def bare_server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of an office that gave no facts."""
    folder = tmp_path_factory.mktemp("bare")
    server = start_server(folder, OFFICE_FILE=str(PROJECT / "office.yml"))
    yield server
    stop_server(server)


class Talk:
    """One conversation, and what the database holds of it."""

    def __init__(self, server: Server) -> None:
        self.chat: Chat = server.open()
        self.database = server.log.parent / "assistant.db"
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
        seconds = minutes * 60
        self._change(
            "update contact_drafts set expires_at = expires_at - ? where conversation_id = ?",
            seconds,
        )
        for row, data in self._rows("select id, data from events where sender_id = ?"):
            event = YAML(typ="safe").load(data)
            self._store_event(row, event, seconds)

    def break_database(self, broken: bool) -> None:
        names = ("contact_requests", "contact_requests_away")
        old, new = names if broken else names[::-1]
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("pragma legacy_alter_table = on")
            connection.execute(f"alter table {old} rename to {new}")
            connection.commit()

    def sent(self) -> list[dict[str, str]]:
        """Return the requests of the conversation as the office sees them, the oldest first."""
        from assistant.contact.cipher import Cipher
        from assistant.contact.inbox import Inbox
        from assistant.settings import load_settings
        from assistant.storage.database import engine_for

        inbox = Inbox(
            engine_for(f"sqlite:///{self.database}"), Cipher(load_settings().contact_keys)
        )
        mine = [r for r in inbox.requests() if r.conversation_id == self.conversation_id]
        return [
            {
                **vars(request.wishes),
                "number": request.receipt.number,
                "status": request.receipt.status,
            }
            for request in mine
        ]

    def has_draft(self) -> bool:
        rows = self._rows(
            "select 1 from contact_drafts where conversation_id = ? and sealed is not null "
            "and expires_at > strftime('%s', 'now')"
        )
        return bool(rows)

    def _send(self, payload: str) -> None:
        response = self.chat.post(postback=payload)
        assert response.status_code == 200, response.text
        self.messages = response.json()["messages"]

    def _rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, [self.conversation_id]).fetchall()

    def _change(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            connection.execute(statement, [*values, self.conversation_id])
            connection.commit()

    def _store_event(self, row: int, event: dict[str, Any], seconds: float) -> None:
        import json

        event["timestamp"] -= seconds
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            connection.execute(
                "update events set data = ?, timestamp = timestamp - ? where id = ?",
                [json.dumps(event), seconds, row],
            )
            connection.commit()


def test_there_are_sixty_conversations_and_more() -> None:
    names = [conversation["name"] for conversation in CONVERSATIONS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("written", CONVERSATIONS, ids=lambda written: written["name"])
def test_a_written_conversation(
    written: dict[str, Any], server: Server, request: pytest.FixtureRequest
) -> None:
    bare = written.get("office", "example") == "bare"
    talk = Talk(request.getfixturevalue("bare_server") if bare else server)
    try:
        begin(talk, written.get("from", ""))
        for turn in written["turns"]:
            take(talk, turn)
    finally:
        if any("database" in turn for turn in written["turns"]):
            mend(talk)
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


def mend(talk: Talk) -> None:
    with closing(sqlite3.connect(talk.database)) as connection:
        away = connection.execute(
            "select 1 from sqlite_master where name = 'contact_requests_away'"
        ).fetchone()
    if away:
        talk.break_database(False)


def test_a_red_flag_pauses_across_a_restart_of_the_server(model: Path, tmp_path: Path) -> None:
    first = start_server(tmp_path)
    talk = Talk(first)
    begin(talk, "name")
    talk.say("i have crushing chest pain and cant breathe")
    stop_server(first)
    second = start_server(tmp_path, WEBCHAT_SECRET="")
    talk.chat.http = second.http
    talk.say("does acupuncture hurt")
    assert "Back to your request" not in talk.words()
    talk.say("I have been checked by a doctor already")
    assert talk.asks() == "name"
    stop_server(second)


def test_deleting_the_chat_takes_the_request_back(server: Server) -> None:
    talk = Talk(server)
    begin(talk, "decision")
    talk.say("send")
    (request,) = talk.sent()
    assert talk.chat.http.delete("/webchat/session", headers=talk.chat.headers).status_code == 204
    assert talk.sent() == []
    with closing(sqlite3.connect(talk.database)) as connection:
        row = connection.execute(
            "select status, sealed, conversation_id from contact_requests where number = ?",
            [request["number"]],
        ).fetchone()
    assert row == ("withdrawn", None, None)


def test_the_same_send_twice_makes_one_request(server: Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    talk = Talk(server)
    begin(talk, "decision")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(talk.chat.say, ["send", "send"]))
    assert len(talk.sent()) == 1
