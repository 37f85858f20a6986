"""Numbers people look at: how many, about what, how it went; by day and by week.

All from counters without a conversation: nobody's visit can be made out in them.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa
from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.content.catalogue import load_catalogue
from assistant.safety.detector import LEVELS
from assistant.settings import Settings
from assistant.staff.guard import SIGNED_IN, Guard
from assistant.staff.pages import download, page
from assistant.staff.request_files import table_csv
from assistant.staff.visit import Visit
from assistant.storage.daily_counts import FIRST_ANSWER_STEPS, read_counts
from assistant.storage.database import connected, in_thread, red_flag_counts

DAYS = 30
WEEKS = 26
_TOPICS = 20

_WIDTH, _HEIGHT, _GAP = 720.0, 150.0, 2.0  # of a chart, in the units of its drawing
_LEVEL_WORDS = {
    "soon": "see somebody soon",
    "today": "see somebody today",
    "emergency_room": "emergency room",
    "crisis": "crisis line",
    "emergency_911": "call 911",
}


@dataclass(frozen=True)
class Series:
    """One kind of number in a chart, a value for each period."""

    name: str
    values: list[int]


@dataclass(frozen=True)
class Bar:
    """A rectangle of a chart, and which series it is of."""

    x: float
    y: float
    width: float
    height: float
    series: int


@dataclass(frozen=True)
class Chart:
    """Bars for each period, the series on top of one another, and the same as a table.

    Attributes:
        key: names it on the page.
        title: what it shows.
        help: how to read it; "" if that is plain.
        periods: what stands under the bars.
        series: what is shown of each.
        share: index of the series whose share of all stands in the table, too; None for none.
    """

    key: str
    title: str
    help: str
    periods: list[str]
    series: list[Series]
    share: int | None = None

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(sum(series.values) for series in self.series)

    @property
    def most(self) -> int:
        """The highest pile."""
        return max((sum(self._pile(place)) for place in range(len(self.periods))), default=0)

    def bars(self) -> list[Bar]:
        """Return what is drawn: from the ground upwards, in a drawing of 720 by 150."""
        wide = _WIDTH / max(len(self.periods), 1)
        bars = []
        for place in range(len(self.periods)):
            ground = _HEIGHT
            for index, value in enumerate(self._pile(place)):
                if value <= 0:
                    continue
                high = _HEIGHT * value / max(self.most, 1)
                ground -= high
                bars.append(Bar(wide * place + _GAP / 2, ground, wide - _GAP, high, index))
        return bars

    def rows(self) -> list[tuple[str, list[str]]]:
        """Return the table: a period and its cells, the newest first."""
        rows = []
        for place, period in reversed(list(enumerate(self.periods))):
            pile = self._pile(place)
            cells = [str(value) for value in pile]
            if self.share is not None:
                cells.append(_percent(pile[self.share], sum(pile)))
            rows.append((period, cells))
        return rows

    def _pile(self, place: int) -> list[int]:
        return [series.values[place] for series in self.series]


@dataclass(frozen=True)
class TopicLine:
    """How often a topic was answered, and what visitors thought of it."""

    name: str
    title: str
    times: int
    share: str
    helpful: int
    not_helpful: int


@dataclass(frozen=True)
class Numbers:
    """All that the page shows."""

    charts: list[Chart]
    topics: list[TopicLine]
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Period:
    """Parts a stretch of time into days or weeks."""

    starts: list[dt.date]
    words: list[str]

    @classmethod
    def days(cls, today: dt.date) -> _Period:
        starts = [today - dt.timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
        return cls(starts, [f"{day:%a, %b} {day.day}" for day in starts])

    @classmethod
    def weeks(cls, today: dt.date) -> _Period:
        monday = today - dt.timedelta(days=today.weekday())
        starts = [monday - dt.timedelta(weeks=back) for back in range(WEEKS - 1, -1, -1)]
        return cls(starts, [f"week of {day:%b} {day.day}" for day in starts])

    def place(self, day: str) -> int:
        """Return in which part a day lies."""
        date = dt.date.fromisoformat(day)
        return max(place for place, start in enumerate(self.starts) if start <= date)


class NumberReader:
    """Reads the counters. Calls block for some milliseconds, and raise `StorageError`.

    Args:
        engine: the database, with our tables.
        titles: returns what topics are called, by name.
    """

    def __init__(self, engine: Engine, titles: Callable[[], dict[str, str]]) -> None:
        self._engine = engine
        self._titles = titles

    def read(self, by_week: bool, today: dt.date) -> Numbers:
        """Return the numbers of the last `DAYS` days or `WEEKS` weeks, up to today (UTC)."""
        period = _Period.weeks(today) if by_week else _Period.days(today)
        rows = self.rows(period.starts[0])
        counts: Counter[tuple[str, int]] = Counter()
        topics: Counter[tuple[str, str]] = Counter()
        for day, kind, topic, number in rows:
            if day > today.isoformat():
                continue  # of a clock that went wrong
            place = period.place(day)
            counts[(kind, place)] += number
            counts[(f"{kind}:{topic}", place)] += number
            topics[(kind, topic)] += number

        def series(name: str, kind: str) -> Series:
            return Series(name, [counts[(kind, place)] for place in range(len(period.starts))])

        charts = [
            Chart(
                "conversations",
                "Conversations",
                "A visitor who comes back after an hour counts again.",
                period.words,
                [series("conversations", "conversations")],
            ),
            Chart(
                "answers",
                "Messages answered and turned away",
                "Turned away: the assistant said that it did not understand, or that this is not "
                "for it.",
                period.words,
                [
                    series("answered", "answered"),
                    series("turned away", "turned_away"),
                    series("failed", "without_answer"),
                ],
                share=1,
            ),
            Chart(
                "red-flags",
                "Red flags",
                "How often the assistant told a visitor to see somebody, or to call 911.",
                period.words,
                [series(_LEVEL_WORDS.get(level, level), f"red_flag:{level}") for level in LEVELS],
            ),
            Chart("requests", "Requests", "", period.words, [series("requests", "requests")]),
            Chart(
                "first-answers",
                "Time to the first answer",
                "How long a request was new before somebody took it up. It counts on the day when "
                "that was.",
                period.words,
                [series(words, f"first_answer:{words}") for _, words in FIRST_ANSWER_STEPS],
            ),
            Chart(
                "thumbs",
                "Thumbs",
                "",
                period.words,
                [series("helpful", "helpful"), series("not helpful", "not_helpful")],
                share=0,
            ),
        ]
        return Numbers(charts, self._topics(topics), _facts(charts))

    def rows(self, since: dt.date) -> list[tuple[str, str, str, int]]:
        """Return day, kind, topic and count of all counters since a day, red flags among them."""
        flags = (
            sa.select(
                red_flag_counts.c.day, red_flag_counts.c.level, sa.func.sum(red_flag_counts.c.count)
            )
            .where(red_flag_counts.c.day >= since.isoformat())
            .group_by(red_flag_counts.c.day, red_flag_counts.c.level)
        )
        with connected(self._engine) as connection:
            rows = [tuple(row) for row in read_counts(connection, since.isoformat())]
            rows += [
                (day, "red_flag", level, int(count))
                for day, level, count in connection.execute(flags)
            ]
        return sorted(rows)

    def _topics(self, counts: Counter[tuple[str, str]]) -> list[TopicLine]:
        titles = self._titles()
        found = Counter(
            {topic: number for (kind, topic), number in counts.items() if kind == "topic"}
        )
        total = sum(found.values())
        return [
            TopicLine(
                topic,
                titles.get(topic, topic),
                number,
                _percent(number, total),
                counts[("helpful", topic)],
                counts[("not_helpful", topic)],
            )
            for topic, number in found.most_common(_TOPICS)
        ]


def add_numbers(guard: Guard, engine: Engine, settings: Settings) -> None:
    """Add the page with the numbers, and the same as a file."""

    def titles() -> dict[str, str]:
        answers = load_catalogue(settings.folder).answers.values()
        return {answer.name: answer.title for answer in answers if answer.title}

    reader = NumberReader(engine, titles)

    @guard.get("/numbers", SIGNED_IN, menu="Numbers")
    async def show(request: Request, visit: Visit) -> HTTPResponse:
        by_week = request.args.get("by") == "week"
        numbers = await in_thread(reader.read, by_week, _today())
        return page("numbers.html", visit, numbers=numbers, by_week=by_week)

    @guard.get("/numbers/export.csv", SIGNED_IN)
    async def export(request: Request, visit: Visit) -> HTTPResponse:
        rows = await in_thread(reader.rows, _today() - dt.timedelta(weeks=WEEKS))
        head: Iterable[object] = ("day (UTC)", "what", "about", "count")
        return download(table_csv([head, *rows]), f"numbers-{_today()}.csv", "text/csv")


def _facts(charts: list[Chart]) -> dict[str, str]:
    by_key = {chart.key: chart for chart in charts}
    answers = [sum(series.values) for series in by_key["answers"].series]
    return {
        "conversations": str(by_key["conversations"].total),
        "messages turned away": _percent(answers[1], sum(answers)) or "none",
        "requests": str(by_key["requests"].total),
        "red flags": str(by_key["red-flags"].total),
    }


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 else ""


def _today() -> dt.date:
    return dt.datetime.now(dt.timezone.utc).date()
