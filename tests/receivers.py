"""What an office has: a real mail server and a real receiver of webhooks, which can go down."""

from __future__ import annotations

import email
import email.policy
import secrets
import socket
import threading
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


def lasting_port() -> int:
    """Return a free port that no outgoing connection takes while its server is down."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)  # `random` may be seeded alike in two processes
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@dataclass
class MailServer:
    """Takes mail while it is up; `answer` replaces its "250 OK"."""

    options: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=lasting_port)
    answer: str = "250 OK"
    mails: list[EmailMessage] = field(default_factory=list)
    _controller: Controller | None = None

    def start(self) -> None:
        if self._controller is None:
            self._controller = Controller(self, "127.0.0.1", self.port, **self.options)
            self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        if self.answer.startswith("2"):
            self.mails.append(mail)  # type: ignore[arg-type]
        return self.answer


@dataclass(frozen=True)
class Call:
    """One call of the webhook."""

    headers: dict[str, str]
    body: bytes


@dataclass
class WebhookReceiver:
    """Takes calls while it is up; `status` is what it answers."""

    port: int = field(default_factory=lasting_port)
    status: int = 200
    calls: list[Call] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/secret-path"

    def start(self) -> None:
        if self._server is not None:
            return
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status < 300:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    receiver.calls.append(Call(headers, body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
