"""Delivery by webhook, signed as https://www.standardwebhooks.com says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time

import aiohttp

from assistant.delivery.message import DeliveryError, OfficeMessage, labelled


class WebhookSender:
    """Posts to one address.

    Args:
        url: the address.
        secret: `whsec_` and the signing key in base64.
    """

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._key = base64.b64decode(secret.removeprefix("whsec_"))

    async def send(self, message: OfficeMessage, seconds: float) -> None:
        """Post a message.

        Raises:
            DeliveryError: the receiver did not answer with a status from 200 to 299.
        """
        body = _as_json(message)
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
                session.post(
                    self._url,
                    data=body,
                    headers=self._headers(message.message_id, body),
                    allow_redirects=False,
                ) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            # The words of these errors may hold the address, which may be a secret.
            raise DeliveryError(f"the receiver failed: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise DeliveryError(f"the receiver answered {status}")

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signed = f"{message_id}.{now}.".encode() + body
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return {
            "Content-Type": "application/json",
            "Idempotency-Key": message_id,
            "webhook-id": message_id,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{signature}",
        }


def _as_json(message: OfficeMessage) -> bytes:
    body = {
        "type": f"request.{message.event}",
        "timestamp": message.created_at.isoformat(timespec="seconds"),
        "text": f"{message.subject}\n{message.text}",  # what chat rooms show
        "data": {"number": message.number},
    }
    if message.details is not None:
        body["data"] = {"number": message.number, "details": labelled(message.details)}
    return json.dumps(body, ensure_ascii=False).encode("utf-8")
