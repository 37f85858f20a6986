"""The training examples as their editors wrote them, with the line each stands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode


@dataclass(frozen=True)
class Example:
    """One phrasing of a visitor's, and where it stands."""

    text: str
    topic: str
    file: Path
    line: int


def example_files(project: Path) -> list[Path]:
    """Return the files that hold examples."""
    data = project / "data"
    return [
        data / "nlu.yml",
        data / "safety" / "answers.yml",
        *sorted((data / "faq").glob("*.yml")),
    ]


def read_examples(project: Path) -> dict[str, list[str]]:
    """Return the examples of every topic, without the lines they stand on: that is twenty times faster."""
    texts: dict[str, list[str]] = {}
    for path in example_files(project):
        document = YAML(typ="safe", pure=False).load(path.read_text(encoding="utf-8"))
        for item in document.get("nlu") or []:
            lines = [line.strip() for line in item["examples"].splitlines()]
            found = [line[2:].strip() for line in lines if line.startswith("- ")]
            texts.setdefault(str(item["intent"]), []).extend(found)
    return texts


def located_examples(path: Path) -> list[Example]:
    """Return the examples of a file with their lines; none if it has no `nlu:`."""
    root = YAML(typ="safe", pure=False).compose(path)
    found: list[Example] = []
    for item in _items(_value(root, "nlu")):
        intent, block = _value(item, "intent"), _value(item, "examples")
        if not isinstance(intent, ScalarNode) or not isinstance(block, ScalarNode):
            continue
        first = block.start_mark.line + 2  # the lines of a block begin below its `|`
        for offset, line in enumerate(block.value.splitlines()):
            text = line.strip()
            if text.startswith("- "):
                found.append(Example(text[2:].strip(), str(intent.value), path, first + offset))
    return found


def _value(node: object, key: str) -> object:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if name.value == key:
                return value
    return None


def _items(node: object) -> list[object]:
    return list(node.value) if isinstance(node, SequenceNode) else []
