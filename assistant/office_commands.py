"""Commands for the office: its inbox, what is still to be delivered, and the visitors' rights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.settings import Settings, load_settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from assistant.contact.cipher import Cipher
    from assistant.privacy import Found, PersonalData

commands = typer.Typer()
_requests = typer.Typer(help="Read the contact requests, and mark those that are handled.")
_outbox = typer.Typer(help="See what the office was not told yet, and try again.")
commands.add_typer(_requests, name="requests", invoke_without_command=True)
commands.add_typer(_outbox, name="outbox", invoke_without_command=True)


class OfficeCommandError(Exception):
    """A command for the office cannot do what was asked; the message says why."""


Conversation = Annotated[str, typer.Option(help="The id of a conversation.")]
Number = Annotated[str, typer.Option(help="The number of a request, as R-7K3M-92QF.")]
Phone = Annotated[str, typer.Option(help="A phone number that a visitor left.")]
Email = Annotated[str, typer.Option(help="An e-mail address that a visitor left.")]


@_requests.callback()
def show_requests(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are handled or withdrawn.")
    ] = False,
) -> None:
    """Read the contact requests; alone it lists the new ones."""
    if context.invoked_subcommand:
        return
    from assistant.contact.inbox import Inbox

    with open_database() as (_, engine, cipher):
        requests = Inbox(engine, cipher).requests("" if everything else "new")
    for request in requests:
        receipt = request.receipt
        name = request.wishes.name if request.wishes else "(no key can read it)"
        typer.echo(
            f"{receipt.number}  {receipt.created_at:%Y-%m-%d %H:%M} UTC  {receipt.status:9}  {name}"
        )
    typer.echo(f"{len(requests)} requests; `assistant requests show NUMBER` shows one.")


@_requests.command(name="show")
def show_request(number: Annotated[str, typer.Argument(metavar="NUMBER")]) -> None:
    """Show one request in full."""
    from assistant.contact.inbox import Inbox
    from assistant.delivery.message import labelled

    with open_database() as (_, engine, cipher):
        request = Inbox(engine, cipher).request(number.upper())
    if request is None:
        raise OfficeCommandError(f"There is no request {number}.")
    typer.echo(f"Request {request.receipt.number}: {request.receipt.status}")
    typer.echo(f"Received: {request.receipt.created_at:%Y-%m-%d %H:%M} UTC")
    if request.wishes is None:
        raise OfficeCommandError(
            "None of CONTACT_KEYS can read it; put back the key it was encrypted with."
        )
    for label, value in labelled(request.wishes).items():
        typer.echo(f"{label}: {value}")


@_requests.command(name="handled")
def mark_handled(number: Annotated[str, typer.Argument(metavar="NUMBER")]) -> None:
    """Mark a request as handled; it is deleted some time after (HANDLED_REQUEST_DAYS)."""
    from assistant.contact.inbox import Inbox

    with open_database() as (settings, engine, cipher):
        if not Inbox(engine, cipher).mark_handled(number.upper()):
            raise OfficeCommandError(f"There is no request {number} that waits to be handled.")
    typer.echo(f"Marked. It will be deleted in {settings.handled_request_days:g} days.")


@_outbox.callback()
def show_outbox(context: typer.Context) -> None:
    """See what the office was not told yet; alone it lists what is waiting and what is dead."""
    if context.invoked_subcommand:
        return
    from assistant.contact.records import moment
    from assistant.delivery.outbox import Outbox

    with open_database() as (_, engine, _cipher):
        deliveries = Outbox(engine).undelivered()
    for delivery in deliveries:
        when = f"next at {moment(delivery.next_attempt_at):%Y-%m-%d %H:%M} UTC"
        typer.echo(
            f"{delivery.number}  {delivery.event:9}  {delivery.target}  {delivery.state}  "
            f"{delivery.attempts} attempts  {when if delivery.state == 'pending' else ''}  "
            f"{delivery.last_error or ''}".rstrip()
        )
    dead = sum(delivery.state == "dead" for delivery in deliveries)
    typer.echo(f"{len(deliveries) - dead} waiting, {dead} dead")


@_outbox.command(name="retry")
def retry_outbox() -> None:
    """Let a running server try what is dead once more."""
    from assistant.delivery.outbox import Outbox

    with open_database() as (_, engine, _cipher):
        count = Outbox(engine).retry_dead()
    typer.echo(f"{count} messages will be tried again.")


@commands.command()
def export(
    conversation: Conversation = "", number: Number = "", phone: Phone = "", email: Email = ""
) -> None:
    """Print all that is stored about a visitor, as JSON."""
    from assistant.privacy import PersonalData

    with open_database() as (settings, engine, cipher):
        data = PersonalData(engine, cipher, settings.secret)
        found = _find(data, conversation, number, phone, email)
        typer.echo(json.dumps(data.export(found), indent=2, ensure_ascii=False))


@commands.command()
def erase(
    conversation: Conversation = "",
    number: Number = "",
    phone: Phone = "",
    email: Email = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Delete all that is stored about a visitor: requests, drafts and conversations."""
    from assistant.privacy import PersonalData

    with open_database() as (settings, engine, cipher):
        data = PersonalData(engine, cipher, settings.secret)
        found = _find(data, conversation, number, phone, email)
        what = f"{len(found.numbers)} requests and {len(found.conversations)} conversations"
        if not yes:
            typer.confirm(f"Delete {what}? {', '.join(sorted(found.numbers))}", abort=True)
        deleted = data.erase(found)
    typer.echo(
        f"Deleted {what}, with {deleted.drafts} drafts and {deleted.events} events. Of the requests "
        f"only number and times are left."
    )


@commands.command()
def purge() -> None:
    """Delete what is older than the settings allow, as the server does every hour."""
    from assistant.privacy import PersonalData, Retention

    with open_database() as (settings, engine, cipher):
        deleted = PersonalData(engine, cipher).purge(Retention.of(settings))
    counts = dataclasses.asdict(deleted).items()
    typer.echo("Deleted " + ", ".join(f"{count} {name}" for name, count in counts) + ".")


@commands.command(name="rotate-keys")
def rotate_keys() -> None:
    """Encrypt all requests with the first of CONTACT_KEYS, so that the others can go."""
    from assistant.contact.inbox import Inbox

    with open_database() as (_, engine, cipher):
        renewed, unreadable = Inbox(engine, cipher).renew_encryption()
    if unreadable:
        raise OfficeCommandError(
            f"{renewed} requests and drafts are encrypted with the first key; {unreadable} could "
            f"not be read with any. Put the key they were encrypted with back into CONTACT_KEYS."
        )
    typer.echo(
        f"{renewed} requests and drafts are encrypted with the first key. The others can go."
    )


def _find(data: PersonalData, conversation: str, number: str, phone: str, email: str) -> Found:
    if not (conversation or number or phone or email):
        raise OfficeCommandError("Say whose: --conversation, --number, --phone or --email.")
    try:
        found = data.find(conversation, number, phone, email)
    except ValueError as error:
        raise OfficeCommandError(str(error)) from None
    if not found:
        raise OfficeCommandError("Nothing is stored about that.")
    return found


@contextmanager
def open_database() -> Generator[tuple[Settings, Engine, Cipher], None, None]:
    """Provide the settings, the database and what reads personal fields.

    Raises:
        OfficeCommandError: the database does not answer.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from assistant.contact.cipher import Cipher
    from assistant.storage.database import StorageError, engine_for

    settings = load_settings()
    try:
        yield settings, engine_for(settings.database_url), Cipher(settings.contact_keys)
    except (SQLAlchemyError, StorageError) as error:
        raise OfficeCommandError(
            f"The database does not answer ({type(error).__name__}). Is DATABASE_URL right?"
        ) from None
