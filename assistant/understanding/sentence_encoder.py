"""Sentence vectors from a small transformer in ONNX form, on the processor, without downloads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import BertWordPieceTokenizer

from assistant.understanding.encoder_file import encoder_content
from assistant.understanding.small_weights import with_small_weights
from assistant.understanding.vocabulary import VOCABULARY_FILE

Vectors = npt.NDArray[np.float32]

_LONGEST = 128  # tokens; a visitor's message has at most some 250, and the question comes early
_BATCH = 32  # sentences
_MANY_BATCHES = 30  # more than a message has parts: that is training, which may use all cores
_MOST_CORES = 4


class SentenceEncoder:
    """Turns texts into vectors of length 1, so that a dot product is their likeness.

    Args:
        model: an ONNX file, or `package:file` for a file inside an installed package.
        sha256: what the file must hash to; the model is code, so another file is refused.
        threads: processor threads for one call; 1 leaves the other cores to other workers.

    Raises:
        EncoderFileError: the file is missing or has another hash.
    """

    def __init__(self, model: str, sha256: str, threads: int = 1) -> None:
        content = with_small_weights(encoder_content(model, sha256))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Memory for the largest batch ever seen would be kept for good; a message is small.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY_FILE), lowercase=True)
        self._tokenizer.enable_truncation(_LONGEST)
        self.dimensions = int(self._session.get_outputs()[0].shape[-1])

    def encode(self, texts: list[str]) -> Vectors:
        """Return one vector per text: an array of shape (len(texts), dimensions).

        A vector is the mean over the text's word pieces, leaving out those of a single character:
        punctuation, "i" and "a" say nothing of the topic (measured, see docs/understanding.md).

        Only texts of one length go through the model together. That is twice as fast as one by
        one, and a text has the same vector at training and when a visitor writes.
        """
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        encodings = self._tokenizer.encode_batch(texts)
        batches = _of_one_length([len(encoding.ids) for encoding in encodings])

        def encoded(batch: list[int]) -> list[Vectors]:
            tokens = self._tokens([encodings[index].ids for index in batch])
            return [
                _pooled(encodings[i].tokens, found) for i, found in zip(batch, tokens, strict=True)
            ]

        if len(batches) < _MANY_BATCHES:
            found = list(map(encoded, batches))
        else:
            with ThreadPoolExecutor(min(_MOST_CORES, os.cpu_count() or 1)) as cores:
                found = list(cores.map(encoded, batches))
        for batch, of_batch in zip(batches, found, strict=True):
            vectors[batch] = of_batch
        return vectors

    def _tokens(self, ids: list[list[int]]) -> Vectors:
        """Return the vector of each word piece, shape (texts, pieces, dimensions)."""
        pieces = np.asarray(ids, dtype=np.int64)
        inputs = {
            "input_ids": pieces,
            "attention_mask": np.ones_like(pieces),
            "token_type_ids": np.zeros_like(pieces),
        }
        return np.asarray(self._session.run(None, inputs)[0])


def _of_one_length(lengths: list[int]) -> list[list[int]]:
    """Return the places of texts in batches; those of a batch have the same length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = []
    for _, same in groupby(order, key=lengths.__getitem__):
        places = list(same)
        batches += [places[start : start + _BATCH] for start in range(0, len(places), _BATCH)]
    return batches


def _pooled(pieces: list[str], tokens: Vectors) -> Vectors:
    telling = [
        place
        for place, piece in enumerate(pieces)
        if len(piece) > 1 and piece not in ("[CLS]", "[SEP]")
    ]
    mean = tokens[telling or slice(None)].mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)


@lru_cache(maxsize=2)
def shared_encoder(model: str, sha256: str, threads: int = 1) -> SentenceEncoder:
    """Return the one encoder of this process; loading it twice would cost its memory twice."""
    return SentenceEncoder(model, sha256, threads)
