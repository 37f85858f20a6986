"""Who asks for a staff page, as its handler and its template see it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MenuEntry:
    """One entry of the menu.

    Attributes:
        path: where it leads.
        words: what it says.
        current: whether that is the page that is shown.
    """

    path: str
    words: str
    current: bool = False


@dataclass(frozen=True)
class Visit:
    """Somebody who is signed in and may have what was asked for.

    Attributes:
        name: the account.
        roles: what it may do.
        csrf: what each form must hold, as a field named `csrf`.
        digest: names the session in the database.
        menu: the pages that the account may see.
    """

    name: str
    roles: frozenset[str]
    csrf: str = field(repr=False)
    digest: str = field(repr=False)
    menu: tuple[MenuEntry, ...] = ()
