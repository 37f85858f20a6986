"""The web chat: Rasa's channel for the widget on the practice's website.

JSON over HTTP with signed sessions. Errors are `{"error": {"code", "message"}}`; nothing a browser
sends chooses the conversation, the channel or an intent.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from cachetools import TTLCache
from rasa.core.channels.channel import InputChannel, UserMessage
from rasa.shared.core.events import BotUttered, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from sanic import Blueprint
from sanic.exceptions import ServiceUnavailable
from sanic.request import Request
from sanic.response import HTTPResponse, raw, redirect

from assistant.agent import ConversationAgent
from assistant.channels.conversation import Message, as_messages, converse
from assistant.channels.message_text import LONGEST_MESSAGE, UnreadableTextError, clean
from assistant.channels.page_files import page_file
from assistant.channels.rate_limit import RateLimit, network_of
from assistant.channels.sent_messages import SentMessages, is_message_id
from assistant.channels.sessions import InvalidSession, Session, SessionSigner
from assistant.channels.turns import TooManyTurnsError, turns
from assistant.contact.desk import contact_desk
from assistant.metrics import process_metrics
from assistant.processor import answer_to
from assistant.safety.advice import advice_for
from assistant.safety.counter import RedFlagCounter
from assistant.settings import Settings, load_settings
from assistant.storage.database import (
    StorageError,
    empty_log,
    engine_for,
    in_thread,
    transaction,
)
from assistant.storage.ended_sessions import EndedSessions
from assistant.storage.feedback import erase_feedback, keep_feedback
from assistant.storage.kept_events import shown_text
from assistant.storage.private_conversations import is_private

logger = logging.getLogger(__name__)

LARGEST_BODY = 16_384  # bytes
_ADVICE_SECONDS = 4.0  # after that, advice on a red flag is given whatever else hangs
_MOST_ENDED = 20_000  # private sessions that were ended and whose tokens have time left

FEEDBACK_REASONS = ("not_my_question", "unclear", "wrong", "too_long")
"""Why an answer did not help: to choose from, so that nothing personal can be written there."""


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
        self._engine = engine_for(settings.database_url)
        self._ended = EndedSessions(self._engine)
        self._ended_private: TTLCache[str, bool] = TTLCache(_MOST_ENDED, life.total_seconds())
        self._sent = SentMessages()
        self._red_flags = RedFlagCounter(self._engine)

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
            process_metrics().refused(self.name(), error.code)
            return error.response()

        @blueprint.exception(StorageError)
        async def apologize(request: Request, error: StorageError) -> HTTPResponse:
            logger.error("A web chat request needs the database. %s", error)
            refusal = _without_storage()
            process_metrics().refused(self.name(), refusal.code)
            return refusal.response()

        @blueprint.exception(Exception)
        async def fail(request: Request, error: Exception) -> HTTPResponse:
            status = getattr(error, "status_code", 500)
            if isinstance(error, ServiceUnavailable):  # so Sanic says that the browser hung up
                logger.info("A browser did not wait for its answer.")
            elif status >= 500:
                logger.error("A web chat request failed.", exc_info=error)
            refusal = failure(status)
            process_metrics().refused(self.name(), refusal.code)
            return refusal.response()

        @blueprint.post("/session")
        async def open_session(request: Request) -> HTTPResponse:
            self._admit(request)
            agent = _ready_agent(request)
            token, session = self._signer.mint(private=_wants_private(request))
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
            session = await self._session(request)
            agent = _ready_agent(request)
            async with agent.lock_store.lock(session.conversation_id):
                await in_thread(contact_desk().erase, session.conversation_id)
                await agent.tracker_store.erase(session.conversation_id)
                # Last, so that whoever got an error can try again.
                await in_thread(self._end, session)
                await in_thread(empty_log, self._engine)
            return raw(b"", status=204)

        @blueprint.post("/messages")
        async def take_message(request: Request) -> HTTPResponse:
            self._admit(request)
            body = _body(request)
            advice = _advice(body)
            answer = self._answer(request, body, on_new_message)
            try:
                messages = await (asyncio.wait_for(answer, _ADVICE_SECONDS) if advice else answer)
            except Exception as error:
                # No model, no database, too long, too fast ...: the advice is given all the same.
                if not advice:
                    raise
                logger.warning("Advice is given in spite of %s.", type(error).__name__)
                messages = advice
                self._red_flags.count(_words_of(body), messages)
            return json_response({"messages": messages})

        @blueprint.get("/messages")
        async def show_messages(request: Request) -> HTTPResponse:
            self._admit(request)
            session = await self._session(request)
            agent = _ready_agent(request)
            history = await _history(agent, session.conversation_id)
            return json_response({"messages": [*await _opening(agent), *history]})

        @blueprint.post("/feedback")
        async def take_feedback(request: Request) -> HTTPResponse:
            self._admit(request)
            session = await self._session(request)
            await self._keep_feedback(session, _body(request), _ready_agent(request))
            return raw(b"", status=204)

        @blueprint.get("/")
        async def lead_to_page(request: Request) -> HTTPResponse:
            # Sanic takes /webchat for it; the page's own addresses need the slash at the end.
            return redirect(f"{self.url_prefix()}/")

        @blueprint.get("/<name:str>")
        async def show_file(request: Request, name: str) -> HTTPResponse:
            file = page_file(request, name or "index.html")
            if file is None:
                raise failure(404)
            return file

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
        if turns().are_full:
            raise _busy()
        signed = self._signed_session(request)
        if signed:
            _read_ahead(request, body)
        session = await self._open_session(signed)
        agent = _ready_agent(request)
        message_id = _message_id(body)

        async def make() -> list[Message]:
            text = await _text_of(body, session, agent)
            wait = self._per_session.wait(session.conversation_id)
            if wait:
                raise _too_fast(wait)
            try:
                async with turns().one():
                    messages = await converse(
                        on_new_message,
                        session.conversation_id,
                        text,
                        self._settings.answer_seconds,
                        message_id,
                    )
            except TooManyTurnsError:
                raise _busy() from None
            self._red_flags.count(_words_of(body), messages)
            return messages

        if message_id is None:
            return await make()
        return await self._sent.answer(session.conversation_id, message_id, make)

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
        # A red flag is looked for in all of a body, before anything else: long ones count for more.
        cost = 1.0 + len(request.body) // 1000
        wait = self._per_address.wait(network_of(behind_proxy or request.ip), cost)
        if wait:
            raise _too_fast(wait)

    def _is_allowed(self, origin: str, host: str) -> bool:
        if origin in self._settings.origins:
            return True
        try:
            site = urlsplit(origin).netloc
        except ValueError:  # such as http://[
            return False
        return bool(site) and site == host

    async def _session(self, request: Request) -> Session:
        """Return the session of a request.

        Raises:
            ChatError: 401.
        """
        return await self._open_session(self._signed_session(request))

    def _signed_session(self, request: Request) -> Session | None:
        """Return the session that a request's token names; None if it is not one of ours."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            return self._signer.verify(token.strip())
        except InvalidSession:
            return None

    async def _open_session(self, session: Session | None) -> Session:
        """Return a session that was not ended.

        Raises:
            ChatError: 401.
        """
        if session is None or await self._is_over(session):
            raise ChatError(
                401,
                "invalid_session",
                "The session is missing, unknown or over. Start a new one with POST /webchat/session.",
            )
        return session

    async def _is_over(self, session: Session) -> bool:
        if is_private(session.conversation_id):
            return session.conversation_id in self._ended_private
        return await in_thread(self._ended.__contains__, session.conversation_id)

    def _end(self, session: Session) -> None:
        """End a session and forget what is kept of it beside the conversation."""
        self._sent.forget(session.conversation_id)
        if is_private(session.conversation_id):
            self._ended_private[session.conversation_id] = True
        else:
            with transaction(self._engine) as connection:
                erase_feedback(connection, session.conversation_id)
            self._ended.add(session.conversation_id, session.expires_at.timestamp())

    async def _keep_feedback(self, session: Session, body: dict[str, Any], agent: Any) -> None:
        """Keep what a visitor thought of an answer.

        Raises:
            ChatError: 400, 404 or 409.
        """
        helpful, reason = body.get("helpful"), body.get("reason", "")
        if (
            body.keys() - {"id", "helpful", "reason"}
            or not isinstance(helpful, bool)
            or reason not in ("", *FEEDBACK_REASONS)
        ):
            raise ChatError(
                400,
                "malformed",
                'Send {"id": "...", "helpful": true or false} and, if you like, a "reason": '
                f"{', '.join(FEEDBACK_REASONS)}.",
            )
        if is_private(session.conversation_id):
            raise ChatError(
                409, "private_chat", "Nothing of a private chat is kept, not even this."
            )
        message_id = _message_id(body)
        tracker = await agent.tracker_store.retrieve_full_tracker(session.conversation_id)
        answer = answer_to(tracker, message_id)
        if not message_id or not answer:
            raise ChatError(404, "not_found", "There is no answer to a message of that id.")
        topic = str((answer[-1].metadata.get("metadata") or {}).get("topic", ""))

        def keep() -> None:
            with transaction(self._engine) as connection:
                keep_feedback(
                    connection, session.conversation_id, message_id, topic, helpful, reason
                )

        await in_thread(keep)


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
        ChatError: 503 while there is none, and while the server stops.
    """
    agent = getattr(request.app.ctx, "agent", None)
    if agent is None or not agent.is_ready() or turns().are_over:
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


def _read_ahead(request: Request, body: dict[str, Any]) -> None:
    """Begin to understand a text while its session and its conversation are looked up."""
    agent = getattr(request.app.ctx, "agent", None)
    text = body.get("text")
    # With `rasa run` the agent is Rasa's own, which begins nothing before its turn.
    if not isinstance(agent, ConversationAgent) or not isinstance(text, str) or turns().are_full:
        return
    with suppress(UnreadableTextError):
        words = clean(text)
        if 0 < len(words) <= LONGEST_MESSAGE:
            agent.read_ahead(words)


def _words_of(body: dict[str, Any]) -> str:
    """Return the text or postback of a body, whole and as it came; "" if it has none."""
    words = body.get("text") or body.get("postback")
    return words if isinstance(words, str) else ""


def _advice(body: dict[str, Any]) -> list[Message]:
    """Return the advice on a red flag in whatever text a body holds; empty if there is none."""
    return as_messages(advice_for(_words_of(body)) or {})


def _wants_private(request: Request) -> bool:
    """Whether a new session shall be private; the body may be left out.

    Raises:
        ChatError: 400 or 413.
    """
    body = _body(request) if request.body else {}
    private = body.get("private", False)
    if body.keys() - {"private"} or not isinstance(private, bool):
        raise ChatError(
            400, "malformed", 'Send no body, or {"private": true} or {"private": false}.'
        )
    return private


def _message_id(body: dict[str, Any]) -> str | None:
    """Return the id that the browser gave to a message; None if it gave none.

    Raises:
        ChatError: 400.
    """
    if "id" not in body:
        return None
    if not is_message_id(body["id"]):
        raise ChatError(
            400, "malformed", "'id' must be 8 to 64 letters, digits, hyphens or underscores."
        )
    return str(body["id"])


async def _text_of(body: dict[str, Any], session: Session, agent: Any) -> str:
    """Return the text that a message body stands for.

    Raises:
        ChatError: 400 or 413.
    """
    keys = [key for key in ("text", "postback") if key in body]
    unknown = body.keys() - {"text", "postback", "id"}
    if len(keys) != 1 or unknown:
        raise ChatError(
            400,
            "malformed",
            'Send either {"text": "..."} or {"postback": "..."}, with an "id" if you like.',
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
    if keys[0] == "postback" and not await _may_press(agent, session.conversation_id, body):
        raise ChatError(
            400,
            "postback_not_offered",
            "This button is not among those of the last answer. Send its words as text instead.",
        )
    return text


async def _may_press(agent: Any, conversation_id: str, body: dict[str, Any]) -> bool:
    """Whether a body's button is one of the last turn, or its message was answered before."""
    tracker = await agent.tracker_store.retrieve(conversation_id)
    if answer_to(tracker, body.get("id")) is not None:
        return True
    turn: list[Message] = []
    for message in _messages_of(tracker) or await _opening(agent):
        if message.get("from") == "visitor":
            turn = []
        else:
            turn.append(message)
    return body["postback"] in {
        button["payload"] for message in turn for button in message["buttons"]
    }


async def _history(agent: Any, conversation_id: str) -> list[Message]:
    """Return the stored conversation, the visitor's messages marked `"from": "visitor"`."""
    return _messages_of(await agent.tracker_store.retrieve_full_tracker(conversation_id))


def _messages_of(tracker: DialogueStateTracker | None) -> list[Message]:
    messages: list[Message] = []
    for event in tracker.events if tracker else []:
        if isinstance(event, UserUttered) and event.text:
            messages.append(
                {
                    "text": shown_text(event.text),
                    "buttons": [],
                    "metadata": {},
                    "from": "visitor",
                    "id": event.message_id,
                }
            )
        elif isinstance(event, BotUttered):
            messages.extend(as_messages(event.message()))
    return messages


async def _opening(agent: Any) -> list[Message]:
    """Return the greeting. It is not stored: nothing is, before the visitor writes."""
    tracker = DialogueStateTracker("opening", [])
    response = await agent.nlg.generate("utter_opening", tracker, WebChat.name())
    return as_messages(response or {})


def _busy() -> ChatError:
    return ChatError(
        503,
        "busy",
        "Very many visitors write just now. Please try again in a moment. In an emergency, call 911.",
        # Not all at the same moment: those who wait would keep each other out.
        retry_after=random.randint(4, 12),  # noqa: S311 - no secret
    )


def _without_storage() -> ChatError:
    return ChatError(
        503,
        "storage",
        "The assistant can't reach its storage right now. Please try again in a minute, or call "
        "the office. In an emergency, call 911.",
        retry_after=5,
    )


def _too_fast(wait: int) -> ChatError:
    return ChatError(
        429, "too_fast", f"Too many messages. Please wait {wait} seconds.", retry_after=wait
    )
