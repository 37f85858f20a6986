"""Golden questions: asked before the assistant says that it is ready."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from assistant.channels.conversation import converse
from assistant.storage.private_conversations import PRIVATE

_SECONDS = 30.0


class SelfTestError(RuntimeError):
    """The assistant does not answer as it must; the message says which question, and how."""


@dataclass(frozen=True)
class GoldenQuestion:
    """A question and the topic that must answer it."""

    ask: str
    topic: str


def golden_questions(project: Path) -> list[GoldenQuestion]:
    """Read `data/golden_questions.yml`.

    Raises:
        SelfTestError: the file is missing, empty or has another form.
    """
    path = project / "data" / "golden_questions.yml"
    try:
        rows = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["golden_questions"]
        questions = [GoldenQuestion(str(row["ask"]), str(row["topic"])) for row in rows]
    except (OSError, YAMLError, KeyError, TypeError) as error:
        raise SelfTestError(
            f"{path} cannot be read ({error}). It needs 'golden_questions:' and below it lines "
            f"'- ask: ...' with 'topic: ...'."
        ) from error
    if not questions:
        raise SelfTestError(f"{path} holds no question.")
    return questions


async def self_test(agent: Any, questions: list[GoldenQuestion]) -> None:
    """Ask each question in a conversation of its own, which is kept nowhere.

    Args:
        agent: Rasa's agent.
        questions: what to ask.

    Raises:
        SelfTestError: one is answered by another topic, or not at all.
    """
    for question in questions:
        name = f"{PRIVATE}self-test-{uuid.uuid4().hex}"
        messages = await converse(agent.handle_message, name, question.ask, _SECONDS)
        topics = [str(message["metadata"].get("topic", "")) for message in messages]
        if question.topic not in topics:
            found = ", ".join(filter(None, topics)) or "an apology"
            raise SelfTestError(
                f"The self-test failed: {question.ask!r} must be answered by {question.topic}, but "
                f"got {found}. The log says more if something broke."
            )
