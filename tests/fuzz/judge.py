"""What an answer must be like, whatever was sent."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import assistant.channels
from assistant.channels.conversation import TROUBLE
from tests.fuzz.inputs import Input
from tests.fuzz.wire import Answer

LATE_SECONDS = 2.0

_INSIDE = re.compile(
    r"Traceback|most recent call|File \"|\", line \d|\bline \d+, in\b|site-packages|\.py\b|"
    r"/(?:tmp|root|home|usr|etc|app|var)/|"
    r"\b(?:sqlalchemy|sqlite3|psycopg2|asyncio|sanic|rasa|ujson|jwt|Rasa)\b|"
    r"\b\w+(?:Error|Exception)\b|\bat 0x[0-9a-f]+|<(?:function|class|object|module)\b"
)
"""What tells of the inside of the server: traces, paths, modules."""

_UNFINISHED = re.compile(r"\butter_\w+|\baction_\w+|\{[a-z_]+\}|\[answer: \w+\]|\bnlu_fallback\b")
"""What only an unfinished answer shows."""


def _page_files() -> frozenset[str]:
    folder = Path(assistant.channels.__path__[0]) / "page"
    return frozenset(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir())


@dataclass(frozen=True)
class Judge:
    """Finds faults in answers.

    Attributes:
        canaries: words of other visitors that may stand in no answer, in lower case.
    """

    canaries: tuple[str, ...] = ()
    page_files: frozenset[str] = _page_files()

    def faults(self, sent: Input, answer: Answer, said: Iterable[str], waited: float) -> list[str]:
        """Return what is wrong with an answer.

        Args:
            sent: the input.
            answer: what came back.
            said: what this visitor had said, which may stand in the answer.
            waited: seconds of the answer's time in which the machine did not run the server.
        """
        if answer.trouble:
            fair = sent.request.unfinished and answer.trouble in ("silent", "closed")
            return [] if fair else [f"no answer: {answer.trouble}"]
        return [
            *self._of_status(sent, answer),
            *self._of_shape(sent, answer),
            *self._of_words(sent, answer, said),
            *_of_time(answer, waited),
        ]

    def _of_status(self, sent: Input, answer: Answer) -> list[str]:
        if answer.status >= 500 and answer.status != 503:
            return [f"status {answer.status}"]
        if answer.status == 503 and _code(answer) not in ("not_ready", "busy"):
            return ["a 503 that does not say why"]
        if sent.statuses and answer.status not in sent.statuses:
            return [f"status {answer.status} instead of {sorted(sent.statuses)}"]
        return []

    def _of_shape(self, sent: Input, answer: Answer) -> list[str]:
        if sent.request.verb == "HEAD" or answer.status in (204, 304) or 300 <= answer.status < 400:
            return ["a body where none may be"] if answer.body else []
        if answer.status >= 400:
            return _faults_of_error(answer)
        if self._is_page_file(answer):
            return []
        if _is_metrics(answer):
            return _faults_of_metrics(answer)
        if sent.request.verb == "OPTIONS" and not answer.body:
            return []
        if "json" not in answer.header("content-type"):
            return [f"neither JSON nor a file of the page: {answer.header('content-type')}"]
        try:
            body = json.loads(answer.body)
        except ValueError:
            return ["the body is not the JSON that it says to be"]
        if isinstance(body, dict) and "messages" in body:
            return _faults_of_messages(body["messages"])
        is_known = isinstance(body, dict) and "status" in body
        return [] if is_known else ["an answer that the contract does not know"]

    def _is_page_file(self, answer: Answer) -> bool:
        packed = answer.header("content-encoding") == "gzip"
        content = gzip.decompress(answer.body) if packed else answer.body
        return hashlib.sha256(content).hexdigest() in self.page_files

    def _of_words(self, sent: Input, answer: Answer, said: Iterable[str]) -> list[str]:
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers)
        body = "" if self._is_page_file(answer) else _plain(answer.body)
        told = f"{headers}\n{body}"
        lowered = told.lower()
        faults = [f"another visitor's words: {word}" for word in self.canaries if word in lowered]
        inside = headers if _is_metrics(answer) else told
        suspects = {match.group() for match in _INSIDE.finditer(inside)}
        suspects |= {match.group() for match in _UNFINISHED.finditer(body)}
        if suspects:
            own = "\n".join((*said, sent.request.target, sent.text)).lower()
            faults += [
                f"tells of the inside: {suspect!r}"
                for suspect in sorted(suspects)
                if suspect.lower() not in own
            ]
        return faults


def _of_time(answer: Answer, waited: float) -> list[str]:
    seconds = answer.seconds - waited
    return [f"late: {seconds:.1f} s"] if seconds > LATE_SECONDS else []


def _faults_of_error(answer: Answer) -> list[str]:
    try:
        body = json.loads(answer.body)
        error = body["error"]
        fits = body.keys() == {"error"} and error.keys() == {"code", "message"}
        fits = fits and re.fullmatch("[a-z_]+", error["code"]) and len(error["message"]) > 10
    except (ValueError, TypeError, KeyError, AttributeError):
        fits = False
    if not fits or answer.header("content-type") != "application/json":
        return ["an error that is not in the contract's shape"]
    if answer.status == 429 and not answer.header("retry-after").isdigit():
        return ["a 429 without Retry-After"]
    return []


def _faults_of_messages(messages: Any) -> list[str]:
    if not isinstance(messages, list) or not messages:
        return ["a silent answer"]
    faults = []
    for message in messages:
        if not isinstance(message, dict) or not message.keys() <= {
            "text", "buttons", "image", "metadata", "from", "id",
        }:  # fmt: skip
            return ["a message that is not in the contract's shape"]
        if not (isinstance(message["text"], str) and (message["text"] or "image" in message)):
            faults.append("a message without words")
        if message["text"] == TROUBLE:
            faults.append("the visitor was told that something went wrong")
        if any(button.keys() != {"title", "payload"} for button in message["buttons"]):
            faults.append("a button that is not in the contract's shape")
    return faults


def _is_metrics(answer: Answer) -> bool:
    """Return whether this is `/metrics`: the operator's, and closed where nobody set a token."""
    return answer.header("content-type").startswith("text/plain; version=0.0.4")


def _faults_of_metrics(answer: Answer) -> list[str]:
    try:
        families = list(text_string_to_metric_families(answer.body.decode()))
    except ValueError:
        families = []
    return [] if families else ["metrics that Prometheus cannot read"]


def _code(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["error"]["code"])
    except (ValueError, TypeError, KeyError):
        return ""


def _plain(body: bytes) -> str:
    """Return a body's text with JSON's escapes undone, so that quotation marks are found."""
    text = body.decode("utf-8", "replace")
    try:
        return "\n".join(_texts(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            # What the answer cites and how it is signed is the operator's own.
            if key not in ("token", "sources"):
                yield key
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
