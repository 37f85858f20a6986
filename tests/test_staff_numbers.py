"""Numbers: counted once, of no conversation, and shown by day and by week."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter

import sqlalchemy as sa

from assistant.staff.numbers import DAYS, WEEKS, Chart, NumberReader, Series
from assistant.storage.daily_counts import DailyCounter, add_count, read_counts
from assistant.storage.database import engine_for, red_flag_counts, transaction
from assistant.storage.feedback import keep_feedback
from tests.conftest import Server
from tests.staff import office_of, signed_in


def message(topic: str, step: str = "") -> dict[str, object]:
    return {"text": "words", "metadata": {"topic": topic, **({"step": step} if step else {})}}


def counted(engine: sa.engine.Engine) -> dict[tuple[str, str], int]:
    with engine.connect() as connection:
        rows = read_counts(connection, "2000-01-01")
    found: Counter[tuple[str, str]] = Counter()
    for _, kind, topic, number in rows:
        found[(kind, topic)] += number
    return {key: number for key, number in found.items() if number}


def test_each_message_counts_once_as_answered_or_turned_away(database_url: str) -> None:
    engine, counter = engine_for(database_url), DailyCounter()
    counter.conversation_began()
    counter.answered([message("diet/gluten"), message("diet/gluten"), message("office/parking")])
    counter.answered([message("out_of_scope", "rephrase")])
    counter.answered([{"text": "sorry", "metadata": {}}])
    counter.write(engine)
    counter.write(engine)
    assert counted(engine) == {
        ("conversations", ""): 1,
        ("answered", ""): 1,
        ("topic", "diet/gluten"): 1,
        ("topic", "office/parking"): 1,
        ("turned_away", "rephrase"): 1,
        ("without_answer", ""): 1,
    }


def test_workers_that_count_at_once_lose_nothing(database_url: str) -> None:
    engine = engine_for(database_url)

    def count() -> None:
        counter = DailyCounter()
        for _ in range(20):
            counter.conversation_began()
            counter.write(engine)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(engine) == {("conversations", ""): 80}


def test_a_thumb_that_is_changed_counts_once(database_url: str) -> None:
    engine = engine_for(database_url)
    for helpful in (True, True, False):
        with transaction(engine) as connection:
            keep_feedback(connection, "one", "first-message", "diet/gluten", helpful, "")
    assert counted(engine) == {("not_helpful", "diet/gluten"): 1}


def test_numbers_are_added_up_by_day_and_by_week(database_url: str) -> None:
    engine = engine_for(database_url)
    today = dt.date(2026, 11, 25)  # a Wednesday
    with transaction(engine) as connection:
        for day, number in (("2026-11-25", 3), ("2026-11-23", 4), ("2026-11-22", 5),
                            ("2026-01-01", 90)):  # fmt: skip
            add_count(connection, "conversations", "", number, day)
        add_count(connection, "answered", "", 6, "2026-11-25")
        add_count(connection, "turned_away", "rephrase", 2, "2026-11-25")
        add_count(connection, "topic", "diet/gluten", 6, "2026-11-25")
        add_count(connection, "helpful", "diet/gluten", 1, "2026-11-25")
        for rule in ("one", "two"):
            connection.execute(
                sa.insert(red_flag_counts).values(
                    day="2026-11-24", rule=rule, level="crisis", count=2
                )
            )
    reader = NumberReader(engine, lambda: {"diet/gluten": "Gluten"})
    days, weeks = reader.read(False, today), reader.read(True, today)

    def values(numbers: object, key: str, series: int = 0) -> list[int]:
        chart = next(chart for chart in numbers.charts if chart.key == key)  # type: ignore[attr-defined]
        return list(chart.series[series].values)

    assert values(days, "conversations") == [0] * (DAYS - 4) + [5, 4, 0, 3]
    assert values(weeks, "conversations") == [0] * (WEEKS - 2) + [5, 7]
    assert values(days, "red-flags", 3)[-2:] == [4, 0]
    assert days.facts["messages turned away"] == "25 %"
    (topic,) = days.topics
    assert (topic.title, topic.times, topic.share, topic.helpful) == ("Gluten", 6, "100 %", 1)


def test_bars_stand_on_one_another_and_fill_the_chart() -> None:
    chart = Chart("key", "title", "", ["a", "b"], [Series("x", [1, 3]), Series("y", [0, 1])], 1)
    bars = chart.bars()
    assert [(bar.y, bar.height, bar.series) for bar in bars] == [
        (112.5, 37.5, 0),
        (37.5, 112.5, 0),
        (0.0, 37.5, 1),
    ]
    assert bars[0].x + bars[0].width <= bars[1].x
    assert chart.rows() == [("b", ["3", "1", "25 %"]), ("a", ["1", "0", "0 %"])]


def test_what_visitors_do_is_counted_on_the_running_server(server: Server) -> None:
    def now() -> dict[tuple[str, str], int]:
        rows = server.rows("SELECT kind, topic, SUM(count) FROM daily_counts GROUP BY kind, topic")
        return {(kind, topic): int(count) for kind, topic, count in rows}

    # What the tests before did is written down within ten seconds, by each worker in its own time.
    before, since = now(), time.monotonic()
    while time.monotonic() - since < 11:
        if now() != before:
            before, since = now(), time.monotonic()
        time.sleep(0.5)  # between looks
    chat = server.open()
    identifier = "counted-message-1"
    answer = chat.post(text="Is gluten bad for sciatica?", id=identifier).json()["messages"]
    topic = answer[0]["metadata"]["topic"]
    chat.say("what is the capital of France?")
    chat.http.post(
        "/webchat/feedback", json={"id": identifier, "helpful": True}, headers=chat.headers
    )
    deadline = time.monotonic() + 60
    added: dict[tuple[str, str], int] = {}
    while time.monotonic() < deadline:
        added = {key: number - before.get(key, 0) for key, number in now().items()}
        if any(kind == "turned_away" and number for (kind, _), number in added.items()):
            break
        time.sleep(0.5)  # between looks; the counts are written every ten seconds
    assert added[("conversations", "")] == 1
    assert added[("answered", "")] == 1
    assert added[("topic", topic)] == 1
    assert added[("helpful", topic)] == 1
    assert sum(number for (kind, _), number in added.items() if kind == "turned_away") == 1
    kept = server.rows("SELECT * FROM daily_counts")
    assert chat.session["conversation_id"] not in str(kept)

    with office_of(server):
        ana = signed_in(server, "ana")
        page = ana.text("/numbers")
        assert "Conversations" in page
        assert f"topic,{topic}," in ana.get("/numbers/export.csv").text
        assert "week of" in ana.text("/numbers?by=week")
