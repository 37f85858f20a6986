"""The log: one shape for the lines of ours, of Rasa and of Sanic, without what visitors write.

Four nets keep a visitor's words out, each for what the others cannot know: lines below WARNING are
written by our own modules alone; of Rasa's structured entries only harmless fields are kept; while a
message is answered, its words are taken out of every line (`keep_out_of_logs`); and whatever looks
like personal data is replaced (`redaction.py`).
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from functools import lru_cache
from traceback import TracebackException
from types import TracebackType
from typing import Any
from urllib.parse import quote

import structlog
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict

from assistant.redaction import redact
from assistant.understanding.vocabulary import common_words

logger = logging.getLogger(__name__)

SHAPES = ("plain", "json")
"""For people, and one JSON object a line for programs."""

REQUEST_ID_HEADER = "X-Request-ID"

_OUR_MODULES = ("assistant", "actions")
_REQUEST_FIELDS = ("request_id", "method", "route", "status", "milliseconds", "channel")
_HARMLESS_FIELDS = {
    "event_info", "action_name", "filename", "host", "len_extraction_events", "placeholder_key",
    "token_start", "token_end",
}  # fmt: skip
"""Of Rasa's structured entries; all others may hold a visitor's words, or a secret."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_ID = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9-]{8,64}", re.ASCII)
_WORD = re.compile(r"[^\W_]+")
_REQUEST_ADDRESS = re.compile(r"https?://\S+|<Request: [^>]*>")
_DATABASE_VALUES = re.compile(
    r"\[parameters: .*?\](?=\n|\Z)|^DETAIL: .*?(?=^\[SQL: |\Z)", re.DOTALL | re.MULTILINE
)
"""What SQLAlchemy and PostgreSQL quote of the row that an error is about."""

_being_answered: ContextVar[tuple[str, ...]] = ContextVar("being_answered", default=())


@contextmanager
def keep_out_of_logs(text: str) -> Iterator[None]:
    """Take a visitor's words out of every line that is logged meanwhile.

    Holds for what the block awaits and for the tasks and threads (`asyncio.to_thread`) it starts.

    Args:
        text: the words, as they came.
    """
    token = _being_answered.set((*_being_answered.get(), text))
    try:
        yield
    finally:
        _being_answered.reset(token)


def configure_logs(shape: str = "plain", level: str = "WARNING") -> None:
    """Write every log line of this process to standard error, in one shape.

    Args:
        shape: one of `SHAPES`.
        level: from which level our own lines are written, as `INFO`; all others from WARNING.

    Raises:
        ValueError: there is no such shape or level.
    """
    if shape not in SHAPES:
        raise ValueError(f"LOG_FORMAT is '{shape}'; set it to {' or '.join(SHAPES)}.")
    lowest = logging.getLevelName(level.upper())
    if not isinstance(lowest, int):
        raise ValueError(f"LOG_LEVEL is '{level}'; set it to DEBUG, INFO, WARNING or ERROR.")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                ExtraAdder(allow=_REQUEST_FIELDS),
            ],
            processors=[_line, _as_json if shape == "json" else _as_text],
        )
    )
    handler.addFilter(_is_wanted)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    for name in _OUR_MODULES:
        logging.getLogger(name).setLevel(lowest)
    gather_loggers()
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.dev.set_exc_info,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda given: _log_uncaught(
        given.exc_type, given.exc_value or given.exc_type(), given.exc_traceback
    )


def gather_loggers() -> None:
    """Take away the handlers that libraries gave their own loggers, so that all lines go one way.

    Some come with an import, so call it again when everything is loaded.
    """
    for log in list(logging.root.manager.loggerDict.values()):
        if isinstance(log, logging.Logger):
            log.handlers.clear()
            log.propagate = True


def log_requests(app: Sanic, quiet: Collection[str] = ("health", "metrics")) -> None:
    """Write a line for each request, and give each an id that stands in all of its lines.

    The id is that of the header `X-Request-ID` if it has 8 to 64 letters, digits and hyphens, among
    them a letter and a digit (a name or a phone number is no id); otherwise one is made. The
    response brings it back in the same header.

    Args:
        app: the application, before it starts.
        quiet: blueprints whose requests are logged at DEBUG: a prober asks them all day.
    """

    @app.signal("http.lifecycle.handle")
    async def begin(request: Request) -> None:
        _begin(request)

    @app.on_response
    async def end(request: Request, response: HTTPResponse) -> None:
        if not hasattr(request.ctx, "request_id"):
            _begin(request)  # it could not even be read
        response.headers[REQUEST_ID_HEADER] = request.ctx.request_id
        names = request.route.name.split(".") if request.route else []
        blueprint = names[1] if len(names) == 3 else ""
        fields = {
            "request_id": request.ctx.request_id,
            "method": request.method if request.method in _METHODS else "other",
            "route": request.uri_template if request.route else "none",
            "status": response.status,
            "milliseconds": round(1000 * (time.perf_counter() - request.ctx.began), 1),
        }
        if blueprint and blueprint not in quiet:
            fields["channel"] = blueprint
        level = logging.DEBUG if blueprint in quiet else logging.INFO
        logger.log(level, "A request was answered.", extra=fields)
        structlog.contextvars.unbind_contextvars("request_id")


def _begin(request: Request) -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request.ctx.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
    request.ctx.began = time.perf_counter()
    structlog.contextvars.bind_contextvars(request_id=request.ctx.request_id)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Whether a line is written: below WARNING only if it is ours (libraries quote messages)."""
    return record.levelno >= logging.WARNING or _is_ours(record.name)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _OUR_MODULES


def _line(_logger: Any, _method: str, entry: EventDict) -> EventDict:
    """Make the fields of a line: those of all lines, and what may be kept besides."""
    record: logging.LogRecord = entry["_record"]
    ours = _is_ours(record.name)
    message = str(entry.get("event", ""))
    if record.name.startswith("sanic"):
        message = _REQUEST_ADDRESS.sub("[address]", message)
    kept = _REQUEST_FIELDS if ours else ("request_id",)
    line: EventDict = {
        "time": datetime.fromtimestamp(record.created, timezone.utc)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _without_words(message, all_words=not ours),
        **{name: entry[name] for name in kept if name in entry},
    }
    if entry["_from_structlog"]:
        for name in entry.keys() & _HARMLESS_FIELDS:
            line[name] = _without_words(str(entry[name]), all_words=True)
    error = _error(entry.get("exc_info"))
    if error:
        line["error"] = error
    return line


def _as_json(_logger: Any, _method: str, line: EventDict) -> str:
    return json.dumps(line)


def _as_text(_logger: Any, _method: str, line: EventDict) -> str:
    line = dict(line)
    head = [line.pop(name) for name in ("time", "level", "logger", "message")]
    error = line.pop("error", "")
    fields = "".join(f" {name}={value}" for name, value in line.items())
    text = f"{head[0]} {head[1].upper()} {head[2]}: {head[3]}{fields}"
    return f"{text}\n{error}" if error else text


def _error(exc_info: Any) -> str:
    """Return a traceback as text; only what its exceptions say can hold a visitor's words."""
    if exc_info is True:
        exc_info = sys.exc_info()
    elif isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if not exc_info or exc_info[0] is None:
        return ""
    parts = TracebackException(*exc_info).format()
    return "".join(part if _is_place(part) else _safe_exception(part) for part in parts).strip()


def _is_place(part: str) -> bool:
    return part.startswith(("  File ", "Traceback (", "\nDuring handling", "\nThe above exception"))


def _safe_exception(part: str) -> str:
    kind, colon, said = part.partition(": ")
    return f"{kind}{colon}{_without_words(said, all_words=True)}"


def _without_words(text: str, all_words: bool) -> str:
    """Return a text without personal data, and without words of what is being answered.

    Args:
        text: what somebody wants to log.
        all_words: whether common English words are taken out, too. In our own lines they are not:
            they are ours, and quote a visitor only by what an exception says.
    """
    text = _DATABASE_VALUES.sub("[not logged]", text)
    for words in _being_answered.get():
        pattern = _pattern(words, all_words)
        text = pattern.sub("[...]", text) if pattern else text
    return redact(text)


@lru_cache(maxsize=64)
def _pattern(text: str, all_words: bool) -> re.Pattern[str] | None:
    """Return what finds a visitor's text, whole or in single words, however it is escaped."""
    words = text.split()
    singles = {
        word
        for word in _WORD.findall(text)
        if word.lower() not in common_words() or (all_words and len(word) > 2)
    }
    found = [r"\s+".join(map(re.escape, words))] if len(text) > 2 else []
    for word in (*words, *sorted(singles, key=len, reverse=True)):
        if word in singles:
            found.append(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")
        if not word.isascii():
            escaped = {json.dumps(word)[1:-1], ascii(word)[1:-1], quote(word)}
            found += [re.escape(form) for form in escaped]
    return re.compile("|".join(found), re.IGNORECASE) if found else None


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Log what nobody caught; Python itself would write it past the log."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logger.critical("An error that nobody expected.", exc_info=(kind, error, trace))
