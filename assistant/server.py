"""The server: one process with the channels, Rasa, the actions and the health pages."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rasa.core.run import configure_app, create_http_input_channels
from sanic import Sanic
from sanic.exceptions import SanicException
from sanic.request import Request
from sanic.response import HTTPResponse, redirect

from assistant.agent import ModelError, load_agent, read_endpoints
from assistant.channels.messaging.channel import MessagingChannels
from assistant.channels.strict_http import StrictHttpProtocol
from assistant.channels.turns import turns
from assistant.channels.webchat import failure
from assistant.contact.cipher import Cipher
from assistant.contact.inbox import Inbox
from assistant.delivery.event_stream import EventStream
from assistant.delivery.outbox import Outbox
from assistant.delivery.worker import OutboxWorker, senders_for
from assistant.health import health_blueprint, read_gauges
from assistant.logs import gather_loggers, log_requests
from assistant.memory import settle
from assistant.metrics import metrics_blueprint, process_metrics
from assistant.model_seal import check_seal
from assistant.privacy import PersonalData, Retention, purge_regularly
from assistant.self_test import SelfTestError, golden_questions, self_test
from assistant.settings import SettingError, Settings
from assistant.staff.routes import staff_blueprint
from assistant.start import wait_for_database
from assistant.storage.daily_counts import process_counter, write_regularly
from assistant.storage.database import engine_for
from assistant.storage.sole_process import claim

logger = logging.getLogger(__name__)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# How long a thread keeps Python's lock while another waits for it: understanding (a thread of its own)
# gives it up for each product of numbers and would wait for it 5 ms each time, Python's default.
_SWITCH_SECONDS = 0.001
_LAST_WORDS = 1.0  # seconds
_LARGEST_REQUEST = 262_144  # bytes, for any channel; the web chat itself takes far less


def serve(settings: Settings, model: Path, announce: Callable[[str], None]) -> None:
    """Serve until stopped. A stop waits for the answers under way.

    Args:
        settings: host, port, database, ...
        model: the model file.
        announce: takes the line that says where the assistant can be reached.

    Raises:
        SettingError: the port or the database cannot be used, or another process serves from it.
        SealError, ModelError, SelfTestError: the model may not be loaded, cannot be, or answers wrong.
    """
    check_port(settings.host, settings.port)
    check_seal(model, settings.model_sha256)
    engine = wait_for_database(settings.database_url, settings.database_wait_seconds, announce)
    claimed = claim(engine, shared=bool(settings.redis_url))
    app = build_app(settings, model)
    app.ctx.claimed = claimed  # held until the process ends

    async def say_where(app: Sanic, loop: AbstractEventLoop) -> None:
        shown = "localhost" if settings.host in ("0.0.0.0", "127.0.0.1", "::") else settings.host  # noqa: S104
        announce(f"Ready. Chat at http://{shown}:{settings.port}/webchat/  (stop with Ctrl-C)")

    app.register_listener(say_where, "after_server_start")
    # Sanic would print all its own calls under a sentence that says everything.
    logging.getLogger("sanic.error").addFilter(_is_unknown)
    gather_loggers()  # those of what was imported since
    app.run(
        host=settings.host,
        port=settings.port,
        protocol=StrictHttpProtocol,
        workers=1,
        access_log=False,
        motd=False,
    )


def _is_unknown(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ModelError | SelfTestError | SettingError)


def build_app(settings: Settings, model: Path) -> Sanic:
    """Put the application together; the model is loaded when it starts."""
    endpoints = read_endpoints(settings.folder, settings.action_endpoint, settings.action_secret)
    channels = create_http_input_channels(None, str(settings.folder / "credentials.yml"))
    app = configure_app(
        channels,
        # Rasa's CORS layer answers preflights before any channel; without a list it allows nobody.
        cors=list(settings.origins) or None,
        enable_api=False,
        endpoints=endpoints,
        port=settings.port,
    )
    app.config.REQUEST_MAX_SIZE = _LARGEST_REQUEST
    app.config.REQUEST_TIMEOUT = 20
    app.config.RESPONSE_TIMEOUT = settings.answer_seconds + 15
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 2.0  # for connections; turns are waited for before
    app.config.PROXIES_COUNT = settings.proxies
    log_requests(app)
    engine = engine_for(settings.database_url)
    app.blueprint(staff_blueprint(engine, settings))
    app.blueprint(health_blueprint(engine))
    app.blueprint(
        metrics_blueprint(
            settings.metrics_token, settings.production, partial(read_gauges, app, engine)
        )
    )

    @app.exception(SanicException)
    async def refuse(request: Request, error: SanicException) -> HTTPResponse:
        refusal = failure(error.status_code)
        process_metrics().refused("other", refusal.code)
        response = refusal.response()
        if "Allow" in (headers := getattr(error, "headers", {})):
            response.headers["Allow"] = headers["Allow"]
        return response

    @app.on_request
    async def welcome(request: Request) -> HTTPResponse | None:
        # Rasa's own greeting stands at /; people are better off at the chat.
        greets = request.method in ("GET", "HEAD") and not request.path.strip("/")
        return redirect("/webchat/") if greets else None

    @app.on_response
    async def keep_preflight(request: Request, response: HTTPResponse) -> None:
        # Rasa's CORS layer answers OPTIONS alone; without this a browser asks before every message.
        if request.method == "OPTIONS" and "access-control-allow-origin" in response.headers:
            response.headers["Access-Control-Max-Age"] = "7200"

    @app.on_response
    async def keep_safe(request: Request, response: HTTPResponse) -> None:
        # Whatever a route says of itself stands; these are for the rest: errors, redirects, health.
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)

    @app.on_response
    async def close_when_stopping(request: Request, response: HTTPResponse) -> None:
        if turns().are_over and request.stream is not None:
            request.stream.keep_alive = False

    @app.before_server_start
    async def load(app: Sanic, loop: AbstractEventLoop) -> None:
        process_metrics()  # made now, not during the first message
        sys.setswitchinterval(_SWITCH_SECONDS)
        agent = load_agent(model, endpoints)
        await self_test(agent, golden_questions(settings.folder))
        app.ctx.agent = agent
        settle()

    url = settings.event_stream_url
    stream = EventStream(engine, url) if url else None
    messaging = [channel for channel in channels if isinstance(channel, MessagingChannels)]
    app.register_listener(
        partial(_start_background, settings, stream, messaging), "after_server_start"
    )
    # Sanic calls these in reverse: first the turns end, then what runs beside them.
    app.register_listener(_stop_background, "before_server_stop")
    app.register_listener(
        partial(_finish_turns, settings.drain_seconds, messaging), "before_server_stop"
    )
    return app


async def _start_background(
    settings: Settings,
    stream: EventStream | None,
    messaging: list[MessagingChannels],
    app: Sanic,
    loop: AbstractEventLoop,
) -> None:
    """Start what runs beside the web chat: messaging, delivery to the office, and the purge."""
    engine = engine_for(settings.database_url)
    cipher = Cipher(settings.contact_keys)
    inbox = Inbox(engine, cipher)
    outbox = Outbox(engine)
    if not settings.targets:
        logger.warning(
            "Requests are only in the database, nobody is told: set OFFICE_EMAILS or WEBHOOK_URLS. "
            "`assistant requests` shows them."
        )
    await asyncio.to_thread(_report_state, settings, inbox, outbox)
    worker = OutboxWorker(outbox, inbox, senders_for(settings), settings.delivery_details)
    work = [
        worker.run(),
        purge_regularly(PersonalData(engine, cipher), Retention.of(settings)),
        *(channel.run(app.ctx.agent) for channel in messaging),
        write_regularly(process_counter(), engine),
    ]
    if stream is not None:
        work.append(stream.run())
    app.ctx.background = [asyncio.create_task(task) for task in work]


def _report_state(settings: Settings, inbox: Inbox, outbox: Outbox) -> None:
    unreadable = sum(request.wishes is None for request in inbox.requests())
    if unreadable:
        logger.error(
            "%d requests cannot be read: put the key they were encrypted with back into "
            "CONTACT_KEYS, after the newest.",
            unreadable,
        )
    outbox.bury_strangers([target.name for target in settings.targets])
    dead = outbox.counts()["dead"]
    if dead:
        logger.error("%d messages to the office are dead; `assistant outbox` shows them.", dead)


async def _finish_turns(
    seconds: float, messaging: list[MessagingChannels], app: Sanic, loop: AbstractEventLoop
) -> None:
    left, *_ = await asyncio.gather(
        turns().end(seconds), *(channel.end(seconds) for channel in messaging)
    )
    if left:
        logger.error("Stopping although %d messages are not answered after %g s.", left, seconds)
    # Whoever keeps a connection open hears once more that it ends, rather than finding it cut.
    await asyncio.sleep(_LAST_WORDS)


async def _stop_background(app: Sanic, loop: AbstractEventLoop) -> None:
    await app.ctx.agent.lock_store.close()
    for task in app.ctx.background:
        task.cancel()
    await asyncio.gather(*app.ctx.background, return_exceptions=True)


def check_port(host: str, port: int) -> None:
    """Make sure that the server can listen.

    Raises:
        SettingError: it cannot; says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingError(
                    f"Port {port} is in use. Stop what runs there, or choose another: PORT={port + 1} make run"
                ) from None
            raise SettingError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Set HOST and PORT."
            ) from None
