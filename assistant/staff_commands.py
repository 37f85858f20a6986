"""`assistant staff`: who may sign in to the staff pages, and what they did there."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from assistant.office_commands import OfficeCommandError, open_database

commands = typer.Typer()
_staff = typer.Typer(
    help="Make and remove accounts for the pages at /staff; see what was done there.",
    no_args_is_help=True,
)
commands.add_typer(_staff, name="staff")

Name = Annotated[str, typer.Argument(metavar="NAME")]


@_staff.command(name="add")
def add_account(
    name: Name,
    role: Annotated[
        list[str],
        typer.Option(help="staff (requests) or editor (what the assistant says); twice for both."),
    ],
) -> None:
    """Make an account. The password is asked for, or read from standard input."""
    from assistant.staff.accounts import AccountError, Accounts

    with open_database() as (_, engine, _cipher):
        try:
            account = Accounts(engine).add(name, _password(), role)
        except AccountError as error:
            raise OfficeCommandError(str(error)) from None
    typer.echo(f"{account.name} may sign in at /staff/ ({_listed(account.roles)}).")


@_staff.command(name="list")
def list_accounts() -> None:
    """List the accounts and what each may do."""
    from assistant.contact.records import moment
    from assistant.staff.accounts import Accounts

    with open_database() as (_, engine, _cipher):
        accounts = Accounts(engine).all()
    for account in accounts:
        typer.echo(
            f"{account.name:20}  {_listed(account.roles):14}  "
            f"password of {moment(account.changed_at):%Y-%m-%d}"
        )
    if not accounts:
        typer.echo("No accounts, so there are no pages at /staff. `assistant staff add` makes one.")


@_staff.command(name="password")
def change_password(name: Name) -> None:
    """Give an account a new password and sign it out everywhere."""
    from assistant.staff.accounts import AccountError, Accounts

    with open_database() as (_, engine, _cipher):
        try:
            Accounts(engine).set_password(name, _password())
        except AccountError as error:
            raise OfficeCommandError(str(error)) from None
    typer.echo("The password is changed, and the account is signed out everywhere.")


@_staff.command(name="remove")
def remove_account(name: Name) -> None:
    """Remove an account and sign it out; what was assigned to it is nobody's then."""
    from assistant.staff.accounts import AccountError, Accounts

    with open_database() as (_, engine, _cipher):
        try:
            Accounts(engine).remove(name)
        except AccountError as error:
            raise OfficeCommandError(str(error)) from None
    typer.echo("The account is removed.")


@_staff.command(name="log")
def show_log(
    name: Annotated[str, typer.Option(help="Only what this account did.")] = "",
    most: Annotated[int, typer.Option(help="How many lines, the newest.", min=1)] = 200,
) -> None:
    """Show who did what on the pages, and when."""
    from assistant.contact.records import moment
    from assistant.staff.log import entries

    with open_database() as (_, engine, _cipher):
        found = entries(engine, name.lower(), most)
    for entry in found:
        typer.echo(
            f"{moment(entry.at):%Y-%m-%d %H:%M:%S} UTC  {entry.name or '(unknown)':20}  "
            f"{entry.what}  {entry.about}".rstrip()
        )


def _password() -> str:
    """Return a new password: typed twice, or the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _listed(roles: frozenset[str]) -> str:
    return ", ".join(sorted(roles, reverse=True))
