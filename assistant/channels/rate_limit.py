"""Token buckets: so much at once, so much a second, for each key.

Written here because the kept-up library for it needs a newer `packaging` than Rasa allows.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_KEYS = 20_000  # the least recently seen are forgotten, so memory stays bounded


class RateLimit:
    """Limits how often something may happen for a key.

    Args:
        rate: allowed a second in the long run.
        burst: allowed at once after a pause.
        clock: returns seconds; a monotonic clock by default.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, cost: float = 1.0) -> int:
        """Count a use; return 0 if it is allowed, else the whole seconds to wait.

        Args:
            key: whose use.
            cost: as how many uses it counts; no more than a whole burst.
        """
        now = self._clock()
        cost = min(cost, float(self._burst))
        level, seen = self._buckets.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + (now - seen) * self._rate)
        allowed = level >= cost
        self._buckets[key] = (level - cost if allowed else level, now)
        if len(self._buckets) > _MOST_KEYS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((cost - level) / self._rate))


def network_of(address: str) -> str:
    """Return whose address it is: of IPv6 the first 64 bits, since one customer has all the rest."""
    try:
        network = ipaddress.ip_network((address, 64 if ":" in address else 32), strict=False)
    except ValueError:
        return address  # a proxy may hand on any words
    return str(network.network_address)
