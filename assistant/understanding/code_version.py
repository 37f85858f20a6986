"""Which version of understanding a model was trained with."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return a digest of all that lies in this package: what is learned with it depends on it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class TrainedByThisCode:
    """A component that is trained anew after an update of this package.

    Rasa's training cache looks at a component's own source and settings only, and would give a model
    with what an older version of the other modules had learned.
    """

    @classmethod
    def fingerprint_addon(cls, config: dict[str, Any]) -> str:
        """Return what Rasa's cache compares, beside its own."""
        return code_version()
