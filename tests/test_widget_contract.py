"""What the widget needs of the server: message ids, private chats, feedback, files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from assistant.contact.cipher import Cipher
from assistant.privacy import Found, PersonalData, Retention
from assistant.storage.database import engine_for, feedback, transaction
from assistant.storage.feedback import keep_feedback
from tests.conftest import PROJECT, Chat, Server

PAGE = PROJECT / "assistant" / "channels" / "page"
WIDGET = PROJECT / "widget"


def open_private(server: Server) -> Chat:
    response = server.http.post("/webchat/session", json={"private": True})
    assert response.status_code == 201
    return Chat(server.http, response.json())


def history(chat: Chat) -> list[dict[str, Any]]:
    response = chat.http.get("/webchat/messages", headers=chat.headers)
    assert response.status_code == 200
    return list(response.json()["messages"])


def asked(chat: Chat) -> list[str]:
    return [message["id"] for message in history(chat) if message.get("from") == "visitor"]


# Message ids


def test_the_same_message_again_gets_the_same_answer_and_is_handled_once(chat: Chat) -> None:
    first = chat.post(text="what is sciatica", id="message-0001").json()["messages"]
    again = chat.post(text="what is sciatica", id="message-0001").json()["messages"]
    assert first == again
    assert asked(chat) == ["message-0001"]


def test_the_same_message_at_the_same_time_is_handled_once(chat: Chat) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda _: chat.post(text="does acupuncture hurt", id="message-0002").json(),
                range(6),
            )
        )
    assert answers[0]["messages"]
    assert all(answer == answers[0] for answer in answers)
    assert asked(chat) == ["message-0002"]


def test_a_button_pressed_twice_is_handled_once(chat: Chat) -> None:
    button = chat.session["messages"][-1]["buttons"][0]
    first = chat.post(postback=button["payload"], id="message-0003")
    again = chat.post(postback=button["payload"], id="message-0003")
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert asked(chat) == ["message-0003"]


def test_an_id_counts_in_its_own_conversation_only(server: Server) -> None:
    one, two = server.open(), server.open()
    one.post(text="what is sciatica", id="message-0004")
    answer = two.post(text="do i need an mri", id="message-0004").json()["messages"]
    assert answer[0]["metadata"]["topic"] == "symptoms/imaging"
    assert asked(one) == asked(two) == ["message-0004"]


def test_a_message_that_was_refused_may_come_again_under_its_id(chat: Chat) -> None:
    assert chat.post(postback="no such button", id="message-0005").status_code == 400
    assert chat.post(text="what is sciatica", id="message-0005").status_code == 200
    assert asked(chat) == ["message-0005"]


@pytest.mark.parametrize("message_id", ["", "short", "x" * 65, "with space", 12345678, None, ["a"]])
def test_an_id_that_is_none_is_refused(chat: Chat, message_id: object) -> None:
    response = chat.post(text="hello", id=message_id)
    assert response.status_code == 400
    assert "'id'" in response.json()["error"]["message"]


# Private chats


def test_a_private_chat_answers_all_the_same_and_leaves_nothing_on_the_disk(
    server: Server,
) -> None:
    private, saved = open_private(server), server.open()
    name = private.session["conversation_id"]
    assert name.startswith("private-")
    question = "how long does sciatica last, i ask for my zebra Quintilian"
    assert private.say(question) == saved.say(question)
    assert private.topics("why?") == saved.topics("why?")
    assert [m["text"] for m in history(private)] == [m["text"] for m in history(saved)]
    assert private.http.delete("/webchat/session", headers=private.headers).status_code == 204
    assert private.post(text="hello").status_code == 401
    kept = server.kept()
    assert b"Quintilian" in kept["events"], "the saved chat is there, so the search can find"
    assert [place for place, content in kept.items() if name.encode() in content] == []


@pytest.mark.parametrize("body", [b"[]", b'{"private": 1}', b'{"sender": "x"}', b"{"])
def test_a_session_of_no_known_kind_is_refused(server: Server, body: bytes) -> None:
    response = server.http.post("/webchat/session", content=body)
    assert response.status_code == 400


# Feedback


def stored_feedback(server: Server, chat: Chat) -> list[Any]:
    rows = server.rows(
        "SELECT topic, helpful, reason FROM feedback WHERE conversation_id = :name",
        name=chat.session["conversation_id"],
    )
    return [tuple(row) for row in rows]


def give(chat: Chat, **body: Any) -> Any:
    return chat.http.post("/webchat/feedback", json=body, headers=chat.headers)


def test_feedback_is_kept_with_the_topic_and_erased_with_the_chat(server: Server) -> None:
    chat = server.open()
    chat.post(text="should I stop eating gluten?", id="message-0006")
    assert give(chat, id="message-0006", helpful=True).status_code == 204
    assert stored_feedback(server, chat) == [("diet/gluten", 1, "")]
    assert give(chat, id="message-0006", helpful=False, reason="unclear").status_code == 204
    assert stored_feedback(server, chat) == [("diet/gluten", 0, "unclear")]
    chat.http.delete("/webchat/session", headers=chat.headers)
    assert stored_feedback(server, chat) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "message-0007", "helpful": True}, 404),
        ({"helpful": True}, 404),
        ({"id": "message-0007"}, 400),
        ({"id": "message-0007", "helpful": "yes"}, 400),
        ({"id": "message-0007", "helpful": False, "reason": "my name is Ann"}, 400),
        ({"id": "message-0007", "helpful": False, "text": "free"}, 400),
    ],
)
def test_feedback_on_nothing_or_in_own_words_is_refused(
    chat: Chat, body: dict[str, Any], status: int
) -> None:
    assert give(chat, **body).status_code == status


def test_feedback_leaves_with_all_else_that_is_exported_erased_and_purged(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'feedback.db'}")
    data = PersonalData(engine, Cipher([base64.urlsafe_b64encode(b"k" * 32).decode()]))
    found = Found(frozenset({"web-one"}), frozenset())

    def give_all() -> None:
        with transaction(engine) as connection:
            keep_feedback(connection, "web-one", "message-1", "diet/gluten", False, "unclear")
            keep_feedback(connection, "web-two", "message-1", "office/hours", True, "")

    def left() -> list[str]:
        with engine.connect() as connection:
            return list(connection.execute(sa.select(feedback.c.topic)).scalars())

    give_all()
    (exported,) = data.export(found)["feedback"]["web-one"]
    assert (exported["topic"], exported["reason"]) == ("diet/gluten", "unclear")
    data.erase(found)
    assert left() == ["office/hours"]
    data.purge(Retention(handled=30, request=180, transcript=0))
    assert left() == []


def test_a_private_chat_keeps_no_feedback(server: Server) -> None:
    chat = open_private(server)
    chat.post(text="what is sciatica", id="message-0008")
    assert give(chat, id="message-0008", helpful=True).status_code == 409
    assert stored_feedback(server, chat) == []


# Files


def hash_of_sources() -> str:
    names = [f"src/{path.name}" for path in (WIDGET / "src").iterdir()]
    names += ["build.mjs", "package.json", "practice-chat.d.ts", "tsconfig.json"]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0".encode() + (WIDGET / name).read_bytes() + b"\0")
    return digest.hexdigest()


def test_the_committed_bundle_is_built_from_these_sources() -> None:
    manifest = json.loads((PAGE / "manifest.json").read_text())
    assert manifest.pop("source") == hash_of_sources(), "run `make widget` and commit the result"
    assert manifest.keys() == {"widget.js", "panel.js", "loader.js"}
    for name, digest in manifest.items():
        assert hashlib.sha256((PAGE / name).read_bytes()).hexdigest() == digest, name
    assert (PAGE / "practice-chat.d.ts").read_text() == (WIDGET / "practice-chat.d.ts").read_text()


@pytest.mark.skipif(
    not (WIDGET / "node_modules").is_dir(), reason="no Node packages here: the hashes were compared"
)
def test_building_again_gives_the_same_files() -> None:
    import subprocess

    before = {name: (PAGE / name).read_bytes() for name in ("widget.js", "panel.js", "loader.js")}
    subprocess.run(["node", "build.mjs"], cwd=WIDGET, check=True)  # noqa: S607
    assert {name: (PAGE / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("name", "most"), [("widget.js", 8192), ("loader.js", 400), ("panel.js", 12_288)]
)
def test_what_is_loaded_is_small(name: str, most: int) -> None:
    size = len(gzip.compress((PAGE / name).read_bytes(), 9))
    assert size <= most, f"{name} has {size} bytes"


def test_files_are_compressed_and_kept_as_long_as_their_address_says(server: Server) -> None:
    loader = server.http.get("/webchat/loader.js")
    assert loader.headers["cache-control"] == "no-cache"
    (address,) = re.findall(r"widget\.[0-9a-f]{12}\.js", loader.text)
    widget = server.http.get(f"/webchat/{address}")
    assert widget.headers["content-encoding"] == "gzip"
    assert "immutable" in widget.headers["cache-control"]
    assert widget.content == (PAGE / "widget.js").read_bytes()
    (address,) = re.findall(r"panel\.[0-9a-f]{12}\.js", widget.text)
    assert server.http.get(f"/webchat/{address}").content == (PAGE / "panel.js").read_bytes()


def test_a_file_that_did_not_change_is_not_sent_again(server: Server) -> None:
    first = server.http.get("/webchat/widget.js")
    headers = {"If-None-Match": first.headers["etag"]}
    again = server.http.get("/webchat/widget.js", headers=headers)
    assert again.status_code == 304
    assert not again.content


def test_a_page_of_an_earlier_release_still_gets_a_widget(server: Server) -> None:
    response = server.http.get("/webchat/widget.000000000000.js")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-cache"


def test_a_browser_may_ask_before_it_sends_from_an_allowed_site(server: Server) -> None:
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    allowed = server.http.options(
        "/webchat/messages", headers={"Origin": "https://practice.example", **asking}
    )
    assert allowed.headers["access-control-allow-origin"] == "https://practice.example"
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    assert int(allowed.headers["access-control-max-age"]) >= 3600
    evil = server.http.options(
        "/webchat/messages", headers={"Origin": "https://evil.example", **asking}
    )
    assert "access-control-allow-origin" not in evil.headers


def test_what_the_footer_asks_is_understood(chat: Chat) -> None:
    panel = (WIDGET / "src" / "panel.ts").read_text()
    person, privacy = re.findall(r'const ASK_\w+ = "(.+)";', panel)
    assert chat.topics(person) == ["bot/talk_to_a_person"]
    assert chat.topics(privacy) == ["bot/what_do_you_store"]


def test_the_demo_page_asks_what_is_understood(chat: Chat) -> None:
    page = (PAGE / "index.html").read_text()
    questions = [question for question in re.findall(r'data-ask="(.*?)"', page) if question]
    assert len(questions) >= 5
    for question in questions:
        assert all("/" in topic for topic in chat.topics(question)), question


def test_the_package_ships_every_file_of_the_page() -> None:
    assert {path.name for path in Path(PAGE).iterdir()} >= {
        "index.html", "page.css", "page.js", "loader.js", "widget.js", "panel.js", "manifest.json",
        "practice-chat.d.ts", "leaf.svg", "room.svg",
    }  # fmt: skip
