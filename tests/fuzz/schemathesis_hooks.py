"""Gives each of schemathesis's requests a session of its own, since some of them end it.

Runs in the environment of schemathesis, not in the project's.
"""

from __future__ import annotations

from typing import Any

import requests
import schemathesis


@schemathesis.auth(refresh_interval=None)
class ChatSession:
    """A session's token as the bearer."""

    def get(self, case: Any, context: Any) -> str:
        """Return the token of a new session."""
        answer = requests.post(f"{case.operation.base_url}/webchat/session", timeout=10)
        return str(answer.json()["token"])

    def set(self, case: Any, data: str, context: Any) -> None:
        """Put the token into a request."""
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"
