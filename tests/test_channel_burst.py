"""A small burst on every run; the long one is `python -m tests.channel_burst`."""

from __future__ import annotations

from tests.channel_burst import burst
from tests.channel_server import Channels


def test_a_burst_loses_nothing_and_doubles_nothing(channels: Channels) -> None:
    figures = burst(channels.line("sms"), messages=60, senders=12)
    assert figures["failed calls"] > 0
