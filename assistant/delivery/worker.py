"""The worker: delivers what is in the outbox, for as long as the server runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from assistant.contact.inbox import Inbox
from assistant.contact.records import moment
from assistant.delivery.mail import MailSender
from assistant.delivery.message import DeliveryError, OfficeMessage
from assistant.delivery.outbox import Delivery, Outbox
from assistant.delivery.webhook import WebhookSender
from assistant.settings import Settings
from assistant.storage.database import StorageError

logger = logging.getLogger(__name__)

_SEND_SECONDS = 20.0
_REST_SECONDS = 2.0


class Sender(Protocol):
    """Takes a message to one target."""

    async def send(self, message: OfficeMessage, seconds: float) -> None:
        """Send a message, or raise `DeliveryError`."""


class OutboxWorker:
    """Delivers to all targets, each in its own time, so that a slow one delays no other.

    Args:
        outbox: what is to be delivered.
        inbox: where to read the requests.
        senders: by name of the target.
        details: whether messages hold what the visitor wrote.
        rest_seconds: how long to wait when nothing is due.
    """

    def __init__(
        self,
        outbox: Outbox,
        inbox: Inbox,
        senders: Mapping[str, Sender],
        details: bool = False,
        rest_seconds: float = _REST_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._inbox = inbox
        self._senders = senders
        self._details = details
        self._rest_seconds = rest_seconds

    async def run(self) -> None:
        """Deliver until cancelled."""
        await asyncio.gather(*(self._serve(target) for target in self._senders))

    async def _serve(self, target: str) -> None:
        while True:
            try:
                busy = await self.deliver_next(target)
            except StorageError as error:
                logger.error("The outbox cannot be read; trying again. %s", error)
                busy = False
            if not busy:
                await asyncio.sleep(self._rest_seconds)

    async def deliver_next(self, target: str) -> bool:
        """Deliver what is due for longest.

        Args:
            target: to whom.

        Returns:
            Whether anything was due.
        """
        delivery = await asyncio.to_thread(self._outbox.take, target)
        if delivery is None:
            return False
        message = await asyncio.to_thread(self._message, delivery)
        if message is None:
            return True
        error = None
        try:
            await self._senders[target].send(message, _SEND_SECONDS)
        except DeliveryError as failure:
            error = str(failure)
        except Exception as failure:  # ours to mend; the message is tried again like any other
            logger.exception("Sending to %s failed in a way that nobody foresaw.", target)
            error = type(failure).__name__
        state = await asyncio.to_thread(self._outbox.settle, delivery, error)
        _report(delivery, state, error)
        return True

    def _message(self, delivery: Delivery) -> OfficeMessage | None:
        """Return the message; None if the request was withdrawn since the delivery was taken."""
        request = self._inbox.request(delivery.number)
        if request is None or (request.receipt.status == "withdrawn" and delivery.event == "new"):
            return None
        return OfficeMessage(
            delivery.message_id,
            delivery.event,
            delivery.number,
            moment(delivery.created_at),
            request.wishes if self._details and delivery.event == "new" else None,
        )


def senders_for(settings: Settings) -> dict[str, Sender]:
    """Return who takes a message to each target of the settings."""
    senders: dict[str, Sender] = {}
    for target in settings.targets:
        if settings.mail_server and target.name.startswith("email:"):
            senders[target.name] = MailSender(settings.mail_server, target.address)
        else:
            senders[target.name] = WebhookSender(target.address, settings.webhook_secret)
    return senders


def _report(delivery: Delivery, state: str, error: str | None) -> None:
    about = (delivery.number, delivery.target)
    if error is None:
        logger.info("Request %s was told to %s.", *about)
    elif state == "dead":
        logger.error(
            "Request %s could not be told to %s in %d attempts: %s. It is in the database; see it "
            "with `assistant outbox` and try again with `assistant outbox retry`.",
            *about,
            delivery.attempts,
            error,
        )
    else:
        logger.warning(
            "Request %s was not told to %s (attempt %d): %s. It is tried again.",
            *about,
            delivery.attempts,
            error,
        )
