"""Whether a model file is the one that was trained here: a model is code, and a copy can be damaged."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path


class SealError(RuntimeError):
    """The model is missing, damaged or not ours; the message says what to do."""


def seal(model: Path) -> None:
    """Note the digest of a model that was just trained, in a file beside it."""
    _seal_file(model).write_text(f"{_digest(model)}  {model.name}\n", encoding="ascii")


def forget_seal(model: Path) -> None:
    """Delete the note of a model that was deleted."""
    _seal_file(model).unlink(missing_ok=True)


def is_sealed(model: Path) -> bool:
    """Whether there is a model and the note of its digest."""
    return model.exists() and _seal_file(model).exists()


def check_seal(model: Path, pinned: str = "") -> None:
    """Make sure that a model may be loaded.

    Args:
        model: the file.
        pinned: the SHA-256 that it must have, in hexadecimal; "" for the one noted beside it.

    Raises:
        SealError: it may not.
    """
    if not model.exists():
        raise SealError(f"There is no model {model.name}. Train it with: assistant train")
    if not pinned and not _seal_file(model).exists():
        raise SealError(
            f"Nothing says that the model {model.name} was trained here: {_seal_file(model).name} is "
            f"missing. Copy it along, or train anew with: assistant train --force"
        )
    expected = pinned or _seal_file(model).read_text(encoding="ascii").partition(" ")[0].strip()
    if not hmac.compare_digest(_digest(model), expected):
        source = "MODEL_SHA256 names" if pinned else "training noted"
        raise SealError(
            f"The model {model.name} is not the one that {source}: it is damaged, or somebody else's. "
            f"Copy it again, or train anew with: assistant train --force"
        )


def _seal_file(model: Path) -> Path:
    return model.with_name(f"{model.name}.sha256")


def _digest(model: Path) -> str:
    digest = hashlib.sha256()
    with model.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
