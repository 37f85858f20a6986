"""The files that the web chat serves: the widget, its loader, the demo page."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sanic.request import Request
from sanic.response import HTTPResponse, raw

_FOLDER = Path(__file__).parent / "page"
_HASH = 12  # digits of the hash in a file's address
_FOREVER = "public, max-age=31536000, immutable"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding, Origin",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    compressed: bytes
    kind: str
    digest: str


@lru_cache(maxsize=64)
def _read(path: Path, changed: float) -> _File:
    content = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith("javascript"):
        kind += "; charset=utf-8"
    return _File(
        content, gzip.compress(content, 9, mtime=0), kind, hashlib.sha256(content).hexdigest()
    )


def page_file(request: Request, name: str) -> HTTPResponse | None:
    """Return a file of the page, or None if there is none of that name.

    `widget.<hash>.js` may be kept for ever. Who asks with the hash of an earlier release gets
    today's file, to be kept for no time: a page that is still open must not lose its chat.
    """
    stem, _, rest = name.partition(".")
    digest, dot, suffix = rest.partition(".")
    wanted = f"{stem}.{suffix}" if dot and len(digest) == _HASH else name
    # Looked up in the list, so that no name is ever a path, or too long for the file system.
    if name.startswith(".") or wanted not in os.listdir(_FOLDER):
        return None
    path = _FOLDER / wanted
    file = _read(path, path.stat().st_mtime)
    headers = {**_HEADERS, "ETag": f'"{file.digest[:32]}"', "Cache-Control": "no-cache"}
    if dot and digest == file.digest[:_HASH]:
        headers["Cache-Control"] = _FOREVER
    if request.headers.get("if-none-match") == headers["ETag"]:
        return raw(b"", status=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("accept-encoding", "") and len(file.compressed) < len(content):
        content = file.compressed
        headers["Content-Encoding"] = "gzip"
    return raw(content, headers=headers, content_type=file.kind)
