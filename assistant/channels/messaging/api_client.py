"""Calls of a platform's HTTP interface: time limits, no redirects, and errors of one kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp

from assistant.channels.messaging.platform import PlatformError

_LARGEST_ANSWER = 1_000_000  # bytes
_LONGEST_WAIT = 3600.0  # seconds; a platform that asks for more is asked again all the same


@dataclass(frozen=True)
class ApiAnswer:
    """What a platform answered: its status, never 429 nor 5xx, its JSON object and its headers."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


class ApiClient:
    """One aiohttp session, made at the first call.

    Args:
        platform: named in errors.
        base: address that paths are put after; the real one or, in tests, that of a stand-in.
        seconds: how long a call may take.
        headers: sent with each call, the access token for example.
        auth: user and password, where the platform wants them so.
    """

    def __init__(
        self,
        platform: str,
        base: str,
        seconds: float,
        headers: dict[str, str] | None = None,
        auth: aiohttp.BasicAuth | None = None,
    ) -> None:
        self._platform = platform
        self._base = base.rstrip("/")
        self._seconds = seconds
        self._headers = headers or {}
        self._auth = auth
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, path: str, **arguments: Any) -> ApiAnswer:
        """Make one call and return what came.

        Args:
            method: GET, POST, ...
            path: after the base, with a slash. It may hold a token, so no error shows it.
            arguments: aiohttp's: `json`, `data`, `params`, ...

        Raises:
            PlatformError: the platform is away, too slow, asks to wait, has an error of its own, or
                did not answer with a JSON object. None of these is permanent. What 4xx means, the
                platform's own module knows.
        """
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                headers=self._headers,
                auth=self._auth,
                # A cookie of one patient's call has no business in the next one.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._session.request(
                method, self._base + path, allow_redirects=False, **arguments
            ) as answer:
                status, wait = answer.status, _seconds_of(answer.headers.get("Retry-After"))
                content = await answer.content.read(_LARGEST_ANSWER + 1)
                while not answer.content.at_eof() and len(content) <= _LARGEST_ANSWER:
                    content += await answer.content.read(_LARGEST_ANSWER)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            # The words of these errors may hold the address, and that a token.
            raise PlatformError(f"{self._platform} failed: {type(error).__name__}") from None
        body = _object(content)
        if status == 429 or status >= 500:
            raise PlatformError(f"{self._platform} answered {status}", wait or _asked(body))
        if body is None:
            raise PlatformError(f"{self._platform} answered {status} without a JSON object")
        return ApiAnswer(status, body, answer.headers)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def status_of_post(
    address: str, seconds: float, body: bytes, headers: dict[str, str] | None = None
) -> int:
    """Return the status with which an address answers: to ask whether a webhook is ours.

    Raises:
        aiohttp.ClientError, OSError, asyncio.TimeoutError: it does not answer.
    """
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
        session.post(address, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _asked(body: dict[str, Any] | None) -> float | None:
    """Return the seconds that Telegram asks to wait: in its body, as `parameters.retry_after`."""
    parameters = (body or {}).get("parameters")
    wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return _bounded(wait) if isinstance(wait, int | float) else None


def _seconds_of(header: str | None) -> float | None:
    """Return what a Retry-After says: seconds, or a date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    try:
        return _bounded(float(header))
    except ValueError:
        pass
    try:
        return _bounded(parsedate_to_datetime(header).timestamp() - time())
    except (TypeError, ValueError):
        return None


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else None
