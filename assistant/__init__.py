"""The assistant: what the Rasa server loads besides Rasa itself.

Data flows one way: channels -> understanding -> (rules) -> answers -> storage. The package is also
a spaCy pipeline package, so that Rasa loads it by name (`model: assistant`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacy.language import Language

# Rasa reports every error to its vendor unless this is set before Rasa is imported.
os.environ["RASA_TELEMETRY_ENABLED"] = "false"
# Notices of Rasa's pinned dependencies, which nobody here can act on.
os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# NumPy's threads look for work for a while after each product: a second core is busy for nothing
# (docs/performance.md). Training takes as long with one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"


def load(**overrides: Any) -> Language:
    """Build our spaCy pipeline; `spacy.load("assistant")` calls this.

    Args:
        overrides: what `spacy.load` hands on (`disable`, `exclude`, ...).
    """
    from assistant.understanding.language import build

    return build(**overrides)
