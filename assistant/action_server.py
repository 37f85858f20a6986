"""What `rasa run actions` must not be: open to the network, or talkative about a conversation."""

from __future__ import annotations

import hmac
import logging
import os

import pluggy
from rasa_sdk.plugin import plugin_manager
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, json

from assistant.settings import SettingError, load_settings

logger = logging.getLogger(__name__)

_NAME = "action-server-guard"
_OPEN = "/health"


class ActionServerGuard:
    """Plugs into rasa-sdk's server when it starts; `assistant serve` has no such server.

    The server then listens on this machine only (unless `SANIC_HOST` says otherwise), wants the
    shared secret, and answers an error with a sentence instead of the conversation it was sent.
    """

    @pluggy.HookimplMarker("rasa_sdk")
    def attach_sanic_app_extensions(self, app: Sanic) -> None:
        """Guard the server's application.

        Raises:
            SettingError: in production there is no secret.
        """
        settings = load_settings()
        secret = settings.action_secret
        if settings.production and not secret:
            raise SettingError(
                "ACTION_SECRET is not set. In production the action server shares it with its "
                "callers; make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        os.environ.setdefault("SANIC_HOST", "127.0.0.1")  # read after this; all addresses otherwise

        @app.on_request
        async def admit(request: Request) -> HTTPResponse | None:
            if not secret or request.path == _OPEN:
                return None
            given = request.headers.get("authorization", "").encode()
            if hmac.compare_digest(given, f"Bearer {secret}".encode()):
                return None
            return json({"error": "The shared secret is missing or wrong."}, status=401)

        async def fail(request: Request, error: Exception) -> HTTPResponse:
            status = getattr(error, "status_code", 500)
            if status >= 500:
                logger.error("An action failed.", exc_info=error)
            return json({"error": "The action could not be run."}, status=status)

        app.error_handler.add(Exception, fail)


def guard_action_server() -> None:
    """Have rasa-sdk's server guarded, if one is started in this process."""
    if not plugin_manager().has_plugin(_NAME):
        plugin_manager().register(ActionServerGuard(), _NAME)
