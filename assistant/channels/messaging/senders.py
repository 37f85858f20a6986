"""The names under which senders are known here."""

from __future__ import annotations

import hashlib
import hmac


def conversation_id(secret: str, channel: str, sender: str) -> str:
    """Return the name of a sender's conversation.

    It is a keyed digest: the database does not tell who wrote, nor can numbers be tried out without
    the secret.

    Args:
        secret: the server's.
        channel: "sms", "telegram" ...
        sender: as the platform names them.
    """
    digest = hmac.new(secret.encode(), f"sender\0{channel}\0{sender}".encode(), hashlib.sha256)
    return f"{channel}-{digest.hexdigest()[:32]}"


def conversations_of_phone(secret: str, phone: str) -> tuple[str, ...]:
    """Return the names of the conversations that a phone number can have.

    Args:
        secret: the server's.
        phone: in E.164.
    """
    return (
        conversation_id(secret, "sms", phone),
        conversation_id(secret, "whatsapp", f"whatsapp:{phone}"),
    )
