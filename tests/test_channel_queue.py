"""The queue of the messaging channels, on each kind of database: once, in order, across processes."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.channels.messaging.inbound import (
    MOST_AN_HOUR,
    Arrival,
    Changes,
    Claim,
    LeaseLostError,
    MessageQueue,
    UnreadableMessageError,
)
from assistant.channels.messaging.menus import MenuBook, Offer
from assistant.channels.messaging.platform import Choice, Incoming, Outgoing
from assistant.channels.messaging.senders import conversation_id
from assistant.contact.cipher import Cipher
from assistant.privacy import PersonalData
from assistant.storage.channel_records import (
    erase_channel_records,
    message_counts,
    purge_channel_records,
)
from assistant.storage.database import (
    channel_menus,
    channel_messages,
    channel_senders,
    engine_for,
    transaction,
)

CIPHER = Cipher([base64.urlsafe_b64encode(b"k" * 32).decode()])
NO_CHANGES = Changes()


@pytest.fixture
def engine(database_url: str) -> Engine:
    return engine_for(database_url)


def process(engine: Engine, cipher: Cipher = CIPHER) -> MessageQueue:
    """What each server process has."""
    return MessageQueue(engine, cipher, MenuBook(engine, cipher))


@pytest.fixture
def queue(engine: Engine) -> MessageQueue:
    return process(engine)


def arrival(number: int, sender: str = "ana", urgent: bool = False, order: float = 0.0) -> Arrival:
    incoming = Incoming(f"m{number}", "+18185550134", f"text {number}", order=order)
    return Arrival(f"sms-{sender}", incoming, urgent)


def claim_one(queue: MessageQueue) -> Claim:
    (claim,) = queue.claim(5, ["twilio"])
    return claim


def answer_all(queue: MessageQueue, claim: Claim) -> list[str]:
    texts = []
    while (waiting := queue.next(claim)) is not None:
        texts.append(waiting.incoming.text)
        queue.keep_replies(claim, waiting, [], [], NO_CHANGES)
    return texts


def change(engine: Engine, table: sa.Table, **values: object) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.update(table).values(**values))


def test_a_message_is_taken_once(queue: MessageQueue) -> None:
    assert queue.take_in("twilio", [arrival(1), arrival(2), arrival(1)]) == 2
    assert queue.take_in("twilio", [arrival(2)]) == 0
    assert queue.take_in("other", [arrival(2)]) == 1  # ids are a platform's own
    assert answer_all(queue, claim_one(queue)) == ["text 1", "text 2", "text 2"]
    assert queue.take_in("twilio", [arrival(1)]) == 0
    assert queue.claim(5, ["twilio"]) == []


def test_many_at_once_are_taken_once_each(engine: Engine) -> None:
    processes = [process(engine) for _ in range(4)]

    def deliver(number: int) -> int:
        batch = [arrival(n, sender=f"s{n % 3}") for n in range(number % 3, 8)]
        return processes[number % 4].take_in("twilio", batch if number % 2 else batch[::-1])

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(deliver, range(12))) == 8


def test_what_was_written_first_is_next_but_a_red_flag_goes_before(queue: MessageQueue) -> None:
    queue.take_in("twilio", [arrival(3, order=3.0), arrival(1, order=1.0)])
    queue.take_in("twilio", [arrival(4, order=4.0, urgent=True), arrival(2, order=2.0)])
    assert answer_all(queue, claim_one(queue)) == ["text 4", "text 1", "text 2", "text 3"]


def test_one_sender_has_one_process_at_a_time(engine: Engine) -> None:
    processes = [process(engine) for _ in range(3)]
    processes[0].take_in("twilio", [arrival(n, sender=f"s{n % 4}") for n in range(16)])
    busy: set[str] = set()
    seen: dict[str, list[int]] = {}
    guard = threading.Lock()

    def work(queue: MessageQueue) -> None:
        idle = 0
        while idle < 3:
            claims = queue.claim(2, ["twilio"])
            idle = 0 if claims else idle + 1
            for claim in claims:
                with guard:
                    assert claim.conversation_id not in busy
                    busy.add(claim.conversation_id)
                mine = seen.setdefault(claim.conversation_id, [])
                for _ in range(2):  # then another one may go on
                    waiting = queue.next(claim)
                    if waiting is None:
                        break
                    mine.append(int(waiting.incoming.text[5:]))
                    queue.keep_replies(claim, waiting, [], [], NO_CHANGES)
                with guard:
                    busy.discard(claim.conversation_id)
                if waiting is not None:
                    queue.release(claim)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, processes))
    assert sorted(n for numbers in seen.values() for n in numbers) == list(range(16))
    assert all(numbers == sorted(numbers) for numbers in seen.values())


def test_a_dead_process_is_succeeded_and_may_not_come_back(engine: Engine) -> None:
    first, second = process(engine), process(engine)
    first.take_in("twilio", [arrival(1)])
    claim = claim_one(first)
    waiting = first.next(claim)
    assert waiting is not None
    reply = Outgoing("Hello.", (Choice("aaaa", "Yes"),))
    first.keep_replies(claim, waiting, [reply, reply], [], NO_CHANGES)
    first.note_sent(claim, waiting, 1, done=False)
    assert second.claim(5, ["twilio"]) == []
    change(engine, channel_senders, leased_until=0.0)  # as if its time had passed
    successor = claim_one(second)
    again = second.next(successor)
    assert again is not None
    assert (again.replies, again.sent, again.attempts) == ((reply, reply), 1, 2)
    for late in (
        lambda: first.note_sent(claim, waiting, 2, done=True),
        lambda: first.next(claim),
        lambda: first.put_off(claim),
        lambda: first.keep_replies(claim, waiting, [reply], [], NO_CHANGES),
    ):
        with pytest.raises(LeaseLostError):
            late()


def test_a_lease_is_prolonged(engine: Engine, queue: MessageQueue) -> None:
    queue.take_in("twilio", [arrival(1)])
    claim = claim_one(queue)
    change(engine, channel_senders, leased_until=0.0)
    queue.keep_alive([claim.token])
    assert queue.claim(5, ["twilio"]) == []


def test_what_failed_waits_longer_each_time(engine: Engine, queue: MessageQueue) -> None:
    queue.take_in("twilio", [arrival(1)])
    waits = []
    for _ in range(10):
        claim = claim_one(queue)
        queue.next(claim)
        waits.append(queue.put_off(claim))
        assert queue.claim(5, ["twilio"]) == []
        change(engine, channel_senders, due_at=time.time())
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits[:8]))
    assert max(waits) <= 300.0
    claim = claim_one(queue)
    assert 400.0 <= queue.put_off(claim, 400.0) <= 441.0  # as the platform asks


def test_a_red_flag_does_not_wait_for_what_failed(queue: MessageQueue) -> None:
    queue.take_in("twilio", [arrival(1)])
    queue.put_off(claim_one(queue), 3000.0)
    queue.take_in("twilio", [arrival(2)])
    assert queue.claim(5, ["twilio"]) == []
    queue.take_in("twilio", [arrival(3, urgent=True)])
    waiting = queue.next(claim_one(queue))
    assert waiting is not None
    assert waiting.incoming.text == "text 3"


def test_a_message_that_comes_while_another_is_answered_is_not_forgotten(
    queue: MessageQueue,
) -> None:
    queue.take_in("twilio", [arrival(1)])
    claim = claim_one(queue)
    waiting = queue.next(claim)
    assert waiting is not None
    queue.take_in("twilio", [arrival(2)])
    queue.keep_replies(claim, waiting, [], [], NO_CHANGES)
    assert answer_all(queue, claim) == ["text 2"]


def test_a_flood_of_one_sender_is_cut(queue: MessageQueue, engine: Engine) -> None:
    queue.take_in("twilio", [arrival(n) for n in range(MOST_AN_HOUR + 10)])
    queue.take_in("twilio", [arrival(9_999, urgent=True)])
    assert message_counts(engine)["pending"] == MOST_AN_HOUR + 1


def test_a_private_chat_stays_with_its_process(engine: Engine) -> None:
    first, second = process(engine), process(engine)
    first.take_in("twilio", [arrival(1)])
    claim = claim_one(first)
    waiting = first.next(claim)
    assert waiting is not None
    changes = Changes(disclosed=True, private_id="private-1", private_until=time.time() + 3600)
    first.keep_replies(claim, waiting, [], [], changes)
    assert first.next(claim) is None
    first.take_in("twilio", [arrival(2)])
    assert second.claim(5, ["twilio"]) == []
    claim = claim_one(first)
    waiting = first.next(claim)
    assert waiting is not None
    assert (waiting.private_id, waiting.disclosed) == ("private-1", True)
    first.release(claim)
    change(engine, channel_senders, due_at=time.time() - 60)  # the first process is dead
    assert len(second.claim(5, ["twilio"])) == 1


def test_words_are_sealed_while_they_wait_and_gone_afterwards(
    engine: Engine, queue: MessageQueue
) -> None:
    def kept() -> str:
        with transaction(engine) as connection:
            tables = (channel_messages, channel_senders, channel_menus)
            return repr([connection.execute(sa.select(table)).all() for table in tables])

    queue.take_in("twilio", [arrival(1)])
    claim = claim_one(queue)
    waiting = queue.next(claim)
    assert waiting is not None
    menu = [Offer("aaaa", "Parking", "Where can I park?", 1)]
    queue.keep_replies(claim, waiting, [Outgoing("Hello there.")], menu, NO_CHANGES)
    for words in ("text 1", "Hello", "Parking", "8185550134"):
        assert words not in kept()
    queue.note_sent(claim, waiting, 1, done=True)
    with transaction(engine) as connection:
        row = connection.execute(sa.select(channel_messages)).one()
    assert (row.state, row.sealed, row.sealed_replies) == ("answered", None, None)


def test_a_message_whose_key_is_gone_is_given_up(engine: Engine, queue: MessageQueue) -> None:
    queue.take_in("twilio", [arrival(1)])
    other = process(engine, Cipher([base64.urlsafe_b64encode(b"o" * 32).decode()]))
    claim = claim_one(other)
    with pytest.raises(UnreadableMessageError):
        other.next(claim)
    assert other.next(claim) is None
    assert message_counts(engine) == {"pending": 0, "dead": 1}


def test_what_is_over_goes(engine: Engine, queue: MessageQueue) -> None:
    queue.take_in("twilio", [arrival(1), arrival(2, sender="bob")])
    for claim in queue.claim(5, ["twilio"]):
        waiting = queue.next(claim)
        assert waiting is not None
        queue.keep_replies(claim, waiting, [], [Offer("aaaa", "A", "a")], NO_CHANGES)
        assert queue.next(claim) is None
    with transaction(engine) as connection:
        erase_channel_records(connection, "sms-ana")
    with transaction(engine) as connection:
        rows = connection.execute(sa.select(channel_messages.c.conversation_id)).scalars()
        assert sorted(rows) == ["", "sms-bob"]
    day = 24 * 3600.0
    for days, senders, messages, menus in ((0, 1, 2, 1), (8, 1, 0, 0), (31, 0, 0, 0)):
        with transaction(engine) as connection:
            purge_channel_records(connection, time.time() + days * day, 30.0)
            tables = (channel_senders, channel_messages, channel_menus)
            left = [len(connection.execute(sa.select(table)).all()) for table in tables]
        assert left == [senders, messages, menus]


def test_a_phone_number_leads_to_its_chats(engine: Engine, queue: MessageQueue) -> None:
    secret, phone = "s" * 32, "+18185550134"
    sms = conversation_id(secret, "sms", phone)
    whatsapp = conversation_id(secret, "whatsapp", f"whatsapp:{phone}")
    queue.take_in(
        "twilio", [Arrival(name, Incoming(name, phone, "hello")) for name in (sms, whatsapp)]
    )
    data = PersonalData(engine, CIPHER, secret)
    assert data.find(phone="(818) 555-0134").conversations == {sms, whatsapp}
    assert not data.find(phone="(818) 555-0135")
    assert not PersonalData(engine, CIPHER, "t" * 32).find(phone=phone)
    assert phone not in sms
