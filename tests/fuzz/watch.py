"""Looks at the server's process from outside: is it the same, how big is it, what does it log."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import Server

# Sanic says so of every OPTIONS request with a body, which Rasa's CORS layer answers unread.
_HARMLESS = "body not consumed"
_ERROR = re.compile(rf"\b(?:ERROR|CRITICAL)\b(?!.*{_HARMLESS})|^Traceback")


@dataclass
class Watch:
    """Watches one server's process.

    Attributes:
        server: the server.
        errors: lines of its log that tell of errors, so far.
    """

    server: Server
    errors: list[str] = field(default_factory=list)
    _read: int = 0

    def is_alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self.server.process.poll() is None

    def memory(self) -> float:
        """Return the resident memory in MB."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    def waited(self) -> float:
        """Return for how many seconds its threads were ready to run but the machine did not let them.

        So an answer that is late because others keep the processors busy can be told from one that
        the server took long for.
        """
        waited = 0
        try:
            for thread in Path(f"/proc/{self.server.process.pid}/task").iterdir():
                waited += int((thread / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            pass  # a thread ended, or the kernel does not count
        return waited / 1e9

    def processor_seconds(self) -> float:
        """Return how many seconds of a processor the process has used."""
        fields = (
            Path(f"/proc/{self.server.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        )
        return (int(fields[11]) + int(fields[12])) / 100

    def new_errors(self) -> list[str]:
        """Return the lines of the log since the last call that tell of errors."""
        with self.server.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole, _, _ = text.rpartition(b"\n")
        self._read += len(whole) + bool(whole)
        found = [
            line for line in whole.decode("utf-8", "replace").split("\n") if _ERROR.search(line)
        ]
        self.errors += found
        return found
