"""Keeps the sentence vectors of the training examples, so that a training computes only new ones."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from assistant.understanding.code_version import code_version
from assistant.understanding.sentence_encoder import Vectors

logger = logging.getLogger(__name__)


class VectorCache:
    """Sentence vectors in a file, by text. The texts are examples of the training data, no visitor's.

    Args:
        path: the file; may be missing. What cannot be read is computed anew.
        encoder_sha256: of the encoder that the vectors come from; those of another do not count.
    """

    def __init__(self, path: Path, encoder_sha256: str) -> None:
        self._path = path
        self._made_by = f"{encoder_sha256.lower()} {code_version()}"

    def encode(self, texts: list[str], encode: Callable[[list[str]], Vectors]) -> Vectors:
        """Return the texts' vectors, and keep just these for the next time.

        Args:
            texts: any number.
            encode: computes the vectors of texts that are not known, shape (texts, dimensions).
        """
        known = self._read()
        unknown = [text for text in dict.fromkeys(texts) if text not in known]
        if unknown:
            known.update(zip(unknown, encode(unknown), strict=True))
        kept = list(dict.fromkeys(texts))
        if unknown or len(kept) < len(known):
            self._write(kept, np.stack([known[text] for text in kept]))
        return np.stack([known[text] for text in texts])

    def _read(self) -> dict[str, Vectors]:
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                if str(stored["made_by"]) != self._made_by:
                    return {}
                texts = [str(text) for text in stored["texts"]]
                return dict(zip(texts, stored["vectors"], strict=True))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            logger.warning("%s cannot be read and is made anew: %s", self._path, error)
            return {}

    def _write(self, texts: list[str], vectors: Vectors) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._path.parent, delete=False) as file:
                np.savez(
                    file,
                    made_by=np.array(self._made_by),
                    texts=np.array(texts),
                    vectors=vectors,
                )
            os.replace(file.name, self._path)
        except OSError as error:  # the training goes on; the next one takes longer
            logger.warning("%s cannot be written: %s", self._path, error)
