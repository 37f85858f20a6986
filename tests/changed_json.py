"""Documented JSON made into something that is not quite it: what a reader must refuse or bear."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st


def _changed(parent: Any, dice: random.Random, value: Any) -> Any:
    """Return a copy of JSON with one part, picked at random, taken away or replaced."""
    if not isinstance(parent, dict | list) or not parent or dice.random() < 0.1:
        return value
    copy = dict(parent) if isinstance(parent, dict) else list(parent)
    place = dice.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    if isinstance(copy, dict) and dice.random() < 0.1:
        del copy[place]
    else:
        copy[place] = _changed(copy[place], dice, value)
    return copy


changes = st.builds(
    lambda dice, value: lambda document: _changed(document, dice, value),
    st.randoms(use_true_random=False),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(2**63), 2**63, 1e308, 0, "", "\ud83d", "x" * 5000]),
        st.floats(),
        st.text(max_size=5),
        st.just([]),
        st.just({}),
    ),
)
"""Ways to make documented JSON into something that is not quite it."""
