"""Two workers share a visitor: whichever gets a message, the conversation is one and in order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cluster import SERVED_BY, Cluster, cluster
from tests.conftest import Chat
from tests.redis_server import NoRedisError
from tests.test_booking import BEGINNING, Talk

QUESTIONS = [
    "what is sciatica", "does acupuncture hurt?", "should I stop eating gluten?",
    "how long does sciatica last", "where is your office?", "do i need an mri",
]  # fmt: skip


@pytest.fixture(scope="module")
def two_workers(
    model: Any, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster that sends each request to the other worker than the one before: the worst case."""
    try:
        with cluster(tmp_path_factory.mktemp("cluster"), postgres, spread=True) as workers:
            yield workers
    except NoRedisError as error:
        pytest.skip(str(error))


def at_each_worker(two_workers: Cluster) -> tuple[Chat, Chat]:
    """Open a session and return it as it is used at either worker."""
    session = two_workers.open().session
    one, other = (Chat(worker.http, session) for worker in two_workers.workers)
    return one, other


def shown(chat: Chat) -> list[dict[str, Any]]:
    """Return the stored conversation, without the greeting."""
    response = chat.http.get("/webchat/messages", headers=chat.headers)
    messages: list[dict[str, Any]] = response.json()["messages"]
    return messages[len(chat.session["messages"]) :]


def turns(messages: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what the visitor said, each with what was answered before the next."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for message in messages:
        if message.get("from") == "visitor":
            found.append((message["id"], []))
        else:
            found[-1][1].append(message)
    return found


def test_a_booking_of_which_each_message_meets_another_worker_is_stored_once(
    two_workers: Cluster,
) -> None:
    talk = Talk(two_workers)
    met: list[str] = []
    for number, (asked, text) in enumerate([*BEGINNING, ("nothing", "send")]):
        response = talk.chat.post(text=text, id=f"booking-{number:04}")
        met.append(response.headers[SERVED_BY])
        talk.messages = response.json()["messages"]
        assert talk.asks() == asked, talk.words()
    assert met == [met[0], met[1]] * 3 + [met[0]]
    assert met[0] != met[1]
    (request,) = talk.sent()
    assert request["number"] in talk.words()
    assert (request["name"], request["phone"]) == ("Ana Lopez", "+18185550134")
    stored = [message_id for message_id, _ in turns(shown(talk.chat))]
    assert stored == [f"booking-{number:04}" for number in range(7)]


def test_quick_messages_to_both_workers_are_each_answered_one_after_the_other(
    two_workers: Cluster,
) -> None:
    chats = at_each_worker(two_workers)
    ids = [f"quick-{number:04}" for number in range(len(QUESTIONS))]

    def say(number: int) -> Any:
        return chats[number % 2].post(text=QUESTIONS[number], id=ids[number])

    with ThreadPoolExecutor(len(ids)) as pool:
        responses = list(pool.map(say, range(len(ids))))
    assert [response.status_code for response in responses] == [200] * len(ids)
    stored = turns(shown(chats[0]))
    assert sorted(message_id for message_id, _ in stored) == ids
    answers = dict(zip(ids, (response.json()["messages"] for response in responses), strict=True))
    assert dict(stored) == answers, "each answer stands behind its own question"
    topics = {answer[0]["metadata"]["topic"] for answer in answers.values()}
    assert len(topics) == len(ids), "each question got its own answer"
    moments = two_workers.rows(
        "SELECT timestamp FROM events WHERE sender_id = :name ORDER BY id",
        name=chats[0].session["conversation_id"],
    )
    assert moments == sorted(moments)


def test_the_same_message_at_both_workers_at_once_is_handled_once(two_workers: Cluster) -> None:
    chats = at_each_worker(two_workers)
    for number, question in enumerate(QUESTIONS):

        def say(chat: Chat, question: str = question, number: int = number) -> Any:
            response = chat.post(text=question, id=f"the-same-{number:04}")
            assert response.status_code == 200
            return response.json()["messages"]

        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(say, chats)
        assert one == other
        stored = turns(shown(chats[0]))
        assert [message_id for message_id, _ in stored] == [
            f"the-same-{known:04}" for known in range(number + 1)
        ]
        assert stored[-1][1] == one


def test_a_session_that_is_deleted_at_one_worker_is_over_at_the_other(
    two_workers: Cluster,
) -> None:
    one, other = at_each_worker(two_workers)
    other.post(text="what is sciatica", id="deleted-0001")
    assert other.post(text="why?").status_code == 200
    assert one.http.delete("/webchat/session", headers=one.headers).status_code == 204
    assert other.post(text="hello").status_code == 401
    # Not even what this worker has answered before and still remembers.
    assert other.post(text="what is sciatica", id="deleted-0001").status_code == 401
    assert other.http.get("/webchat/messages", headers=other.headers).status_code == 401
    name = one.session["conversation_id"]
    assert two_workers.rows("SELECT 1 FROM events WHERE sender_id = :name", name=name) == []
