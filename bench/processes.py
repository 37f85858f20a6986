"""Commands and servers of the measurements: running, waiting, memory, and stopping them for sure."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

PROJECT = Path(__file__).resolve().parent.parent

_START_SECONDS = 900.0
_STOP_SECONDS = 30.0

_Result = TypeVar("_Result")


class MeasuringError(RuntimeError):
    """Something could not be measured; the message says what, and shows the end of its log."""


def say(text: str) -> None:
    """Tell on standard error, with the time, what is being done."""
    print(f"{dt.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def run(
    command: list[str],
    folder: Path,
    variables: dict[str, str],
    log: Path,
    limit: float | None = None,
) -> float | None:
    """Run a command to its end and return its seconds; None if it was stopped at the limit.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        variables: of its environment, beside this process's own.
        log: takes what it says.
        limit: seconds after which it is stopped.

    Raises:
        MeasuringError: it failed.
    """
    began = time.perf_counter()
    with started(command, folder, variables, log) as process:
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return None
    if code != 0:
        raise MeasuringError(f"{_shown(command)} ended with code {code}.\n{end_of(log)}")
    return time.perf_counter() - began


@contextmanager
def started(
    command: list[str], folder: Path, variables: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own, and stop the whole group in the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    """Wait until a server answers a path with 200.

    Raises:
        MeasuringError: it ended, or does not become ready.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _status(port, path) == 200:
            return
        time.sleep(0.02)  # between looks; the deadline decides, not this
    raise MeasuringError(f"The server did not become ready.\n{end_of(log)}")


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0  # it does not listen yet
    finally:
        connection.close()


def resident_megabytes(root: int) -> float:
    """Return the resident memory of a process and all its descendants, in 10^6 bytes."""
    children: dict[int, list[int]] = defaultdict(list)
    resident: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue  # it ended meanwhile
        facts = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        number = int(path.parent.name)
        children[int(facts["PPid"])].append(number)
        resident[number] = 1024 * int(facts.get("VmRSS", "0 kB").split()[0])
    tree = [root]
    for number in tree:  # grows while it is read
        tree.extend(children[number])
    return sum(resident.get(number, 0) for number in tree) / 1e6


def send_traffic(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out a plan of `bench.load` in a process of its own and return what happened.

    Raises:
        MeasuringError: the process failed.
    """
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(
        command, cwd=PROJECT, input=json.dumps(plan).encode(), capture_output=True
    )
    if done.returncode != 0:
        raise MeasuringError(f"The load failed.\n{done.stderr.decode()[-2000:]}")
    happened: dict[str, Any] = json.loads(done.stdout)
    return happened


def in_own_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what a function returns in a fresh process, whose memory is given back."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_quiet) as pool:
        return pool.submit(function, *arguments).result()


def _quiet() -> None:
    """Keep Rasa from reporting to its vendor, and the notices of its dependencies away."""
    import logging
    import warnings

    os.environ.setdefault("LOG_LEVEL", "WARNING")
    import sanic.app  # noqa: F401 - it turns deprecation warnings on, so it goes before the filter

    import assistant  # noqa: F401 - turns Rasa's reporting off, so it goes before Rasa

    warnings.simplefilter("ignore")
    from rasa.utils.log_utils import configure_structlog

    configure_structlog(logging.WARNING)  # else it shows every message that is parsed


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_of(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])


def _shown(command: list[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])
