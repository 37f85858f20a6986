"""Changes `office.yml` fact by fact: all lines that a change is not about stay as they are, to the byte.

A YAML writer would set the whole file anew. Here only the lines of facts that change are replaced, and
before anything is written the result is read again and compared with what was wanted.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from assistant.content.catalogue import FILLED_IN, NOT_FILLED_IN
from assistant.content.office import office_problems

Facts = dict[str, Any]
"""Facts by name as YAML holds them: texts, numbers, yes and no, lists and mappings; None is empty."""

_KEY = re.compile(r"[A-Za-z_]+(?=:(?:\s|$))")
_FLAT = ("closures", "prices", "practitioners")  # a line for each entry, as the file says itself


class OfficeEditError(ValueError):
    """The file cannot be changed here; the message says why and what to do."""


class OfficeValuesError(OfficeEditError):
    """Some facts cannot be stored.

    Attributes:
        problems: what is wrong with each, by its name.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name} {problem}" for name, problem in problems.items()))
        self.problems = problems


@dataclass(frozen=True)
class OfficeText:
    """The file as it is, or as it would be.

    Attributes:
        text: all of it.
        facts: what it says.
    """

    text: str
    facts: Facts

    @property
    def digest(self) -> str:
        """Return what changes with the text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def difference(self, after: OfficeText) -> list[tuple[str, str]]:
        """Return the lines that differ: "-" or "+", and the line."""
        lines = difflib.ndiff(self.text.splitlines(), after.text.splitlines())
        return [(line[0], line[2:]) for line in lines if line[0] in "-+"]


def read_office_text(path: Path) -> OfficeText:
    """Read the file.

    Raises:
        OfficeEditError: it cannot be read, or is not written as a line for each fact.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OfficeEditError(f"{path.name} cannot be read: {error}") from None
    return parsed_office_text(text)


def changed_office_text(before: OfficeText, facts: Facts) -> OfficeText:
    """Return the file with some facts changed.

    Args:
        before: the file as it is.
        facts: the facts to set, all others stay.

    Raises:
        OfficeValuesError: facts are wrong or cannot be stored.
        OfficeEditError: the file is written in a way that needs a person.
    """
    problems = {
        name: f"holds {NOT_FILLED_IN}" for name, value in facts.items() if FILLED_IN in str(value)
    }
    wanted = {**before.facts, **facts}
    problems = {**office_problems(wanted), **problems}
    if problems:
        raise OfficeValuesError(problems)
    text = before.text
    for name, value in facts.items():
        if name not in before.facts or _plain(before.facts[name]) != _plain(value):
            text = _with_fact(text, name, value)
    after = parsed_office_text(text)
    if {name: _plain(value) for name, value in after.facts.items()} != {
        name: _plain(value) for name, value in wanted.items()
    }:
        raise OfficeEditError(
            "office.yml is written in a way that these pages cannot change without harm. Change it "
            "by hand."
        )
    return after


def write_office_text(path: Path, before: OfficeText, after: OfficeText) -> None:
    """Put the new text in place of the old, at once: no reader sees half of it.

    Raises:
        OfficeEditError: the file was changed meanwhile, or cannot be written.
    """
    if read_office_text(path).text != before.text:
        raise OfficeEditError(f"{path.name} was changed meanwhile. Look at it and try again.")
    where = path.resolve()  # of a link, what it leads to
    temporary = ""
    try:
        number, temporary = tempfile.mkstemp(dir=where.parent, prefix=f".{path.name}-")
        with os.fdopen(number, "wb") as file:
            file.write(after.text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, where.stat().st_mode & 0o777)
        os.replace(temporary, where)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OfficeEditError(
            f"{path.name} cannot be written ({error.strerror}). The server's user must be allowed "
            f"to change it and its folder."
        ) from None


def parsed_office_text(text: str) -> OfficeText:
    """Read the file's text.

    Raises:
        OfficeEditError: it is no YAML, or not written as a line for each fact.
    """
    try:
        document = YAML(typ="rt").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise OfficeEditError(
            f"office.yml is not readable as YAML{line}. Mend it by hand; `assistant check` says what "
            f"is wrong."
        ) from None
    if document is None:
        document = CommentedMap()
    if not isinstance(document, CommentedMap) or document.fa.flow_style():
        raise OfficeEditError("office.yml is not a line for each fact. Change it by hand.")
    return OfficeText(text, {str(name): _unmarked(value) for name, value in document.items()})


def _unmarked(value: Any) -> Any:
    """Return a value of the file without what ruamel keeps with it."""
    if isinstance(value, Mapping):
        return {str(name): _unmarked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return int(value) if isinstance(value, int) else str(value)


def _plain(value: Any) -> Any:
    """Return a value for comparing: what means the same is the same."""
    if isinstance(value, Mapping):
        items = {str(name): _plain(item) for name, item in value.items()}
        return {name: item for name, item in items.items() if item is not None} or None
    if isinstance(value, list):
        return [_plain(item) for item in value] or None
    if isinstance(value, bool | int):
        return value
    return (str(value).strip() or None) if value is not None else None


def _with_fact(text: str, name: str, value: Any) -> str:
    """Return the text with the lines of one fact replaced, or added at the end."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    starts = [place for place, line in enumerate(lines) if _KEY.match(line)]
    place = next((at for at in starts if _KEY.match(lines[at])[0] == name), None)  # type: ignore[index]
    if place is None:
        if lines and not lines[-1].endswith(("\n", "\r")):
            lines[-1] += end
        return "".join(lines) + _written(name, value, "", end)
    after = next((at for at in starts if at > place), len(lines))
    while after > place + 1 and _belongs_to_the_next(lines[after - 1]):
        after -= 1
    written = _written(name, value, lines[place].rstrip("\r\n"), end)
    return "".join([*lines[:place], written, *lines[after:]])


def _belongs_to_the_next(line: str) -> bool:
    return not line.strip() or line.startswith("#")


def _written(name: str, value: Any, before: str, end: str) -> str:
    """Return the lines of a fact, with the comment that stood on its first line."""
    in_one_line = before.partition(":")[2].lstrip().startswith("[")
    head, *rest = _dumped(name, value, in_one_line).splitlines()
    comment = _comment_of(before)
    if comment:
        column = before.rindex(comment)
        head = f"{head.ljust(column - 1)} {comment}" if len(head) < column else f"{head}  {comment}"
    return "".join(f"{line}{end}" for line in (head, *rest))


def _comment_of(line: str) -> str:
    """Return the comment at the end of a fact's first line; "" without."""
    if not line:
        return ""
    try:
        found = YAML(typ="rt").load(line)
    except YAMLError:  # a list or quoted text that goes on in the next line
        return ""
    tokens = [
        token
        for group in (*found.ca.items.values(), found.ca.comment or ())
        for part in (group or ())
        for token in (part if isinstance(part, list) else [part])
        if token is not None
    ]
    texts = [str(token.value).strip() for token in tokens]
    return next((text for text in texts if text.startswith("#") and line.endswith(text)), "")


def _dumped(name: str, value: Any, in_one_line: bool) -> str:
    if _plain(value) is None:
        return f"{name}:"
    writer = YAML(typ="rt")
    writer.width = 100_000
    writer.indent(mapping=2, sequence=4, offset=2)
    file = io.StringIO()
    writer.dump(CommentedMap({name: _styled(name, value, in_one_line)}), file)
    return file.getvalue()


def _styled(name: str, value: Any, in_one_line: bool) -> Any:
    """Return a value in the style of the file: times in quotes, an entry of a list in one line."""
    if isinstance(value, str):
        return LiteralScalarString(f"{value}\n") if "\n" in value else _quoted(value)
    if isinstance(value, Mapping):
        return CommentedMap({key: _quoted(item) for key, item in value.items() if item})
    if isinstance(value, list) and name in _FLAT:
        entries = CommentedSeq()
        for item in value:
            entry = CommentedMap({key: _entry(part) for key, part in item.items() if part})
            entry.fa.set_flow_style()
            entries.append(entry)
        return entries
    if isinstance(value, list):
        items = CommentedSeq(_quoted(item) for item in value)
        if in_one_line:
            items.fa.set_flow_style()
        return items
    return value


def _entry(value: Any) -> Any:
    if isinstance(value, list):
        names = CommentedSeq(_quoted(item) for item in value)
        names.fa.set_flow_style()
        return names
    return _quoted(value)


def _quoted(value: Any) -> Any:
    """Return a text in quotes where plain it would look odd or mean something else."""
    text = str(value)
    odd = re.search(r"[:#$\"']|^[\W\d]", text) and not text.startswith(("https://", "("))
    other = re.fullmatch("(?i)yes|no|on|off|y|n", text)  # no text for older readers of YAML
    return DoubleQuotedScalarString(text) if odd or other else text
