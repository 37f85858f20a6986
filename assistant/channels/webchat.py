"""The web chat: Rasa's channel for the widget on the practice's website.

JSON over HTTP with signed sessions. Errors are `{"error": {"code", "message"}}`; nothing a browser
sends chooses the conversation, the channel or an intent.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rasa.core.channels.channel import InputChannel, UserMessage
from rasa.shared.core.events import BotUttered, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from sanic import Blueprint
from sanic.request import Request
from sanic.response import HTTPResponse, raw, redirect

from assistant.channels.conversation import Message, as_messages, converse
from assistant.channels.message_text import LONGEST_MESSAGE, UnreadableTextError, clean
from assistant.channels.rate_limit import RateLimit
from assistant.channels.sessions import InvalidSession, Session, SessionSigner
from assistant.contact.desk import contact_desk
from assistant.safety.advice import advice_for
from assistant.safety.counter import RedFlagCounter
from assistant.settings import Settings, load_settings
from assistant.storage.database import empty_log, engine_for
from assistant.storage.ended_sessions import EndedSessions

logger = logging.getLogger(__name__)

LARGEST_BODY = 16_384  # bytes

_PAGE = Path(__file__).parent / "page"
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def json_response(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    """Return a JSON response that no cache keeps: it belongs to one visitor."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    kept = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return raw(content, status=status, headers=kept, content_type="application/json")


class ChatError(Exception):
    """A request that is refused: status, code and a sentence that says what to do."""

    def __init__(self, status: int, code: str, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def response(self) -> HTTPResponse:
        """Return the error in the contract's shape."""
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        body = {"error": {"code": self.code, "message": self.message}}
        return json_response(body, status=self.status, headers=headers)


class WebChat(InputChannel):
    """The channel; `credentials.yml` names it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        life = dt.timedelta(hours=settings.session_hours)
        self._signer = SessionSigner(settings.secret, life)
        self._per_session = RateLimit(settings.session_rate, settings.session_burst)
        self._per_address = RateLimit(settings.address_rate, settings.address_burst)
        self._ended = EndedSessions(engine_for(settings.database_url))
        self._red_flags = RedFlagCounter(engine_for(settings.database_url))

    @classmethod
    def name(cls) -> str:
        """Return the channel's name."""
        return "webchat"

    @classmethod
    def from_credentials(cls, credentials: dict[str, Any] | None) -> WebChat:
        """Make the channel; its settings come from the environment."""
        return cls(load_settings())

    def url_prefix(self) -> str:
        """Return where the channel lives: not under Rasa's /webhooks/."""
        return "/webchat"

    def blueprint(self, on_new_message: Callable[[UserMessage], Awaitable[Any]]) -> Blueprint:
        """Define the routes of the web chat contract."""
        blueprint = Blueprint("webchat")

        @blueprint.exception(ChatError)
        async def refuse(request: Request, error: ChatError) -> HTTPResponse:
            return error.response()

        @blueprint.exception(Exception)
        async def fail(request: Request, error: Exception) -> HTTPResponse:
            status = getattr(error, "status_code", 500)
            if status >= 500:
                logger.error("A web chat request failed.", exc_info=error)
            return failure(status).response()

        @blueprint.post("/session")
        async def open_session(request: Request) -> HTTPResponse:
            self._admit(request)
            agent = _ready_agent(request)
            token, session = self._signer.mint()
            body = {
                "token": token,
                "conversation_id": session.conversation_id,
                "expires_at": session.expires_at.isoformat(),
                "messages": await _opening(agent),
            }
            return json_response(body, status=201)

        @blueprint.delete("/session")
        async def end_session(request: Request) -> HTTPResponse:
            self._admit(request)
            session = self._session(request)
            agent = _ready_agent(request)
            async with agent.lock_store.lock(session.conversation_id):
                contact_desk().erase(session.conversation_id)
                await agent.tracker_store.erase(session.conversation_id)
                empty_log(engine_for(self._settings.database_url))
                # Last, so that whoever got an error can try again.
                self._ended.add(session.conversation_id, session.expires_at.timestamp())
            return raw(b"", status=204)

        @blueprint.post("/messages")
        async def take_message(request: Request) -> HTTPResponse:
            self._admit(request)
            body = _body(request)
            advice = _advice(body)
            try:
                messages = await self._answer(request, body, on_new_message)
            except Exception as error:
                # No model, no database, too long, too fast ...: the advice is given all the same.
                if not advice:
                    raise
                logger.warning("Advice is given although %s", error or type(error).__name__)
                messages = advice
            self._red_flags.count(_words_of(body), messages)
            return json_response({"messages": messages})

        @blueprint.get("/messages")
        async def show_messages(request: Request) -> HTTPResponse:
            self._admit(request)
            session = self._session(request)
            agent = _ready_agent(request)
            history = await _history(agent, session.conversation_id)
            return json_response({"messages": [*await _opening(agent), *history]})

        @blueprint.get("/")
        async def lead_to_page(request: Request) -> HTTPResponse:
            # Sanic takes /webchat for it; the page's own addresses need the slash at the end.
            return redirect(f"{self.url_prefix()}/")

        @blueprint.get("/<name:str>")
        async def show_file(request: Request, name: str) -> HTTPResponse:
            return _page_file(name or "index.html")

        return blueprint

    async def _answer(
        self,
        request: Request,
        body: dict[str, Any],
        on_new_message: Callable[[UserMessage], Awaitable[Any]],
    ) -> list[Message]:
        """Return what answers a message body.

        Raises:
            ChatError: 400, 401, 413, 429 or 503.
        """
        session = self._session(request)
        agent = _ready_agent(request)
        text = await _text_of(body, session, agent)
        wait = self._per_session.wait(session.conversation_id)
        if wait:
            raise _too_fast(wait)
        return await converse(
            on_new_message, session.conversation_id, text, self._settings.answer_seconds
        )

    def _admit(self, request: Request) -> None:
        """Refuse foreign sites and hasty addresses.

        Raises:
            ChatError: 403 or 429.
        """
        origin = request.headers.get("origin")
        if origin and not self._is_allowed(origin, request.host):
            raise ChatError(
                403,
                "origin_not_allowed",
                "This site may not use the chat. Its operator can allow it with WEBCHAT_ORIGINS.",
            )
        behind_proxy = self._settings.proxies > 0 and request.remote_addr
        wait = self._per_address.wait(behind_proxy or request.ip)
        if wait:
            raise _too_fast(wait)

    def _is_allowed(self, origin: str, host: str) -> bool:
        return origin in self._settings.origins or urlsplit(origin).netloc == host

    def _session(self, request: Request) -> Session:
        """Return the session of a request.

        Raises:
            ChatError: 401.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not token:
                raise InvalidSession("There is no bearer token.")
            session = self._signer.verify(token.strip())
            if session.conversation_id in self._ended:
                raise InvalidSession("The session was ended.")
        except InvalidSession:
            raise ChatError(
                401,
                "invalid_session",
                "The session is missing, unknown or over. Start a new one with POST /webchat/session.",
            ) from None
        return session


def failure(status: int) -> ChatError:
    """Return the error for a failure that names no reason to the outside."""
    known = {
        400: ("malformed", "The request could not be read."),
        404: ("not_found", "There is nothing at this address."),
        405: ("method_not_allowed", "This address does not take that method."),
        408: ("timeout", "The request took too long to arrive."),
        413: ("too_large", f"The request is larger than {LARGEST_BODY} bytes."),
        503: ("not_ready", "The assistant is not ready yet. Please try again in a moment."),
    }
    code, message = known.get(status, ("refused", "The request cannot be served."))
    if status == 500:
        code, message = "internal", "Something went wrong here. Please try again."
    return ChatError(status, code, message)


def _ready_agent(request: Request) -> Any:
    """Return Rasa's agent.

    Raises:
        ChatError: 503 while there is none.
    """
    agent = getattr(request.app.ctx, "agent", None)
    if agent is None or not agent.is_ready():
        raise failure(503)
    return agent


def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Rasa's server would parse it with a lenient reader (NaN, half characters); this one is strict.

    Raises:
        ChatError: 400 or 413.
    """
    if len(request.body) > LARGEST_BODY:
        raise failure(413)
    try:
        body = json.loads(request.body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ChatError(400, "malformed", "The body is not JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise ChatError(
            400, "malformed", 'The body must be an object: {"text": "..."} or {"postback": "..."}.'
        )
    return body


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _words_of(body: dict[str, Any]) -> str:
    """Return the text or postback of a body, whole and as it came; "" if it has none."""
    words = body.get("text") or body.get("postback")
    return words if isinstance(words, str) else ""


def _advice(body: dict[str, Any]) -> list[Message]:
    """Return the advice on a red flag in whatever text a body holds; empty if there is none."""
    return as_messages(advice_for(_words_of(body)) or {})


async def _text_of(body: dict[str, Any], session: Session, agent: Any) -> str:
    """Return the text that a message body stands for.

    Raises:
        ChatError: 400 or 413.
    """
    keys = [key for key in ("text", "postback") if key in body]
    unknown = body.keys() - {"text", "postback"}
    if len(keys) != 1 or unknown:
        raise ChatError(
            400, "malformed", 'Send either {"text": "..."} or {"postback": "..."} and nothing else.'
        )
    value = body[keys[0]]
    if not isinstance(value, str):
        raise ChatError(400, "malformed", f"'{keys[0]}' must be a string.")
    try:
        text = clean(value)
    except UnreadableTextError as error:
        raise ChatError(400, "malformed", str(error)) from None
    if len(text) > LONGEST_MESSAGE:
        raise ChatError(
            413,
            "text_too_long",
            f"The message has {len(text)} characters; please shorten it to {LONGEST_MESSAGE}.",
        )
    if keys[0] == "postback" and value not in await _offered(agent, session.conversation_id):
        raise ChatError(
            400,
            "postback_not_offered",
            "This button is not among those of the last answer. Send its words as text instead.",
        )
    return text


async def _offered(agent: Any, conversation_id: str) -> set[str]:
    """Return what the buttons of the last turn send."""
    turn: list[Message] = []
    for message in await _history(agent, conversation_id) or await _opening(agent):
        if message.get("from") == "visitor":
            turn = []
        else:
            turn.append(message)
    return {button["payload"] for message in turn for button in message["buttons"]}


async def _history(agent: Any, conversation_id: str) -> list[Message]:
    """Return the stored conversation, the visitor's messages marked `"from": "visitor"`."""
    tracker: DialogueStateTracker | None = await agent.tracker_store.retrieve_full_tracker(
        conversation_id
    )
    messages: list[Message] = []
    for event in tracker.events if tracker else []:
        if isinstance(event, UserUttered) and event.text:
            messages.append({"text": event.text, "buttons": [], "metadata": {}, "from": "visitor"})
        elif isinstance(event, BotUttered):
            messages.extend(as_messages(event.message()))
    return messages


async def _opening(agent: Any) -> list[Message]:
    """Return the greeting. It is not stored: nothing is, before the visitor writes."""
    tracker = DialogueStateTracker("opening", [])
    response = await agent.nlg.generate("utter_opening", tracker, WebChat.name())
    return as_messages(response or {})


def _too_fast(wait: int) -> ChatError:
    return ChatError(
        429, "too_fast", f"Too many messages. Please wait {wait} seconds.", retry_after=wait
    )


def _page_file(name: str) -> HTTPResponse:
    path = _PAGE / name
    if "/" in name or name.startswith(".") or not path.is_file():
        raise failure(404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith("javascript"):
        kind += "; charset=utf-8"
    headers = {**_PAGE_HEADERS, "Cache-Control": "no-cache"}
    return raw(path.read_bytes(), content_type=kind, headers=headers)
