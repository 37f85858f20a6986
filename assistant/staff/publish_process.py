"""Trains a snapshot of the content and tries it, in a process of its own; `publishing.py` starts it.

Writes a line of JSON for each thing that happened: `step` (what is being done), `failed` (reasons; the
snapshot must not be served) or `model` (the file, which may be).
"""

from __future__ import annotations

import asyncio
import json
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from assistant.agent import ConversationAgent, ModelError
from assistant.content.check import OVERDUE, check_project
from assistant.content.examples import read_examples
from assistant.evaluation import agent_on_trial, unreached_buttons
from assistant.logs import configure_logs, gather_loggers
from assistant.safety.detector import SAFETY_AREA, SafetyRulesError, load_detector
from assistant.self_test import SelfTestError, golden_questions, self_test
from assistant.settings import project_folder
from assistant.training import TrainingError, train
from assistant.understanding.results import area_of

_MOST_REASONS = 8
_FORK = get_context("fork")


def publish(project: Path, served: Path | None) -> Path:
    """Train a project and try the model.

    Args:
        project: the snapshot.
        served: the model that is served now; None if it is not known.

    Raises:
        FailedError: it must not be served.
    """
    model = _checked_and_trained(project)
    _say(step="Asking the golden questions")
    try:
        agent = agent_on_trial(project, model)
        asyncio.run(self_test(agent, golden_questions(project)))
    except (ModelError, SelfTestError, SafetyRulesError) as error:
        raise FailedError(str(error)) from error
    _say(step="Trying the warning signs")
    _fail_if(missed_warnings(project, agent, served))
    _say(step="Trying every button")
    _fail_if([problem.message for problem in unreached_buttons(agent)])
    return model


def _checked_and_trained(project: Path) -> Path:
    """Train, and check the content meanwhile: training leaves a processor idle.

    Raises:
        FailedError: the content has problems, or cannot be trained on.
    """
    _say(step="Checking the content and training")
    # Not a pool: its process would wait for more work for ever if this one is killed.
    receiver, sender = _FORK.Pipe(duplex=False)
    _FORK.Process(target=_check, args=(project, receiver, sender)).start()
    sender.close()
    try:
        model = train(project, lambda line: _say(step=line.strip()))
    except Exception as error:
        _fail_if(_received(receiver))  # which say better what is wrong
        if isinstance(error, TrainingError):
            raise FailedError(str(error)) from error
        raise
    _fail_if(_received(receiver))
    return model


def _check(project: Path, receiver: Connection, sender: Connection) -> None:
    receiver.close()  # the other process's; else this one would not notice that the other is gone
    problems = check_project(project)
    sender.send([str(problem) for problem in problems if OVERDUE not in problem.message])


def _received(receiver: Connection) -> list[str]:
    try:
        problems: list[str] = receiver.recv()
    except EOFError:
        return ["The check of the content broke off. `assistant check` says what is wrong."]
    return problems


def missed_warnings(project: Path, agent: ConversationAgent, served: Path | None) -> list[str]:
    """Return a reason for each written example of a warning sign that gets no advice any more.

    Those that the served model does not know either are no reason: nothing became worse.

    Args:
        project: the project folder.
        agent: has the new model.
        served: the model that is served now; None if it is not known.
    """
    rules = load_detector(project)
    # What the rules find gets its advice whatever the model thinks of it.
    texts = [
        text
        for topic, examples in read_examples(project).items()
        if area_of(topic) == SAFETY_AREA
        for text in examples
        if rules.scan(text) is None
    ]
    missed = asyncio.run(_without_advice(agent, texts))
    if not missed:
        return []
    if served is None or not served.exists():
        return [
            "The model that is served now is not in the folder models any more, so it cannot be "
            "compared with. Restart the assistant and publish again."
        ]
    known = asyncio.run(_without_advice(agent_on_trial(project, served), missed))
    missed = [text for text in missed if text not in known]
    return [
        f"'{text[:80]}' tells of a warning sign and would no longer get its advice. Look for new "
        f"examples that are like it, and take them out."
        for text in missed
    ]


class FailedError(Exception):
    """The snapshot must not be served.

    Attributes:
        reasons: why, a sentence or two each.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


async def _without_advice(agent: ConversationAgent, texts: list[str]) -> list[str]:
    found = []
    for text in texts:
        parsed = await agent.parse_message(text)
        if parsed["intent"]["name"] != SAFETY_AREA:
            found.append(text)
    return found


def _fail_if(reasons: list[str]) -> None:
    if len(reasons) > _MOST_REASONS:
        left = len(reasons) - _MOST_REASONS
        reasons = [*reasons[:_MOST_REASONS], f"... and {left} more of this kind."]
    if reasons:
        raise FailedError(*reasons)


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    """Publish the project of `ASSISTANT_HOME`; the one argument is the model that is served now."""
    configure_logs(level="ERROR")
    gather_loggers()
    served = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        model = publish(project_folder(), served)
    except FailedError as error:
        _say(failed=list(error.reasons))
        sys.exit(1)
    _say(model=str(model))


if __name__ == "__main__":
    main()
