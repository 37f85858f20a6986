"""Training, and knowing whether it is needed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import assistant
from assistant.model_seal import forget_seal, is_sealed, seal
from assistant.understanding.code_version import code_version

_MODEL_NAME = "assistant-{digest}.tar.gz"
_KEPT_MODELS = 3  # the present one and two to go back to


class TrainingError(RuntimeError):
    """Rasa could not train; the message says why, as far as Rasa does."""


def model_path(project: Path) -> Path:
    """Return where the model for the present data, configuration and code lies or would lie.

    Raises:
        TrainingError: a file of the data is not readable.
    """
    return project / "models" / _MODEL_NAME.format(digest=_digest(project))


def train(project: Path, report: Callable[[str], None], force: bool = False) -> Path:
    """Train if there is no model for the present data; return the model.

    Args:
        project: the folder with `config.yml`, `domain.yml` and `data/`.
        report: takes a line of progress.
        force: train although there is a model.

    Raises:
        TrainingError: the data or the configuration cannot be trained on.
    """
    path = model_path(project)
    if is_sealed(path) and not force:
        return path
    report("Training the assistant; this takes about a minute.")
    from rasa.model_training import train as rasa_train
    from rasa.shared.exceptions import RasaException

    handler = _ProgressHandler(report)
    hooks = logging.getLogger("rasa.engine.training.hooks")
    hooks.addHandler(handler)
    hooks.setLevel(logging.INFO)
    hooks.propagate = False
    try:
        result = rasa_train(
            domain=str(project / "domain.yml"),
            config=str(project / "config.yml"),
            training_files=[str(project / "data")],
            output=str(path.parent),
            fixed_model_name=path.name,
            force_training=force,
        )
    except (RasaException, ValueError) as error:
        raise TrainingError(f"Training failed: {error}") from error
    finally:
        hooks.removeHandler(handler)
        hooks.propagate = True
    if result.model is None or not path.exists():
        raise TrainingError("Training failed: Rasa made no model. Its messages above say why.")
    seal(path)
    forget_old_models(path)
    report(f"Trained: {path.name}")
    return path


def forget_old_models(newest: Path) -> None:
    """Delete all models but the newest and two to go back to."""
    models = sorted(newest.parent.glob(_MODEL_NAME.format(digest="*")), key=_modified, reverse=True)
    for old in [model for model in models if model != newest][_KEPT_MODELS - 1 :]:
        old.unlink()
        forget_seal(old)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


class _ProgressHandler(logging.Handler):
    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report(f"  {record.getMessage()}")


def _digest(project: Path) -> str:
    """Digest what a model depends on. The words of answers are not part of it: they are read live."""
    digest = hashlib.sha256(assistant.__version__.encode())
    digest.update(code_version().encode())
    digest.update((project / "config.yml").read_bytes())
    for path in [project / "domain.yml", *sorted((project / "data").rglob("*.yml"))]:
        digest.update(path.relative_to(project).as_posix().encode())
        digest.update(json.dumps(_without_answers(path), sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _without_answers(path: Path) -> Any:
    try:
        document = YAML(typ="safe", pure=False).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise TrainingError(
            f"{path.name}{line} is not readable as YAML. `assistant check` says what is wrong with it."
        ) from error
    if isinstance(document, dict) and isinstance(document.get("responses"), dict):
        return {**document, "responses": sorted(document["responses"])}
    return document
