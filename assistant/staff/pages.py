"""Makes the staff pages: templates in `pages/`, their one style sheet and their one script."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup
from sanic.request import Request
from sanic.response import HTTPResponse, raw

from assistant.contact.words import shown_phone
from assistant.content.office import OfficeFileError, load_office
from assistant.settings import office_file
from assistant.staff.visit import Visit

logger = logging.getLogger(__name__)

PREFIX = "/staff"
_FOLDER = Path(__file__).parent / "pages"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: browsers then send `Origin: null` with a form, and no form would be taken.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class RefusedError(Exception):
    """A page that is not given, or a form that is not taken: what to tell whoever asked.

    Args:
        status: of the response.
        title: what is wrong, in a few words.
        words: what to do.
        retry_after: seconds; 0 without.
    """

    def __init__(self, status: int, title: str, words: str, retry_after: int = 0) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.words = words
        self.retry_after = retry_after


class NotThereError(RefusedError):
    """There is no such request, topic or page; or it is not for this account to know."""

    def __init__(self, words: str = "It may have been deleted, or the address is wrong.") -> None:
        super().__init__(404, "Nothing is here", words)


def page(
    template: str,
    visit: Visit | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> HTTPResponse:
    """Return a page.

    Args:
        template: its file in `pages/`.
        visit: who asks; None for who is not signed in.
        status: of the response.
        headers: further ones.
        values: what the template shows; everything in it is escaped.
    """
    text = _templates().get_template(template).render(visit=visit, **values)
    return raw(
        text.encode("utf-8"),
        status=status,
        headers={**_HEADERS, **(headers or {})},
        content_type="text/html; charset=utf-8",
    )


@dataclass(frozen=True)
class Part:
    """A part of a page that follows what happens: `{{ live.html }}` in `data-live` (see staff.js).

    Attributes:
        html: the part.
        tag: changes with it.
    """

    html: Markup
    tag: str


def part(template: str, visit: Visit, **values: Any) -> Part:
    """Make a part of a page; see `page`."""
    text = _templates().get_template(template).render(visit=visit, **values)
    return Part(Markup(text), f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"')  # noqa: S704


def part_alone(request: Request, made: Part) -> HTTPResponse:
    """Return a part by itself, or 304 if the browser has it as it is now.

    Its route is `quiet`: a page asks for it again and again.
    """
    headers = {**_HEADERS, "ETag": made.tag}
    if request.headers.get("if-none-match") == made.tag:
        return raw(b"", status=304, headers=headers)
    return raw(made.html.encode(), headers=headers, content_type="text/html; charset=utf-8")


def refusal_page(refusal: RefusedError, visit: Visit | None) -> HTTPResponse:
    """Return the page that tells of a refusal."""
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
    return page("refusal.html", visit, refusal.status, headers, refusal=refusal)


def see(path: str, **query: str) -> HTTPResponse:
    """Send the browser on to another page with a new GET, so that a reload repeats no form.

    Args:
        path: below `/staff`, with its slash.
        query: what to hand on.
    """
    kept = {name: value for name, value in query.items() if value}
    where = f"{PREFIX}{path}" + (f"?{urlencode(kept)}" if kept else "")
    return raw(b"", status=303, headers={**_HEADERS, "Location": where})


def download(content: str, name: str, kind: str) -> HTTPResponse:
    """Return a file to be saved.

    Args:
        content: the text.
        name: of the file; letters, digits, dots and hyphens.
        kind: media type, as `text/csv`.
    """
    return raw(
        content.encode("utf-8"),
        headers={**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'},
        content_type=f"{kind}; charset=utf-8",
    )


def static_file(request: Request, name: str) -> HTTPResponse:
    """Return the style sheet, the script or the icon.

    Raises:
        NotThereError: there is no such file.
    """
    found = _files().get(name)
    if found is None:
        raise NotThereError
    content, tag = found
    headers = {**_HEADERS, "Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return raw(b"", status=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return raw(content, headers=headers, content_type=f"{kind}; charset=utf-8")


def office_zone() -> ZoneInfo:
    """Return the office's time zone; UTC, and an error in the log, while `office.yml` is wrong."""
    try:
        return ZoneInfo(load_office(office_file()).timezone)
    except OfficeFileError as error:
        logger.error("Times are shown in UTC. %s", error)
        return ZoneInfo("UTC")


def local_time(moment: dt.datetime | float) -> dt.datetime:
    """Return an aware time, or seconds since 1970, in the office's time zone."""
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.fromtimestamp(moment, dt.timezone.utc)
    return moment.astimezone(office_zone())


@lru_cache(maxsize=1)
def _files() -> dict[str, tuple[bytes, str]]:
    found = {}
    for path in _FOLDER.iterdir():
        if path.suffix in (".css", ".js", ".svg"):
            content = path.read_bytes()
            found[path.name] = (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["when"] = _when
    templates.filters["iso"] = _iso
    templates.filters["phone"] = shown_phone
    return templates


def _when(moment: dt.datetime | float) -> str:
    """Say a time as people do: `Tue, Nov 24, 10:05 am`, with the year if it is another."""
    local = local_time(moment)
    year = (
        f" {local.year}" if local.year != local_time(dt.datetime.now(dt.timezone.utc)).year else ""
    )
    half = "am" if local.hour < 12 else "pm"
    return f"{local:%a, %b} {local.day}{year}, {local.hour % 12 or 12}:{local:%M} {half}"


def _iso(moment: dt.datetime | float) -> str:
    return local_time(moment).isoformat(timespec="seconds")
