"""`assistant channels`: what is on, what is wrong and what to do, in words the office understands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.command_line import main
from tests.channel_server import Channels
from tests.conftest import EXAMPLE_OFFICE
from tests.platforms.slack import BOT_TOKEN, SIGNING_SECRET, SlackStandIn
from tests.platforms.telegram import TOKEN, TelegramStandIn
from tests.receivers import WebhookReceiver

PUBLIC_URL = "https://chat.moonbeam.example"
PREFIXES = ("TWILIO_", "MESSENGER_", "TELEGRAM_", "SLACK_", "PUBLIC_URL")


@dataclass(frozen=True)
class Outcome:
    """What a command said, and its exit code."""

    code: int
    said: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `assistant` with settings that this test alone gives."""
    for name in os.environ:
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OFFICE_FILE", str(EXAMPLE_OFFICE))

    def run(*arguments: str, answer: str = "", **settings: str) -> Outcome:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["assistant", *arguments])
        monkeypatch.setattr("sys.stdin", _typed(answer))
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        said = f"{captured.out}\n{captured.err}"
        assert BOT_TOKEN not in said
        assert SIGNING_SECRET not in said
        assert TOKEN not in said
        return Outcome(int(end.value.code or 0), said)

    return run


def _typed(answer: str) -> object:
    import io

    return io.StringIO(f"{answer}\n")


@pytest.fixture
def slack_api() -> Iterator[SlackStandIn]:
    stand_in = SlackStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def telegram_api() -> Iterator[TelegramStandIn]:
    stand_in = TelegramStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def somebody() -> Iterator[WebhookReceiver]:
    """Answers at the public address; with 403 as our server does to whoever brings no proof."""
    receiver = WebhookReceiver(status=403)
    receiver.start()
    yield receiver
    receiver.stop()


def test_without_secrets_every_channel_is_off_and_told_what_it_needs(command: Command) -> None:
    outcome = command("channels", "list")
    assert outcome.code == 0
    for needed in (
        "TWILIO_SMS_NUMBER",
        "MESSENGER_PAGE_TOKEN",
        "TELEGRAM_TOKEN",
        "SLACK_BOT_TOKEN",
    ):
        assert needed in outcome.said
    assert "0 on" in outcome.said
    assert command("channels", "check").code == 0  # off is not broken


def test_a_channel_that_is_on_shows_the_address_for_its_platform(
    command: Command, slack_api: SlackStandIn
) -> None:
    outcome = command("channels", "list", **slack_api.environment, PUBLIC_URL=PUBLIC_URL)
    assert f"{PUBLIC_URL}/webhooks/slack" in outcome.said
    assert "1 on" in outcome.said


def test_secrets_can_be_files(command: Command, slack_api: SlackStandIn, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{BOT_TOKEN}\n")
    outcome = command(
        "channels",
        "list",
        PUBLIC_URL=PUBLIC_URL,
        SLACK_SIGNING_SECRET=SIGNING_SECRET,
        SLACK_BOT_TOKEN_FILE=str(tmp_path / "token"),
    )
    assert "1 on" in outcome.said


def test_half_of_the_secrets_is_a_mistake_that_is_named(command: Command) -> None:
    outcome = command("channels", "list", SLACK_BOT_TOKEN=BOT_TOKEN, PUBLIC_URL=PUBLIC_URL)
    assert outcome.code == 1
    assert "SLACK_SIGNING_SECRET" in outcome.said


def test_a_channel_that_is_off_or_unknown_cannot_be_checked(command: Command) -> None:
    outcome = command("channels", "check", "whatsapp")
    assert outcome.code == 1
    assert "TWILIO_WHATSAPP_NUMBER" in outcome.said
    outcome = command("channels", "check", "signal")
    assert outcome.code == 1
    assert "telegram" in outcome.said


def test_what_the_platform_refuses_is_said(
    command: Command, slack_api: SlackStandIn, somebody: WebhookReceiver
) -> None:
    slack_api.errors = ["token_revoked"]
    here = somebody.url.removesuffix("/hooks/secret-path")
    outcome = command("channels", "check", "slack", **slack_api.environment, PUBLIC_URL=here)
    assert outcome.code == 1
    assert "slack: Slack refuses SLACK_BOT_TOKEN (token_revoked)" in outcome.said
    assert "SLACK_SIGNING_SECRET" in outcome.said  # a 403 to a signed call: not our server's secret


def test_all_is_right_with_a_running_server(command: Command, channels: Channels) -> None:
    """Slack signs no address, so that the server may be known by another one here."""
    settings = {**channels.line("slack").platform.environment, "PUBLIC_URL": channels.server.url}
    outcome = command("channels", "check", "slack", **settings)
    assert (outcome.code, "slack: all right" in outcome.said) == (0, True)
    outcome = command("channels", "check", **{**settings, "SLACK_SIGNING_SECRET": "x" * 32})
    assert outcome.code == 1
    assert "SLACK_SIGNING_SECRET signs" in outcome.said


ADDRESSES = {
    404: "include webhooks.conf",
    502: "reaches no assistant",
    200: "should refuse",
    0: "does not answer",
}


@pytest.mark.parametrize("status", ADDRESSES)
def test_an_address_that_does_not_lead_here_is_named(
    command: Command, slack_api: SlackStandIn, somebody: WebhookReceiver, status: int
) -> None:
    somebody.status = status
    if not status:
        somebody.stop()
    here = somebody.url.removesuffix("/hooks/secret-path")
    outcome = command("channels", "check", **slack_api.environment, PUBLIC_URL=here)
    assert outcome.code == 1
    assert ADDRESSES[status] in outcome.said
    assert "1 problems" in outcome.said  # one fault, one sentence


def test_an_address_of_this_machine_alone_is_named(command: Command) -> None:
    settings = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET}
    outcome = command(
        "channels",
        "check",
        **settings,
        PUBLIC_URL="http://localhost:5005",
        # Nobody answers there, and it is not on this machine: a name that never exists (RFC 6761).
        SLACK_API_URL="https://slack.invalid/api",
    )
    assert "nobody outside of this machine reaches" in outcome.said
    assert "cannot reach Slack" in outcome.said


def test_a_missing_privacy_policy_is_named(
    command: Command, slack_api: SlackStandIn, tmp_path: Path
) -> None:
    (tmp_path / "office.yml").write_text("name: Moonbeam\n")
    outcome = command(
        "channels",
        "check",
        **slack_api.environment,
        PUBLIC_URL="http://localhost:9",
        OFFICE_FILE=str(tmp_path / "office.yml"),
    )
    assert "privacy_url" in outcome.said


def test_telegram_is_told_where_to_send_after_a_yes(
    command: Command, telegram_api: TelegramStandIn
) -> None:
    settings = {**telegram_api.environment, "PUBLIC_URL": PUBLIC_URL}
    refused = command("channels", "connect", "telegram", answer="n", **settings)
    assert refused.code == 1
    assert telegram_api.webhook["url"] == ""
    address = f"{PUBLIC_URL}/webhooks/telegram"
    assert address in refused.said  # said before anything is done
    done = command("channels", "connect", "telegram", answer="y", **settings)
    assert done.code == 0
    assert telegram_api.webhook["url"] == address
    assert telegram_api.problems == []


def test_a_telegram_that_refuses_is_said(command: Command, telegram_api: TelegramStandIn) -> None:
    settings = {**telegram_api.environment, "PUBLIC_URL": PUBLIC_URL}
    telegram_api.stop()
    outcome = command("channels", "connect", "telegram", "--yes", **settings)
    assert outcome.code == 1
    assert "Nothing is changed" in outcome.said


def test_the_others_are_connected_on_their_own_pages(
    command: Command, slack_api: SlackStandIn
) -> None:
    outcome = command(
        "channels", "connect", "slack", **slack_api.environment, PUBLIC_URL=PUBLIC_URL
    )
    assert outcome.code == 1
    assert f"{PUBLIC_URL}/webhooks/slack" in outcome.said
