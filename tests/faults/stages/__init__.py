"""The faults, in the order in which they are staged."""

from tests.faults.stages import (
    actions,
    broker,
    clients,
    clock,
    database,
    delivery,
    files,
    processes,
    redis,
    sqlite,
    start,
)
from tests.faults.trial import FAULTS as _ADDED

_MODULES = (
    actions,
    files,
    clients,
    sqlite,
    database,
    redis,
    broker,
    delivery,
    clock,
    start,
    processes,
)
_NAMES = [module.__name__ for module in _MODULES]
_PLACES = ("small", "large", "")

# Those that share an installation come together: it takes some 15 seconds to start.
FAULTS = sorted(_ADDED, key=lambda f: (_PLACES.index(f.place), _NAMES.index(f.stage.__module__)))
"""All faults, in the order in which they are staged."""

__all__ = ["FAULTS"]
