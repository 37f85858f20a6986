"""Counts alarms by day, rule and level: never who wrote, never what."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.metrics import process_metrics
from assistant.safety.detector import SAFETY_AREA, load_detector
from assistant.settings import project_folder
from assistant.storage.database import red_flag_counts

logger = logging.getLogger(__name__)


class RedFlagCounter:
    """Counts in a thread of its own, so that no database delays or loses the advice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="red-flag-counter")

    def count(self, text: str, messages: Iterable[dict[str, Any]]) -> None:
        """Count an answered message, once, if its answer is advice on a red flag.

        Args:
            text: the visitor's words; only the level is read from them, at once.
            messages: the answer, as the web chat sends it.
        """
        topics = (str(message["metadata"].get("topic", "")) for message in messages)
        detector = load_detector(project_folder())
        areas = (topic.partition("/") for topic in topics)
        rule = next((key for area, _, key in areas if area == SAFETY_AREA), None)
        if rule not in detector.rules:  # no advice, or the question back
            return
        flag = detector.scan(text)
        level = flag.level if flag and flag.rule == rule else detector.mildest_level(rule)
        process_metrics().red_flag(rule, level)
        try:
            self._thread.submit(self._add, rule, level)
        except RuntimeError as error:  # no thread is to be had: the advice must go out all the same
            logger.error("An alarm of rule %s could not be counted: %s.", rule, error)

    def close(self) -> None:
        """Wait until all is counted."""
        self._thread.shutdown()

    def _add(self, rule: str, level: str) -> None:
        day = dt.datetime.now(dt.timezone.utc).date().isoformat()
        where = (
            red_flag_counts.c.day == day,
            red_flag_counts.c.rule == rule,
            red_flag_counts.c.level == level,
        )
        one_more = (
            sa.update(red_flag_counts).where(*where).values(count=red_flag_counts.c.count + 1)
        )
        first = sa.insert(red_flag_counts).values(day=day, rule=rule, level=level, count=1)
        try:
            with self._engine.begin() as connection:
                if connection.execute(one_more).rowcount:
                    return
            try:
                with self._engine.begin() as connection:
                    connection.execute(first)
            except sa.exc.IntegrityError:  # another process was first
                with self._engine.begin() as connection:
                    connection.execute(one_more)
        except Exception:
            logger.exception("An alarm of rule %s could not be counted.", rule)
