"""What must be true before the assistant serves: each failure is one sentence that says what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from assistant.content.office import Office
from assistant.settings import SettingError, Settings
from assistant.storage.database import StorageError, engine_for

_TELL_EVERY = 5.0  # seconds


def check_combination(settings: Settings, office: Office) -> None:
    """Refuse settings that are not safe together.

    Raises:
        SettingError: they are not; says what to change.
    """
    if os.environ.get("SANIC_WORKERS", "1") not in ("", "1"):
        raise SettingError(
            "SANIC_WORKERS is set, but each process of the assistant is one worker. For several, "
            "start several processes with PostgreSQL and Redis; docs/operations.md says how."
        )
    if settings.redis_url and settings.database_url.startswith("sqlite"):
        raise SettingError(
            "REDIS_URL is for several processes, and SQLite (DATABASE_URL) serves one. Use "
            "PostgreSQL, or leave REDIS_URL away."
        )
    if settings.production and not office.privacy_url:
        raise SettingError(
            "office.yml has no privacy_url. Visitors on a public site must find the privacy policy; "
            "write its address there."
        )


def wait_for_database(url: str, seconds: float, say: Callable[[str], None]) -> Engine:
    """Return the database, brought up to date, once it can be reached.

    Args:
        url: its address.
        seconds: how long to wait.
        say: takes a line of progress.

    Raises:
        SettingError: it cannot be reached or used.
    """
    shown = sa.engine.make_url(url).render_as_string(hide_password=True)
    end = time.monotonic() + seconds
    told = float("-inf")
    while True:
        try:
            return engine_for(url)
        except StorageError as error:
            now = time.monotonic()
            if not error.passing or url.startswith("sqlite") or now >= end:
                raise SettingError(
                    f"The database {shown} cannot be used. {error} Start it, or set DATABASE_URL."
                ) from error
            if now - told >= _TELL_EVERY:
                say(f"Waiting for the database {shown}, {end - now:.0f} s at most. {error}")
                told = now
            time.sleep(0.25)
