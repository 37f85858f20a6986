"""Rasa's own commands work in this folder, as anyone who knows Rasa expects."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import PROJECT


def rasa(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LOG_LEVEL": "INFO", "RASA_TELEMETRY_ENABLED": "false"}
    return subprocess.run(
        [sys.executable, "-m", "rasa", *arguments],
        cwd=PROJECT, env={**environment, "RESULTS": str(folder)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_stories_pass_and_there_are_some(model: Path, tmp_path: Path) -> None:
    result = rasa(
        "test", "core", "--model", str(model), "--stories", "tests/test_stories.yml",
        "--out", str(tmp_path), "--e2e", "--fail-on-prediction-errors", "--no-plot",
        folder=tmp_path,
    )  # fmt: skip
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-3000:]
    counted = re.search(r"Evaluating (\d+) stories", output)
    assert counted, output[-3000:]
    assert int(counted.group(1)) >= 6
    report = json.loads((tmp_path / "story_report.json").read_text())
    assert report["conversation_accuracy"]["accuracy"] == 1.0


def test_rasas_own_check_of_the_data_passes() -> None:
    result = rasa("data", "validate", folder=PROJECT)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]


def test_every_action_of_the_domain_is_there() -> None:
    from rasa.shared.core.domain import Domain
    from rasa_sdk.executor import ActionExecutor

    executor = ActionExecutor()
    executor.register_package("actions")
    domain = Domain.load(str(PROJECT / "domain.yml"))
    custom = {name for name in domain.user_actions if name.startswith(("action_", "validate_"))}
    assert custom
    assert custom == set(executor.actions)


def test_rasa_loads_without_tensorflow_and_says_what_needs_it() -> None:
    """No part of the real one is there, and trying to compute with it tells what to install."""
    from rasa.nlu.classifiers.diet_classifier import DIET

    assert version("tensorflow") == "2.12.0+placeholder"
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert loaded.isdisjoint({"tensorboard", "h5py", "tensorflow_estimator"})
    with pytest.raises(ImportError, match=r"^DIET needs TensorFlow.*pip install 'rasa\[spacy\]"):
        DIET(None)
