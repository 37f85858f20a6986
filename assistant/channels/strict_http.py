"""The server's HTTP, stricter than Sanic 21.12 about how a request begins and how long it is.

Sanic takes `Content-Length: -5` and then reads nothing for ever without letting anybody else work: one
such request would stop the whole server. Other heads that are no HTTP end in a 500, a closed connection
or a traceback in the log, or are read differently by a proxy in front. Here all of them are refused with
a 400.
"""

from __future__ import annotations

import re

from sanic.exceptions import InvalidUsage, SanicException
from sanic.http import Http, Stage
from sanic.server.protocols.http_protocol import HttpProtocol

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL = re.compile(rb"[\x00-\x08\n-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,15}")


class StrictHttp(Http):
    """Reads requests; refuses what is no HTTP/1.1 as RFC 9112 has it."""

    async def http1_request_header(self) -> None:
        """Read the head of a request.

        Raises:
            InvalidUsage: it cannot be read, or does not say how long the body is.
            SanicException: whatever else Sanic finds.
        """
        try:
            await super().http1_request_header()
        except SanicException:
            self.url = None  # Sanic would parse it again to make its answer
            raise
        except Exception as error:
            self.url = None
            raise InvalidUsage("The head of the request cannot be read.") from error
        # No route is a web socket, and Sanic takes its time limits off whoever says it is one.
        self.upgrade_websocket = False
        reason = self._fault()
        if reason:
            self.request_body = None  # there is no telling where it ends
            raise InvalidUsage(reason)

    def _fault(self) -> str:
        """Return what is wrong with the head; "" if nothing is."""
        headers = self.request.headers
        lengths = headers.getall("content-length", [])
        encodings = headers.getall("transfer-encoding", [])
        if not str(self.url).startswith(("/", "http://", "https://")):
            return "The target is no path."  # Rasa would greet whoever asks for *
        # A proxy may take a lone line feed for the end of a header that Sanic sees as one.
        if _CONTROL.search(self.request.head.replace(b"\r\n", b"")):
            return "The head holds control characters."
        if not all(_FIELD_NAME.fullmatch(name) for name in headers):
            return "A header's name is none."
        if len(headers.getall("host", [])) > 1:
            return "There are several hosts."
        if len(lengths) + len(encodings) > 1:
            return "There are several lengths, or a length and an encoding."
        if any(_LENGTH.fullmatch(length.strip()) is None for length in lengths):
            return "The length is no number."
        if any(encoding.strip() != "chunked" for encoding in encodings):
            return "The transfer encoding is unknown."
        return ""

    async def read(self) -> bytes | None:
        """Return the next part of the body; None at its end.

        Raises:
            SanicException: the body cannot be read, or is too large.
        """
        try:
            data: bytes | None = await super().read()
        except InvalidUsage:
            self.request_body = None  # else Sanic reads on after its answer, and fails once more
            self.keep_alive = False
            if (
                self.stage is not Stage.HANDLER
            ):  # it is answered already; what is left is thrown away
                return None
            raise
        return data


class StrictHttpProtocol(HttpProtocol):
    """A connection whose requests `StrictHttp` reads."""

    def _setup_connection(self) -> None:
        super()._setup_connection()
        self._http = StrictHttp(self)
