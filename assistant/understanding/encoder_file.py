"""The file of the sentence encoder: found and checked."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path


class EncoderFileError(ValueError):
    """The encoder's file is missing or is not the one that the configuration names."""


def encoder_content(model: str, sha256: str) -> bytes:
    """Return what is in the encoder's file.

    Args:
        model: an ONNX file, or `package:file` for a file inside an installed package.
        sha256: what the file must hash to; the model is code, so another file is refused.

    Raises:
        EncoderFileError: the file is missing or has another hash.
    """
    path = _located(model)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EncoderFileError(
            f"The sentence encoder {path} cannot be read ({error.strerror}). Name an ONNX file "
            f"under SentenceVectors in config.yml, or install the locked dependencies again."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256.lower():
        raise EncoderFileError(
            f"The sentence encoder {path} has the SHA-256 {digest}, but config.yml expects "
            f"{sha256}. If you changed the file on purpose, write the new value there."
        )
    return content


def _located(model: str) -> Path:
    package, colon, name = model.partition(":")
    if not colon:
        return Path(model)
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EncoderFileError(
            f"The package {package}, which config.yml names as the home of the sentence encoder, "
            f"is not installed. Install the locked dependencies again (make run does it)."
        )
    return Path(spec.origin).parent / name
