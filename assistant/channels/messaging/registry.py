"""All messaging platforms there are. Knows nothing of Rasa, so that commands start quickly."""

from __future__ import annotations

from assistant.channels.messaging.messenger import Messenger
from assistant.channels.messaging.platform import Platform
from assistant.channels.messaging.slack import Slack
from assistant.channels.messaging.telegram import Telegram
from assistant.channels.messaging.twilio import Twilio
from assistant.settings import Settings

PLATFORMS: tuple[type[Platform], ...] = (Twilio, Messenger, Telegram, Slack)
"""Another one takes its module and a place here; see docs/adding-a-channel.md."""


def platforms_of(settings: Settings) -> dict[str, Platform]:
    """Return the platforms that are on, by name."""
    made = (kind.from_settings(settings) for kind in PLATFORMS)
    return {platform.name: platform for platform in made if platform is not None}
