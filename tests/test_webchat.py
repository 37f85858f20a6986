"""The web chat contract, over real HTTP against the running server."""

from __future__ import annotations

import json

import jwt
import pytest

from tests.conftest import Chat, Server


def test_a_session_is_minted_with_a_greeting_that_says_it_is_a_bot(server: Server) -> None:
    response = server.http.post("/webchat/session")
    session = response.json()
    assert response.status_code == 201
    assert session.keys() == {"token", "conversation_id", "expires_at", "messages"}
    words = " ".join(message["text"] for message in session["messages"]).lower()
    assert "automated assistant" in words
    assert "not a person" in words
    assert "911" in words
    assert session["messages"][-1]["buttons"]


def test_an_answer_has_the_shape_of_the_contract(chat: Chat) -> None:
    messages = chat.say("should I stop eating gluten?")
    for message in messages:
        assert message.keys() <= {"text", "buttons", "image", "metadata"}
        assert message["metadata"]["topic"] == "diet/gluten"
        assert "\n\n" not in message["text"]
    last = messages[-1]
    assert last["metadata"]["sources"]
    assert all(button.keys() == {"title", "payload"} for button in last["buttons"])
    assert all(len(button["title"]) <= 25 for button in last["buttons"])


def test_a_button_of_the_last_answer_is_accepted_and_leads_to_an_answer(chat: Chat) -> None:
    button = chat.say("does acupuncture work?")[-1]["buttons"][0]
    response = chat.post(postback=button["payload"])
    assert response.status_code == 200
    assert response.json()["messages"][0]["metadata"]["topic"]


def test_a_button_of_the_greeting_is_accepted(chat: Chat) -> None:
    button = chat.session["messages"][-1]["buttons"][0]
    assert chat.post(postback=button["payload"]).status_code == 200


@pytest.mark.parametrize("payload", ["/restart", '/book{"x":{}}', "Where is the moon?", "/diet"])
def test_a_button_that_was_not_offered_is_refused(chat: Chat, payload: str) -> None:
    chat.say("hello")
    response = chat.post(postback=payload)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "postback_not_offered"


def test_the_conversation_can_be_shown_again(chat: Chat) -> None:
    answer = chat.say("how long does sciatica last")
    history = chat.http.get("/webchat/messages", headers=chat.headers).json()["messages"]
    asked = next(i for i, message in enumerate(history) if message.get("from") == "visitor")
    assert history[:asked] == chat.session["messages"]
    assert history[asked]["text"] == "how long does sciatica last"
    assert history[asked + 1 :] == answer


def test_two_sessions_never_see_each_other(server: Server) -> None:
    one, two = server.open(), server.open()
    one.say("do i need an mri")
    history = two.http.get("/webchat/messages", headers=two.headers).json()["messages"]
    assert history == two.session["messages"]


def test_deleting_a_session_erases_it_and_ends_its_token(server: Server) -> None:
    chat = server.open()
    chat.say("i am a very special sentence about my back")
    assert chat.http.delete("/webchat/session", headers=chat.headers).status_code == 204
    assert chat.post(text="hello").status_code == 401
    assert chat.http.get("/webchat/messages", headers=chat.headers).status_code == 401
    name = chat.session["conversation_id"]
    assert server.rows("SELECT 1 FROM ended_sessions WHERE conversation_id = :name", name=name)
    assert not server.rows("SELECT 1 FROM events WHERE sender_id = :name", name=name)


def test_the_page_and_its_files_are_served_under_a_strict_policy(server: Server) -> None:
    for path, kind in [
        ("/webchat/", "text/html"),
        ("/webchat/widget.js", "javascript"),
        ("/webchat/page.css", "text/css"),
    ]:
        response = server.http.get(path)
        assert response.status_code == 200
        assert kind in response.headers["content-type"]
        assert "default-src 'none'" in response.headers["content-security-policy"]


def test_the_root_leads_to_the_chat(server: Server) -> None:
    response = server.http.get("/")
    assert response.status_code == 302
    assert response.headers["location"] == "/webchat/"


def test_health_tells_of_model_store_and_lock(server: Server) -> None:
    assert server.http.get("/health/live").status_code == 200
    ready = server.http.get("/health/ready")
    # Requests of other tests wait here: the invented practice has no mail server.
    query = "SELECT count(*) FROM outbox WHERE state = 'pending'"
    (waiting,) = server.rows(query)[0]
    assert ready.json() == {
        "status": "ready",
        "checks": {"model": True, "store": True, "lock": True, "open": True},
        "shared_order": True,
        "outbox": {"pending": waiting, "dead": 0},
        "channels": {"pending": 0, "dead": 0},
        "stream": 0,
    }


@pytest.mark.parametrize(
    "path", ["/webhooks/rest/webhook", "/conversations/x/tracker", "/model", "/status", "/domain"]
)
def test_rasas_own_doors_are_shut(server: Server, path: str) -> None:
    assert server.http.get(path).status_code == 404
    assert server.http.post(path, json={"message": "hi"}).status_code == 404


# Bad input: a clear refusal, and the process lives on.

NESTED = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[1,2]", 400),
        (b'"text"', 400),
        (b"{}", 400),
        (b'{"text": null}', 400),
        (b'{"text": 5}', 400),
        (b'{"text": ["a"]}', 400),
        (b'{"text": {"a": 1}}', 400),
        (b'{"text": true}', 400),
        (b'{"text": NaN}', 400),
        (b'{"text": "a", "postback": "b"}', 400),
        (b'{"text": "a", "sender": "somebody"}', 400),
        (b'{"text": "a", "metadata": "x"}', 400),
        (b'{"text": "\\ud800"}', 400),
        (b'{"text": "\xff"}', 400),
        (b'{"message": "hi"}', 400),
        (b'{"postback": 1}', 400),
        (NESTED.encode(), 400),
        (b'{"text": "' + b"x" * 1001 + b'"}', 413),
        (b'{"text": "' + b"x" * 20_000 + b'"}', 413),
        (b'{"text": "' + b"x" * 1_000_000 + b'"}', 413),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, bytes) else None,
)
def test_a_bad_body_is_refused_with_a_reason(chat: Chat, body: bytes, status: int) -> None:
    response = chat.http.post("/webchat/messages", content=body, headers=chat.headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == {"code", "message"}
    assert len(error["message"]) > 20
    assert chat.topics("what is sciatica")[0] == "symptoms/what_is_sciatica"


@pytest.mark.parametrize("text", ["/restart", '/book{"x":{}}', "/session_start", "///greet@0.01"])
def test_a_slash_command_is_only_text(chat: Chat, text: str) -> None:
    chat.say("what is sciatica")
    messages = chat.say(text)
    assert messages[0]["text"]
    history = chat.http.get("/webchat/messages", headers=chat.headers).json()["messages"]
    assert any(message["text"] == text.lstrip("/") for message in history)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "/", "\u200b"])
def test_an_empty_message_gets_an_honest_sentence(chat: Chat, text: str) -> None:
    (message,) = chat.say(text)
    assert "empty" in message["text"]


@pytest.mark.parametrize(
    "text", ["\x00hi", "😀" * 50, "a" * 1000, "𝔥𝔢𝔩𝔩𝔬", "؟", "{name}", "<b>hi</b>"]
)
def test_odd_text_is_answered(chat: Chat, text: str) -> None:
    assert chat.say(text)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer " + jwt.encode({"sub": "default", "aud": "webchat", "exp": 9e9}, "x" * 32)},
        {"Authorization": "Bearer " + jwt.encode({"sub": "default", "aud": "webchat"}, None, algorithm="none")},
    ],
)  # fmt: skip
def test_a_bad_token_is_refused(server: Server, header: dict[str, str]) -> None:
    for method, path in [("POST", "messages"), ("GET", "messages"), ("DELETE", "session")]:
        response = server.http.request(
            method, f"/webchat/{path}", headers=header, content=json.dumps({"text": "hi"})
        )
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_session"


def test_a_foreign_site_is_refused_and_an_allowed_one_is_not(server: Server) -> None:
    evil = server.http.post("/webchat/session", headers={"Origin": "https://evil.example"})
    assert evil.status_code == 403
    assert evil.json()["error"]["code"] == "origin_not_allowed"
    for origin in ("https://practice.example", server.url):
        response = server.http.post("/webchat/session", headers={"Origin": origin})
        assert response.status_code == 201


@pytest.mark.parametrize(
    "path", ["/webchat/nothing", "/webchat/../settings.py", "/webchat/.env", "/nothing"]
)
def test_an_unknown_address_is_a_json_404(server: Server, path: str) -> None:
    response = server.http.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_a_wrong_method_is_a_json_405(server: Server) -> None:
    response = server.http.put("/webchat/session")
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == ["DELETE", "POST"]
    assert "error" in response.json()
