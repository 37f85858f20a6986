"""What every messaging platform is to the rest: messages in, messages out, and its limits.

A module for each platform subclasses `Platform`. It knows the platform's wire format and nothing
of conversations, the database or Rasa.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sanic.request import Request
from sanic.response import HTTPResponse, raw

from assistant.settings import Settings


@dataclass(frozen=True)
class Incoming:
    """A message from a patient.

    Attributes:
        message_id: the platform's own id, unique within the platform.
        sender: whom to answer, as `Platform.send` takes it: phone number, chat, ...
        text: what they wrote; "" for media only.
        choice: the id of the `Choice` that was pressed; "" for none.
        phone: the patient's number as E.164 where the platform gives it; "" elsewhere.
        unreadable: "media" for photos, voice, stickers and the like without words, else "". It is
            answered with a sentence that only text is read.
        order: the platform's own time or sequence number; sorts the messages of one sender.
        press: what `Platform.acknowledge_press` needs, where a platform demands it.
    """

    message_id: str
    sender: str
    text: str
    choice: str = ""
    phone: str = ""
    unreadable: str = ""
    order: float = 0.0
    press: str = ""


@dataclass(frozen=True)
class Choice:
    """A button: an opaque id of ASCII letters and digits, and what it shows."""

    id: str
    title: str


@dataclass(frozen=True)
class Outgoing:
    """One message to a patient, within the platform's limits.

    Attributes:
        text: plain text; "" if there is an image alone.
        choices: buttons; the text is never empty then.
        image: https address of a picture; "" for none.
        image_text: what the picture shows, for those who don't see it.
    """

    text: str
    choices: tuple[Choice, ...] = ()
    image: str = ""
    image_text: str = ""


@dataclass(frozen=True)
class Limits:
    """What fits into one message. Each platform names the public source of its numbers.

    Attributes:
        text: characters of a message.
        choices: buttons of a message; 0 if there are none, so that a numbered list stands in.
        choice_title: characters of a button.
        choice_id: bytes of a button's id.
        text_with_choices: characters of the text above buttons.
        images: whether the platform shows images; else their description and address are written.
    """

    text: int
    choices: int = 0
    choice_title: int = 0
    choice_id: int = 0
    text_with_choices: int = 0
    images: bool = True


class ForgedRequestError(Exception):
    """A request that the platform did not sign, or signed too long ago.

    Attributes:
        status: 401 if it brings no proof, 403 if its proof is wrong or stale.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class UnreadableRequestError(Exception):
    """A request that is signed but does not have the platform's documented shape: 400."""


class PlatformError(Exception):
    """The platform did not take a message. The text holds no secret and nothing of the message.

    Attributes:
        retry_after: seconds that the platform asks to wait; None if it says nothing.
        permanent: whether trying again is useless: blocked, unknown number, refused content ...
    """

    def __init__(
        self, message: str, retry_after: float | None = None, permanent: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.permanent = permanent


class Platform(ABC):
    """One platform. Made once in a process; making it does no network call."""

    name: ClassVar[str]
    """Names the address `/webhooks/<name>`, and the platform in the database."""

    title: ClassVar[str]
    """What people call it."""

    limits: ClassVar[Limits]
    """What fits into a message."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Settings) -> Platform | None:
        """Return the platform; None if its secrets are not set, so that it is off."""

    @abstractmethod
    def verify(self, request: Request) -> None:
        """Make sure that the platform sent a POST: on its raw body, in constant time, before parsing.

        Raises:
            ForgedRequestError: it did not, or too long ago.
        """

    @abstractmethod
    def read(self, request: Request) -> list[Incoming]:
        """Return the messages of a verified POST in their order.

        What is no message of a patient (echoes, receipts, edits, ...) is left out.

        Raises:
            UnreadableRequestError: the body does not have the documented shape.
        """

    def acknowledge(self, request: Request) -> HTTPResponse:
        """Return what the platform wants to hear at once; the answers are sent later."""
        return raw(b"", status=200)

    def answer_get(self, request: Request) -> HTTPResponse | None:
        """Return the answer to a GET of the webhook's address; None if the platform sends none.

        Raises:
            ForgedRequestError: the GET brings the wrong proof.
        """
        return None

    def channel_of(self, sender: str) -> str:
        """Return the channel, one of `assistant.metrics.CHANNELS`; a platform may serve several."""
        return self.name

    @abstractmethod
    async def send(self, recipient: str, outgoing: Outgoing) -> None:
        """Send one message, with one call of the platform where it allows that.

        Raises:
            PlatformError: it is not sent, or nobody knows.
        """

    async def acknowledge_press(self, press: str) -> None:  # noqa: B027 - most demand nothing
        """Tell the platform that a button's press has arrived, where it demands that.

        Raises:
            PlatformError: it did not take it; the press is answered all the same.
        """

    @abstractmethod
    async def check(self) -> list[str]:
        """Look whether the platform knows us: tokens, numbers, the webhook's address.

        Returns:
            Each problem as a sentence that says what to do; empty if all is well.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""
