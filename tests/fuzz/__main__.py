"""The whole bad-input suite: starts a server, sends everything, reports.

python -m tests.fuzz                        all three parts, as `make fuzz` does
python -m tests.fuzz --generated 2000       the same, shorter
python -m tests.fuzz --repeat FILE          one finding once more
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from assistant.training import train
from tests.conftest import PROJECT, Server, start_server, stop_server
from tests.fuzz.generated import generated
from tests.fuzz.inputs import Input, curated
from tests.fuzz.judge import LATE_SECONDS, Judge
from tests.fuzz.run import CANARIES, CONNECTIONS, Finding, Fuzz, Report, each, keep, repeat
from tests.fuzz.watch import Watch
from tests.fuzz.wire import Connection

RESULTS = PROJECT / "results" / "fuzz"
SECRET = "the-fuzz-signs-its-own-tokens-with-this-secret"
DESCRIBED_SECONDS = 180
REAL_LIMITS = {
    "WEBCHAT_SESSION_RATE": "",
    "WEBCHAT_SESSION_BURST": "",
    "WEBCHAT_ADDRESS_RATE": "",
    "WEBCHAT_ADDRESS_BURST": "",
}
HIGH_LIMITS = {
    "WEBCHAT_SESSION_RATE": "10000",
    "WEBCHAT_SESSION_BURST": "100000",
    "WEBCHAT_ADDRESS_RATE": "100000",
    "WEBCHAT_ADDRESS_BURST": "1000000",
}


def main() -> int:
    """Run what was asked for; return the exit status: 0 if nothing was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--generated", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop the generated inputs after so long"
    )
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help="at once, generated (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=20_260_101, help="of the generated inputs")
    parser.add_argument(
        "--parts", nargs="+", default=["curated", "generated", "limits", "described"],
        choices=["curated", "generated", "limits", "described"], help="which parts to run",
    )  # fmt: skip
    parser.add_argument("--repeat", type=Path, help="a finding's file")
    chosen = parser.parse_args()
    train(PROJECT, _say)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        if chosen.repeat:
            return _repeat(chosen.repeat, Path(folder))
        return _run(chosen, Path(folder))


def _run(chosen: argparse.Namespace, folder: Path) -> int:
    findings: list[Finding] = []
    server = _start(folder, HIGH_LIMITS)
    watch = Watch(server)
    began, memory = time.monotonic(), watch.memory()
    try:
        if "curated" in chosen.parts:
            inputs = curated()
            lines = len({one.name for one in inputs})
            _say(f"Curated: {lines} inputs, some in several places of a conversation.")
            findings += _part(watch, inputs)
        if "generated" in chosen.parts:
            _say(f"Generated: {chosen.generated} inputs, seed {chosen.seed}.")
            findings += _part(
                watch, generated(chosen.generated, chosen.seed), chosen.minutes, chosen.connections
            )
        if "described" in chosen.parts:
            _say("Described: schemathesis over docs/openapi.yaml.")
            findings += described(server, chosen.seed)
        findings += _last_look(watch, memory, time.monotonic() - began)
    finally:
        findings += _stop(server)
    if "limits" in chosen.parts:
        findings += _limits(folder, chosen.seed)
    for path, finding in zip(keep(findings, RESULTS), findings, strict=True):
        _say(f"FOUND {finding}\n      again: python -m tests.fuzz --repeat {path}")
    _say(f"{len(findings)} findings." if findings else "Nothing was found.")
    return 1 if findings else 0


def _start(folder: Path, limits: dict[str, str]) -> Server:
    return start_server(folder, WEBCHAT_SECRET=SECRET, **limits)


def _stop(server: Server) -> list[Finding]:
    try:
        if server.process.poll() is None:
            stop_server(server)
    except AssertionError as error:
        return [Finding.plain("the end", str(error))]
    return []


def _part(
    watch: Watch, inputs: Iterable[Input], minutes: float = math.inf, connections: int = CONNECTIONS
) -> list[Finding]:
    """Send inputs and tell how it went."""
    began, processor = time.monotonic(), watch.processor_seconds()
    fuzz = Fuzz(watch, Judge(CANARIES), SECRET, _say)
    report = asyncio.run(fuzz.run(each(inputs, minutes * 60), connections))
    seconds = time.monotonic() - began
    if seconds > minutes * 60:
        _say(f"  Stopped after {minutes:g} minutes; what follows is of the inputs until then.")
    if watch.is_alive():
        processor = watch.processor_seconds() - processor
        _say(
            f"  {report.sent} inputs in {seconds:.0f} s; the server took {processor:.0f} s of a core"
        )
    _tell(report)
    return report.findings


def _tell(report: Report) -> None:
    statuses = ", ".join(
        f"{n} x {status or 'none'}" for status, n in sorted(report.statuses.items())
    )
    _say(f"  by status: {statuses}")
    places = ", ".join(f"{n} in {place}" for place, n in sorted(report.places.items()))
    _say(f"  messages that were answered: {sum(report.places.values())}: {places}")
    _say(
        f"  by topic's area: {', '.join(f'{n} {area}' for area, n in report.topics.most_common())}"
    )
    for seconds, waited, name, why in sorted(report.slowest, reverse=True)[:5]:
        own = f"{seconds - waited:.2f} s of its own" if waited > 0.05 else "all its own"
        _say(f"  slow: {seconds:.2f} s ({own}): {name} {why}")


def _last_look(watch: Watch, memory: float, seconds: float) -> list[Finding]:
    if not watch.is_alive():
        return [Finding.plain("the process", f"it exited with {watch.server.process.poll()}")]
    _say(
        f"The process is the same as {seconds:.0f} s ago; resident memory {memory:.0f} MB at the "
        f"beginning, {watch.memory():.0f} MB at the end."
    )
    return []


def _limits(folder: Path, seed: int) -> list[Finding]:
    """Send a part with the limits that visitors meet: 429s, but nothing else that is wrong."""
    _say("Limits: 600 generated inputs as fast as possible, with the limits of an installation.")
    place = folder / "limits"
    place.mkdir()
    server = _start(place, REAL_LIMITS)
    watch = Watch(server)
    try:
        fuzz = Fuzz(watch, Judge(CANARIES), SECRET, _say)
        report = asyncio.run(fuzz.hurry(list(generated(600, seed + 1))))
        _tell(report)
        found = list(report.findings)
        if not report.statuses[429]:
            found.append(Finding.plain("limits", "nobody was asked to wait"))
        time.sleep(11)  # the bucket of an address fills in ten seconds
        after = asyncio.run(Fuzz(watch, Judge(CANARIES), SECRET, _say).calm())
        return found + after
    finally:
        _stop(server)


def described(server: Server, seed: int) -> list[Finding]:
    """Run schemathesis in its own environment over the description."""
    tool = PROJECT / ".venv-fuzz" / "bin" / "st"
    if not tool.exists():
        return [Finding.plain("described", f"{tool} is missing; `make fuzz` makes it")]
    command = [
        str(tool), "--config-file", str(Path(__file__).parent / "schemathesis.toml"), "run",
        str(PROJECT / "docs" / "openapi.yaml"), "--url", server.url, "--seed", str(seed),
        "--max-response-time", str(LATE_SECONDS), "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=Path(__file__).parent, check=False)
    if done.returncode == 0:
        return []
    return [Finding.plain("described", f"schemathesis exited with {done.returncode}, see above")]


def _repeat(path: Path, folder: Path) -> int:
    finding = Finding(**json.loads(path.read_text(encoding="utf-8")))
    server = _start(folder, HIGH_LIMITS)
    try:
        connection = Connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        answer = asyncio.run(repeat(finding, connection))
        _say(f"{finding}\n{answer.status} {answer.trouble} in {answer.seconds:.2f} s")
        _say(answer.body.decode("utf-8", "replace"))
        _say(server.log.read_text(errors="replace")[-5000:])
    finally:
        _stop(server)
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
