"""Server processes that faults are tried on, and the supervisor that starts them again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.conftest import EXAMPLE_OFFICE, PROJECT, free_port

COMMAND = [sys.executable, "-m", "assistant.command_line", "serve"]
_READY_SECONDS = 300  # some seconds on a machine that has nothing else to do
_COPIED = ("config.yml", "domain.yml", "endpoints.yml", "credentials.yml", "office.yml")


def project_copy(folder: Path) -> Path:
    """Return a project folder whose files may be damaged; the model is shared by a link."""
    home = folder / "home"
    home.mkdir()
    for name in _COPIED:
        shutil.copy(PROJECT / name, home / name)
    shutil.copytree(PROJECT / "data", home / "data")
    shutil.copy(EXAMPLE_OFFICE, home / "office.yml")
    (home / "models").symlink_to(PROJECT / "models")
    return home


@dataclass
class ServerProcess:
    """One server, as an installation starts it.

    Attributes:
        folder: where its log goes.
        environment: its settings.
        before: folders that stand before the project on Python's path.
    """

    folder: Path
    environment: dict[str, str]
    before: Sequence[Path] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written."""
        return (self.folder / "server.log").read_text(errors="replace")

    def start(self) -> ServerProcess:
        """Start the process; do not wait for it."""
        path = [*map(str, self.before), str(PROJECT)]
        variables = {
            **os.environ,
            "ASSISTANT_HOME": str(PROJECT),
            "LOG_LEVEL": "WARNING",
            "OFFICE_FILE": str(EXAMPLE_OFFICE),
            "WEBCHAT_SESSION_RATE": "1000",
            "WEBCHAT_SESSION_BURST": "1000",
            "WEBCHAT_ADDRESS_RATE": "10000",
            "WEBCHAT_ADDRESS_BURST": "10000",
            **self.environment,
            "PORT": str(self.port),
            "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]),
        }
        with (self.folder / "server.log").open("ab") as log:
            # Its folder is not the project, which Python would put before all others.
            self.process = subprocess.Popen(
                COMMAND, cwd=self.folder, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def wait_ready(self, seconds: float = _READY_SECONDS) -> ServerProcess:
        """Wait until the server says that it is ready."""
        deadline = time.monotonic() + seconds
        with httpx.Client(base_url=self.url, timeout=5) as http:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    if http.get("/health/ready").status_code == 200:
                        return self
                except httpx.TransportError:
                    pass
                time.sleep(0.1)  # between looks; the deadline decides
        raise AssertionError(f"the server did not start:\n{self.log[-3000:]}")

    def wait_exit(self, seconds: float) -> int:
        """Wait until the process has ended by itself; return its exit code."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process still runs after {seconds:g} s") from None

    def stop(self) -> None:
        """Stop the process if it was started, gently first."""
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Supervisor:
    """Starts a server again whenever it ends, as systemd does with `Restart=always`."""

    def __init__(self, server: ServerProcess, pause: float = 0.5) -> None:
        self.server = server
        self.starts = 0
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Supervisor:
        self.server.start()
        self.starts = 1
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)
        self.server.stop()

    def kill(self) -> None:
        """Kill the server as the kernel does when memory is short."""
        self.server.process.kill()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            if self.server.process.poll() is not None and not self._over.wait(self._pause):
                self.server.start()
                self.starts += 1
