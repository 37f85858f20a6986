"""Make the pictures of the widget and of the staff pages: `make screenshots` (some five minutes).

The practice, its visitors and its staff are made up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from assistant.training import train
from docs.images.staff import staff_pictures
from docs.images.widget import widget_pictures
from tests.browser import chromium
from tests.conftest import PROJECT, start_server, stop_server


def main() -> None:
    """Write all pictures."""
    train(PROJECT, print)
    with chromium() as browser, tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        server = start_server(scratch)
        try:
            widget_pictures(browser, server.url, scratch)
        finally:
            stop_server(server)
        staff_pictures(browser, scratch)


if __name__ == "__main__":
    main()
