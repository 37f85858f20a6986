"""The Python environments under comparison: what `pip install rasa` gives, and our lock's.

Both are made once and kept in `bench/cache/`; delete that folder to make them anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import PROJECT, MeasuringError, run, say

CACHE = PROJECT / "bench" / "cache"
STOCK_REQUIREMENT = "rasa[spacy]==3.6.21"

_DONE = ".complete"


def our_environment() -> Path:
    """Return the environment of requirements.lock, without what only development needs.

    Raises:
        MeasuringError: it cannot be made.
    """
    folder = CACHE / "ours"
    lock = PROJECT / "requirements.lock"
    if _is_complete(folder, lock.read_text(encoding="utf-8")):
        return folder
    say("Making the environment of requirements.lock.")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [str(PROJECT / "deploy" / "set-up"), str(folder), str(lock)]
    run(command, PROJECT, {}, CACHE / "ours.log")
    (folder / _DONE).write_text(lock.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def stock_environment() -> Path:
    """Return the environment that `pip install rasa[spacy]` gives today.

    Raises:
        MeasuringError: it cannot be made.
    """
    folder = CACHE / "stock"
    if _is_complete(folder, STOCK_REQUIREMENT):
        return folder
    say(f"Making the environment of {STOCK_REQUIREMENT}.")
    CACHE.mkdir(parents=True, exist_ok=True)
    uv, log = _uv(), CACHE / "stock.log"
    python = str(folder / "bin" / "python")
    run([uv, "venv", "--clear", "--python", sys.executable, str(folder)], PROJECT, {}, log)
    run([uv, "pip", "install", "--python", python, STOCK_REQUIREMENT], PROJECT, {}, log)
    (folder / _DONE).write_text(STOCK_REQUIREMENT, encoding="utf-8")
    return folder


def _is_complete(folder: Path, content: str) -> bool:
    mark = folder / _DONE
    return mark.exists() and mark.read_text(encoding="utf-8") == content


def _uv() -> str:
    """Return the uv that deploy/set-up found or brought."""
    known = (PROJECT / ".tools" / "bin" / "uv", Path.home() / ".local" / "bin" / "uv")
    for candidate in (*map(str, known), shutil.which("uv") or ""):
        if Path(candidate).is_file():
            works = subprocess.run([candidate, "--version"], capture_output=True, check=False)
            if works.returncode == 0:
                return candidate
    raise MeasuringError("Measuring needs uv to install stock Rasa. `make run` brings it.")


def size_megabytes(environment: Path) -> float:
    """Return what the installed packages take on disk, in 10^6 bytes, without compiled copies.

    Files that stand twice by a link count once, as they do on a disk.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, names, files in os.walk(environment / "lib" / "python3.10" / "site-packages"):
        names[:] = [name for name in names if name != "__pycache__"]
        for name in files:
            facts = os.lstat(Path(folder) / name)
            if (facts.st_dev, facts.st_ino) not in seen:
                seen.add((facts.st_dev, facts.st_ino))
                total += facts.st_size
    return total / 1e6


def package_versions(environment: Path) -> dict[str, str]:
    """Return the versions of the installed packages that the figures depend on most."""
    code = (
        "import importlib.metadata as m, json; print(json.dumps({d.metadata['Name'].lower():"
        " d.version for d in m.distributions()}))"
    )
    python = str(environment / "bin" / "python")
    done = subprocess.run([python, "-c", code], capture_output=True, check=True)
    import json

    found = json.loads(done.stdout)
    wanted = ("rasa", "rasa-sdk", "sanic", "sqlalchemy", "tensorflow", "numpy", "onnxruntime")
    return {name: found[name] for name in wanted if name in found}
