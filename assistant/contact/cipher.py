"""Personal fields, encrypted: what the database holds cannot be read without the keys."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class UnreadableError(Exception):
    """A stored request was encrypted with a key that is not among CONTACT_KEYS."""


class Cipher:
    """Encrypts with the newest key and reads with any.

    Args:
        keys: Fernet keys (AES-128-CBC with HMAC-SHA256), the newest first.

    Raises:
        ValueError: a key is not a Fernet key, or there is none.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, fields: dict[str, str]) -> str:
        """Return the fields as one encrypted text."""
        return self._fernet.encrypt(json.dumps(fields).encode()).decode("ascii")

    def open(self, sealed: str) -> dict[str, str]:
        """Return the fields of an encrypted text.

        Raises:
            UnreadableError: none of the keys fits.
        """
        try:
            fields: dict[str, str] = json.loads(self._fernet.decrypt(sealed.encode("ascii")))
        except InvalidToken:
            raise UnreadableError(
                "A request cannot be read: the key it was encrypted with is not in CONTACT_KEYS."
            ) from None
        return fields

    def renew(self, sealed: str) -> str:
        """Return the same fields encrypted with the newest key.

        Raises:
            UnreadableError: none of the keys fits.
        """
        return self.seal(self.open(sealed))
