"""The faults, in the order in which they are staged."""

from tests.faults.stages import (  # noqa: F401 - each adds its faults
    actions,
    clients,
    sqlite,
)
from tests.faults.trial import FAULTS

__all__ = ["FAULTS"]
