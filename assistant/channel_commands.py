"""`assistant channels`: which messaging channels are on, what is wrong with them, and Telegram's webhook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from assistant.office_commands import OfficeCommandError
from assistant.settings import Settings, load_settings, office_file

if TYPE_CHECKING:
    from assistant.channels.messaging.platform import Platform

commands = typer.Typer()
_channels = typer.Typer(help="The messaging channels: which are on, and what is wrong with them.")
commands.add_typer(_channels, name="channels", no_args_is_help=True)

_NEEDED = {
    "twilio": (
        "TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, and TWILIO_SMS_NUMBER or TWILIO_WHATSAPP_NUMBER"
    ),
    "messenger": "MESSENGER_PAGE_TOKEN, MESSENGER_APP_SECRET and MESSENGER_VERIFY_TOKEN",
    "telegram": "TELEGRAM_TOKEN and TELEGRAM_SECRET",
    "slack": "SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET",
}
"""What turns each platform of `assistant.channels.messaging.registry.PLATFORMS` on."""

_ALSO_CALLED = {"sms": "twilio", "whatsapp": "twilio", "facebook": "messenger"}

_GUIDE = "docs/channels.md has the steps."


@_channels.command(name="list")
def list_channels() -> None:
    """Show which channels are on, and the address that each platform is given."""
    settings = load_settings()
    on = 0
    for name in _platforms():
        serves = _served(name, settings)
        if _platform_of(name, settings) is None:
            typer.echo(f"{name:9}  off  set {_NEEDED.get(name, 'its secrets')}")
            continue
        on += 1
        typer.echo(
            f"{name:9}  on   {settings.messaging.public_url}/webhooks/{name}  {serves}".rstrip()
        )
    typer.echo(f"{on} on. {_GUIDE} `assistant channels check` looks whether they work.")


@_channels.command()
def check(
    name: Annotated[
        str, typer.Argument(help="One channel; without it all that are on.", metavar="[NAME]")
    ] = "",
) -> None:
    """Check secrets, public address and webhook, and say what is wrong. Sends nobody a message."""
    settings = load_settings()
    names = [_known(name)] if name else list(_platforms())
    if not name:
        names = [each for each in names if _platform_of(each, settings) is not None]
        if not names:
            typer.echo(f"No messaging channel is on. {_GUIDE}")
            return
    problems = 0
    for each, found in {**asyncio.run(_check(names, settings)), "office.yml": _privacy()}.items():
        for problem in found:
            typer.secho(f"{each}: {problem}", fg="red")
        if not found:
            typer.echo(f"{each}: all right")
        problems += len(found)
    typer.echo(f"{problems} problems")
    if problems:
        raise typer.Exit(1)


@_channels.command()
def connect(
    name: Annotated[str, typer.Argument(help="telegram")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Tell a platform where this server is. Telegram is told here, the others on their own pages."""
    settings = load_settings()
    known = _known(name)
    if known != "telegram":
        raise OfficeCommandError(
            f"The address for {known} is entered on the platform's own pages: "
            f"{settings.messaging.public_url or 'https://...'}/webhooks/{known}. {_GUIDE}"
        )
    address = f"{settings.messaging.public_url}/webhooks/telegram"
    platform = _on("telegram", settings)
    typer.echo(f"Telegram will send what people write to the bot to {address}, and nowhere else.")
    typer.echo("Whatever answered there before gets nothing from then on.")
    if not yes:
        typer.confirm("Go on?", abort=True)
    asyncio.run(_connect(platform))
    typer.echo("Done. `assistant channels check telegram` looks whether it works.")


def _known(name: str) -> str:
    plain = name.strip().lower()
    known = _ALSO_CALLED.get(plain, plain)
    if known not in _platforms():
        raise OfficeCommandError(
            f"There is no channel '{name}'. There are: {', '.join(_platforms())}."
        )
    return known


def _platforms() -> dict[str, type[Platform]]:
    from assistant.channels.messaging.registry import PLATFORMS

    return {platform.name: platform for platform in PLATFORMS}


def _platform_of(name: str, settings: Settings) -> Platform | None:
    return _platforms()[name].from_settings(settings)


def _on(name: str, settings: Settings) -> Platform:
    platform = _platform_of(name, settings)
    if platform is None:
        raise OfficeCommandError(
            f"{name} is off. To turn it on, set {_NEEDED.get(name, 'its secrets')}. {_GUIDE}"
        )
    return platform


def _served(name: str, settings: Settings) -> str:
    messaging = settings.messaging
    if name != "twilio":
        return ""
    numbers = {"SMS": messaging.twilio_sms_number, "WhatsApp": messaging.twilio_whatsapp_number}
    return ", ".join(f"{channel} {number}" for channel, number in numbers.items() if number)


async def _check(names: list[str], settings: Settings) -> dict[str, list[str]]:
    from assistant.channels.messaging.platform import PlatformError

    found = {}
    for name in names:
        platform = _on(name, settings)
        try:
            problems = await platform.check()
        except PlatformError as error:
            problems = [
                f"{error}. Try again; if it stays so, this machine cannot reach the platform."
            ]
        finally:
            await platform.close()
        found[name] = [*await _address_problems(name, settings), *problems]
    return found


async def _connect(platform: Platform) -> None:
    from assistant.channels.messaging.platform import PlatformError
    from assistant.channels.messaging.telegram import Telegram

    assert isinstance(platform, Telegram)  # noqa: S101 - `connect` has seen to it
    try:
        await platform.set_webhook()
    except PlatformError as error:
        raise OfficeCommandError(
            f"{error}. Nothing is changed; `assistant channels check telegram` says more."
        ) from None
    finally:
        await platform.close()


def _privacy() -> list[str]:
    from assistant.content.office import load_office

    if load_office(office_file()).privacy_url:
        return []
    return [
        "The first message to everybody should link to your privacy policy, and there is no "
        "privacy_url. Write its address there."
    ]


async def _address_problems(name: str, settings: Settings) -> list[str]:
    """Look whether this server can be reached at the address that the platform is given.

    A call without the platform's proof must be refused there: whoever answers otherwise is not us, or
    is off.
    """
    import aiohttp

    from assistant.channels.messaging.api_client import status_of_post

    messaging = settings.messaging
    address = f"{messaging.public_url}/webhooks/{name}"
    if _is_here(messaging.public_url) and not _is_here(getattr(messaging, f"{name}_api_url")):
        return [
            f"PUBLIC_URL is {messaging.public_url}, which nobody outside of this machine reaches. Set "
            "it to the https address of this server."
        ]
    try:
        status = await status_of_post(address, messaging.call_seconds, b"{}")
    except aiohttp.ClientConnectorCertificateError:
        return [
            f"The certificate of {messaging.public_url} is not valid, so no platform will send there. "
            "Renew it, and make sure that the server hands out the whole chain."
        ]
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        return [
            f"{messaging.public_url} does not answer ({type(error).__name__}). Does the server run, is "
            "PUBLIC_URL right, and do the name server and the firewall lead there?"
        ]
    if status in (401, 403):
        return []
    if status == 404:
        return [
            f"There is nothing at {address}. Either the proxy does not let it through (nginx: include "
            f"webhooks.conf), or the server runs without the secrets of {name}: restart it."
        ]
    if status >= 500:
        return [
            f"{address} answers {status}: the proxy reaches no assistant, or it is not ready. Its log "
            "says why."
        ]
    return [
        f"{address} answers {status} to a call that it should refuse. Is PUBLIC_URL the address of this "
        "server?"
    ]


def _is_here(address: str) -> bool:
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
