"""Editing the content: one topic at a time, in the same YAML files that can be edited by hand.

A change touches only the lines that it is about: comments, order and quotes of all others stay. It is
checked as a whole before a file is written, and kept so that it can be taken back.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import (
    DoubleQuotedScalarString,
    LiteralScalarString,
    SingleQuotedScalarString,
)
from sqlalchemy.engine import Engine

from assistant.content.catalogue import FILLED_IN, NOT_FILLED_IN, UTTER, content_files
from assistant.content.examples import example_files
from assistant.redaction import redact
from assistant.safety.detector import SAFETY_AREA, load_detector
from assistant.storage.database import connected, content_changes, transaction

LONGEST_EXAMPLE = 300  # characters
LISTS = ("sources", "follow_ups")
"""Details of an answer that are lists of names."""

DETAILS = ("title", "question", "sources", "evidence", "reviewed_on", "follow_ups")
"""What is known about an answer, in the order in which the files have it."""

OUT_OF_SCOPE = "out_of_scope"
"""The area of what the assistant turns away."""

_TOPIC = re.compile(r"[a-z]+/[a-z][a-z0-9_]*")
_CONTEXT = 3  # lines around a changed one, by which it is found again
_CHECK_SECONDS = 25.0  # for the check of a save; a page waits some seconds longer
_PROBLEM = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): (?P<message>.*)")
_PLACE_IN_FILE = re.compile(r"(\.yml):\d+")


class EditRefusedError(ValueError):
    """A change that is not made; nothing was written.

    Attributes:
        reasons: what is wrong and what to do, a sentence or two each.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


class EditConflictError(EditRefusedError):
    """Somebody else changed the same topic meanwhile; nothing was written."""


class NoSuchTopicError(LookupError):
    """There is no topic of that name."""


@dataclass(frozen=True)
class Topic:
    """A topic as its files hold it.

    Attributes:
        name: as `diet/gluten`, or `greet`.
        file: where it stands, relative to the project.
        examples: how visitors put it.
        texts: the wordings of its answer; the first whose facts are known is used.
        details: what is known about the answer (`DETAILS`); lists of names are tuples.
        digest: changes with whatever is changed of the topic.
    """

    name: str
    file: str
    examples: tuple[str, ...]
    texts: tuple[str, ...]
    details: Mapping[str, str | tuple[str, ...]]
    digest: str

    @property
    def is_advice(self) -> bool:
        """Whether it is advice on a red flag, which no page changes."""
        return self.name.partition("/")[0] == SAFETY_AREA


@dataclass(frozen=True)
class Edit:
    """What shall become of one topic.

    Attributes:
        topic: its name.
        seen: the topic's digest when the editor looked; "" if nothing that the editor saw matters,
            as when an example is added.
        added, removed: examples.
        texts: the wordings of its answer, as many as there are; None to leave them. An empty one is
            left out.
        details: those of `DETAILS` to change.
        creates: whether the topic is new.
    """

    topic: str
    seen: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None
    details: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    creates: bool = False


@dataclass(frozen=True)
class Region:
    """Lines of a file before and after a change, with some unchanged ones around."""

    file: str
    before: str
    after: str


@dataclass(frozen=True)
class Change:
    """A change that was made.

    Attributes:
        number: its number.
        at: seconds since 1970.
        account: who made it.
        action: what was done, in a word or two.
        topic: which topic it was about.
        difference: as `diff -u` shows it.
        undoes: the number of the change that it took back; 0 for none.
        undone: whether it was taken back itself.
    """

    number: int
    at: float
    account: str
    action: str
    topic: str
    difference: str
    undoes: int
    undone: bool


class ContentEditor:
    """Reads and changes the content of a project.

    Args:
        project: the project folder.
        engine: the database, which keeps the changes.
        seconds: how long a save may take to check; then it is refused, so that nobody is left
            without an answer.
    """

    def __init__(self, project: Path, engine: Engine, seconds: float = _CHECK_SECONDS) -> None:
        self._seconds = seconds
        self._project = project
        self._engine = engine
        self._lock = threading.Lock()
        self._checked: tuple[str, frozenset[str]] = ("", frozenset())

    def topics(self) -> list[Topic]:
        """Return all topics, in the order of the files.

        Raises:
            EditRefusedError: a file cannot be read.
        """
        return _topics(self._read())

    def topic(self, name: str) -> Topic:
        """Return one topic.

        Raises:
            NoSuchTopicError: there is none of that name.
            EditRefusedError: a file cannot be read.
        """
        for topic in self.topics():
            if topic.name == name:
                return topic
        raise NoSuchTopicError(name)

    def difference(self, edits: Sequence[Edit]) -> str:
        """Return what edits would change, as `diff -u` shows it; nothing is checked or written.

        Raises:
            EditRefusedError: they cannot be made.
        """
        files = self._read()
        return _difference(files, _edited(files, edits))

    def problems(self, edits: Sequence[Edit]) -> list[str]:
        """Return what the content check would find that it does not find now; takes seconds.

        Raises:
            EditRefusedError: the edits cannot be made.
        """
        files = self._read()
        return self._new_problems(files, _edited(files, edits))

    def save(self, edits: Sequence[Edit], account: str, action: str) -> Change:
        """Make edits: all or none. Takes seconds, for the content check.

        Args:
            edits: what shall change; for a move, two.
            account: who does it.
            action: what it is, in a word or two.

        Raises:
            EditConflictError: somebody else changed one of the topics since the editor looked.
            EditRefusedError: they are not made; says why.
            StorageError: the database failed; nothing was written.
        """
        for edit in edits:
            _refuse_dangers(self._project, edit)
        with self._alone():
            files = self._read()
            changed = _edited(files, edits)
            return self._write(files, changed, account, action, edits[0].topic, undoes=0)

    def history(self, topic: str = "", most: int = 50) -> list[Change]:
        """Return the changes, the newest first.

        Args:
            topic: only those of this topic; "" for all.
            most: how many.
        """
        undone = sa.select(content_changes.c.undoes).where(content_changes.c.undoes > 0)
        query = sa.select(
            content_changes, content_changes.c.id.in_(undone).label("undone")
        ).order_by(content_changes.c.id.desc())
        if topic:
            query = query.where(content_changes.c.topic == topic)
        with connected(self._engine) as connection:
            rows = connection.execute(query.limit(most)).all()
        return [_change_of(row) for row in rows]

    def undo(self, number: int, account: str) -> Change:
        """Take a change back; that is a change too, and is checked like any other.

        Raises:
            EditConflictError: its lines were changed since.
            EditRefusedError: there is no such change, or without it the content would not pass.
        """
        query = sa.select(content_changes).where(content_changes.c.id == number)
        with self._alone():
            with connected(self._engine) as connection:
                row = connection.execute(query).first()
                taken_back = connection.execute(
                    sa.select(content_changes.c.id).where(content_changes.c.undoes == number)
                ).first()
            if row is None:
                raise EditRefusedError(f"There is no change number {number}.")
            if taken_back is not None:
                raise EditRefusedError(f"Change number {number} was taken back already.")
            files = self._read()
            changed = dict(files)
            for item in json.loads(row.regions):
                region = Region(**item)
                text = changed.get(region.file, "")
                if text.count(region.after) != 1:
                    raise EditConflictError(
                        f"The lines of change number {number} in {region.file} were changed since. "
                        f"Change them by hand, or take the later change back first."
                    )
                changed[region.file] = text.replace(region.after, region.before)
            return self._write(files, changed, account, "undo", row.topic, undoes=number)

    def _write(
        self,
        files: dict[str, str],
        changed: dict[str, str],
        account: str,
        action: str,
        topic: str,
        undoes: int,
    ) -> Change:
        difference = _difference(files, changed)
        if not difference:
            raise EditRefusedError("Nothing is different from what is stored already.")
        problems = self._new_problems(files, changed)
        if problems:
            raise EditRefusedError(*problems)
        fresh = {name: text for name, text in changed.items() if files[name] != text}
        regions = [region for name in fresh for region in _regions(name, files[name], fresh[name])]
        row = {
            "at": time.time(),
            "account": account,
            "action": action,
            "topic": topic,
            "difference": difference,
            "regions": json.dumps([dataclasses.asdict(region) for region in regions]),
            "undoes": undoes,
        }
        if self._read() != files:
            raise EditConflictError("A file was changed in this moment. Look at it and try again.")
        written: list[str] = []
        try:
            with transaction(self._engine) as connection:
                (number,) = connection.execute(
                    sa.insert(content_changes).values(row)
                ).inserted_primary_key
                for name, text in fresh.items():
                    _replace(self._project / name, text)
                    written.append(name)
        except BaseException as error:
            for name in written:
                _replace(self._project / name, files[name])
            if isinstance(error, OSError):
                raise EditRefusedError(
                    f"The content files cannot be written ({error.strerror}). The server's user "
                    f"must be allowed to change the folder data."
                ) from error
            raise
        return Change(
            number=number, at=time.time(), account=account, action=action, topic=topic,
            difference=difference, undoes=undoes, undone=False,
        )  # fmt: skip

    def _new_problems(self, files: dict[str, str], changed: dict[str, str]) -> list[str]:
        """Return what is wrong after a change and was not before: an overdue review blocks no other."""
        end = time.monotonic() + self._seconds
        after = self._check(changed, end)
        if not after:
            self._checked = (_digest_of(changed), frozenset())
            return []
        if self._checked[0] != _digest_of(files):
            self._checked = (_digest_of(files), frozenset(map(_placeless, self._check(files, end))))
        return [problem for problem in after if _placeless(problem) not in self._checked[1]]

    def _check(self, files: dict[str, str], end: float) -> list[str]:
        """Run the content check on files, in a process of its own: visitors must not wait for it."""
        with staged(self._project, files) as folder:
            command = in_background("-m", "assistant.command_line", "check", "--no-buttons")
            environment = {**os.environ, "ASSISTANT_HOME": str(folder)}
            try:
                result = subprocess.run(  # noqa: S603 - our own command
                    command, env=environment, capture_output=True, text=True, check=False,
                    timeout=max(0.0, end - time.monotonic()),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise EditRefusedError(
                    f"The content check did not end within {self._seconds:g} seconds, so nothing is "
                    f"saved. Is the machine busy? Try again in a moment."
                ) from None
        problems = [line for line in result.stdout.splitlines() if _PROBLEM.fullmatch(line)]
        if result.returncode and not problems:
            last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise EditRefusedError(f"The content check did not run, so nothing is saved: {last}")
        return problems

    def _read(self) -> dict[str, str]:
        """Return the text of every file that holds examples or answers, by its name."""
        paths = dict.fromkeys([*example_files(self._project), *content_files(self._project)])
        try:
            return {
                path.relative_to(self._project).as_posix(): path.read_bytes().decode("utf-8")
                for path in paths
            }
        except (OSError, UnicodeDecodeError) as error:
            raise EditRefusedError(f"A content file cannot be read: {error}") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one change through after the other, also those of other processes on this machine."""
        folder = self._project / "var"
        with self._lock:
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
                file = (folder / "content.lock").open("w")
            except OSError as error:
                raise EditRefusedError(
                    f"The folder {folder.name} cannot be written ({error.strerror}), which saving needs."
                ) from error
            with file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield


@contextmanager
def staged(project: Path, files: Mapping[str, str]) -> Iterator[Path]:
    """Provide a copy of all that a model depends on, with some files' texts in place of the project's."""
    with tempfile.TemporaryDirectory(prefix="assistant-content-") as name:
        folder = Path(name)
        shutil.copytree(project / "data", folder / "data")
        for path in (*project.glob("*.yml"),):
            shutil.copy(path, folder)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        yield folder


def new_example_dangers(project: Path, topic: str, text: str) -> list[str]:
    """Return why a sentence must not become an example of a topic; empty if it may.

    Args:
        project: the project folder, for the rules on red flags.
        topic: whose example it would be.
        text: the sentence.
    """
    found = []
    plain = text.strip()
    if not plain or len(plain) > LONGEST_EXAMPLE or len(plain.splitlines()) > 1:
        found.append(
            f"An example is one line of 1 to {LONGEST_EXAMPLE} characters: '{plain[:40]}'."
        )
    if FILLED_IN in plain:
        found.append(f"'{plain[:40]}' holds {NOT_FILLED_IN}")
    if redact(plain) != plain:
        found.append(
            f"'{plain[:40]}' holds what looks like personal data. Write it without names, numbers, "
            f"dates and addresses."
        )
    flag = load_detector(project).scan(plain)
    if flag and topic.partition("/")[0] != SAFETY_AREA:
        found.append(
            f"'{plain[:60]}' tells of a warning sign ({flag.rule.replace('_', ' ')}). The assistant "
            f"answers it with advice on that, and must not learn it as {topic}."
        )
    return found


def in_background(*arguments: str) -> list[str]:
    """Return a command of Python's that leaves the processor to visitors where they need it."""
    nice = shutil.which("nice")
    return [*([nice, "-n", "10"] if nice else []), sys.executable, *arguments]


def _refuse_dangers(project: Path, edit: Edit) -> None:
    if edit.topic.partition("/")[0] == SAFETY_AREA:
        raise EditRefusedError(
            "Advice on warning signs is not changed here: a clinician reviews data/safety first."
        )
    reasons = [r for text in edit.added for r in new_example_dangers(project, edit.topic, text)]
    given = [*(edit.texts or ()), *(v for v in edit.details.values() if isinstance(v, str))]
    reasons += [f"The text holds {NOT_FILLED_IN}" for text in given if FILLED_IN in text]
    if reasons:
        raise EditRefusedError(*dict.fromkeys(reasons))


def _yaml() -> YAML:
    """Return a reader and writer in the style of the content files."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1_000_000  # no line is broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _loaded(name: str, text: str) -> CommentedMap:
    _plain(name, text)  # says what is wrong with it
    return _yaml().load(text)


def _dumped(document: CommentedMap) -> str:
    text = io.StringIO()
    _yaml().dump(document, text)
    return text.getvalue()


def round_trip(text: str) -> str:
    """Return a file's text as it is after a change that changes nothing."""
    return _carried_over(text, _dumped(_loaded("", text)), _dumped(_loaded("", text)))


def _edited(files: dict[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """Return the files after edits.

    Raises:
        EditRefusedError: an edit does not fit them.
    """
    changed = dict(files)
    for edit in edits:
        topics = {topic.name: topic for topic in _topics(changed)}
        present = topics.get(edit.topic)
        if edit.creates:
            changed.update(_with_new_topic(changed, edit, topics))
            continue
        if present is None:
            raise EditRefusedError(f"There is no topic {edit.topic} (any more).")
        if edit.seen and edit.seen != present.digest:
            raise EditConflictError(
                f"Somebody else changed {edit.topic} since you opened it. Nothing of yours is saved "
                f"yet: copy your text, open the topic again, and put it in."
            )
        for name, text in changed.items():
            if edit.topic not in text:
                continue
            document = _loaded(name, text)
            before = _dumped(document)
            _edit_examples(document, edit)
            _edit_answer(document, edit)
            after = _dumped(document)
            if before != after:
                changed[name] = _carried_over(text, before, after)
                if _plain(name, changed[name]) != _plain(name, after):
                    raise EditRefusedError(
                        f"{name} is written in a way that cannot be changed here. Change it by hand."
                    )
    return changed


def _plain(name: str, text: str) -> dict[str, Any]:
    """Return what a file says, without its comments and order: that is read twenty times faster."""
    try:
        document = YAML(typ="safe", pure=False).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise EditRefusedError(
            f"{name}{line}: not readable as YAML. Mend the file by hand first."
        ) from error
    if not isinstance(document, dict):
        raise EditRefusedError(f"{name}: expected 'nlu:' and 'responses:'.")
    return document


def _topics(files: Mapping[str, str]) -> list[Topic]:
    examples: dict[str, list[str]] = {}
    answers: dict[str, Any] = {}
    home: dict[str, str] = {}
    for name, text in files.items():
        document = _plain(name, text)
        for item in document.get("nlu") or ():
            examples.setdefault(str(item["intent"]), []).extend(_examples_in(item["examples"]))
            home.setdefault(str(item["intent"]), name)
        for response, wordings in (document.get("responses") or {}).items():
            answers[str(response)[len(UTTER) :]] = wordings
            home.setdefault(str(response)[len(UTTER) :], name)
    return [
        _topic(name, file, examples.get(name, []), answers.get(name) or [])
        for name, file in home.items()
    ]


def _topic(name: str, file: str, examples: list[str], wordings: Any) -> Topic:
    plain = json.dumps([examples, wordings], default=str, sort_keys=True)
    first = (wordings[0].get("metadata") or {}) if wordings else {}
    return Topic(
        name=name,
        file=file,
        examples=tuple(examples),
        texts=tuple(str(item.get("text") or "") for item in wordings),
        details={
            key: tuple(map(str, first.get(key) or ()))
            if key in LISTS
            else str(first.get(key) or "")
            for key in DETAILS
        },
        digest=hashlib.sha256(plain.encode()).hexdigest()[:32],
    )


def _examples_in(block: str) -> list[str]:
    lines = [line.strip() for line in str(block).splitlines()]
    return [line[2:].strip() for line in lines if line.startswith("- ")]


def _edit_examples(document: CommentedMap, edit: Edit) -> None:
    items = [i for i in document.get("nlu") or () if str(i["intent"]) == edit.topic]
    if not items:
        return
    to_remove = set(edit.removed)
    for item in items:
        lines = str(item["examples"]).splitlines()
        kept = [ln for ln in lines if not (_examples_in(ln) and _examples_in(ln)[0] in to_remove)]
        if item is items[-1]:
            known = {text for other in items for text in _examples_in(other["examples"])}
            fresh = dict.fromkeys(text.strip() for text in edit.added)
            kept += [f"- {text}" for text in fresh if text not in known - to_remove]
        if kept != lines:
            _put(item, "examples", "\n".join(kept) + "\n")


def _edit_answer(document: CommentedMap, edit: Edit) -> None:
    wordings = (document.get("responses") or {}).get(f"{UTTER}{edit.topic}")
    if wordings is None:
        return
    if edit.texts is not None:
        texts = [_tidy(text) for text in edit.texts]
        if len(texts) != len(wordings):
            raise EditRefusedError(
                f"{edit.topic} has {len(wordings)} wordings, not {len(texts)}. Wordings are added and "
                f"taken away in the file."
            )
        if not all(texts):
            raise EditRefusedError(f"An answer of {edit.topic} would be empty. Write its text.")
        for wording, text in zip(wordings, texts, strict=True):
            if str(wording["text"]).strip() != text:
                _put(wording, "text", text)
    if edit.details:
        metadata = wordings[0].get("metadata")
        if metadata is None:
            raise EditRefusedError(
                f"{edit.topic} has nothing but its text. Add 'metadata:' in {UTTER}{edit.topic} by hand."
            )
        for key, value in edit.details.items():
            _put_detail(metadata, key, value)


def _put(mapping: CommentedMap, key: str, text: str) -> None:
    """Put a text in place of another, in its style, with the comment or empty line that follows it."""
    old = mapping[key]
    style = type(old) if isinstance(old, LiteralScalarString | DoubleQuotedScalarString
                                    | SingleQuotedScalarString) else str  # fmt: skip
    if "\n" in text and style is str:
        style = LiteralScalarString
    new: Any = style(text)
    if hasattr(old, "comment") and hasattr(new, "__dict__"):
        new.comment = old.comment
    mapping[key] = new


def _put_detail(metadata: CommentedMap, key: str, value: str | tuple[str, ...]) -> None:
    if key not in DETAILS:
        raise EditRefusedError(f"'{key}' is nothing that is known of an answer.")
    if isinstance(value, tuple):
        present = metadata.get(key)
        if present is None:
            present = metadata[key] = CommentedSeq()
            present.fa.set_flow_style()
        if list(map(str, present)) != list(value):
            # In place, so that what stands behind the list stays.
            del present[:]
            present.extend(value)
        return
    text = " ".join(value.split())
    if str(metadata.get(key) or "") == text:
        return
    if key in metadata:
        _put(metadata, key, text)
    else:
        metadata[key] = DoubleQuotedScalarString(text) if key == "reviewed_on" else text


def _tidy(text: str) -> str:
    """Return a text as the files hold it: no blanks at the ends of lines, one empty line at most."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _with_new_topic(
    files: Mapping[str, str], edit: Edit, topics: Mapping[str, Topic]
) -> dict[str, str]:
    """Return the file of the area with a topic put in at the end of its two parts."""
    area = edit.topic.partition("/")[0]
    name = f"data/faq/{area}.yml"
    if not _TOPIC.fullmatch(edit.topic) or name not in files:
        areas = sorted(Path(file).stem for file in files if file.startswith("data/faq/"))
        raise EditRefusedError(
            f"A topic's name is its area, a slash and a short name in lower case, as diet/coffee. "
            f"The areas are {', '.join(areas)}."
        )
    if edit.topic in topics:
        raise EditRefusedError(f"There is a topic {edit.topic} already. Add to that one.")
    texts = [_tidy(text) for text in edit.texts or () if _tidy(text)]
    if not texts:
        raise EditRefusedError("Write the answer.")
    metadata = CommentedMap()
    for key in DETAILS:
        if edit.details.get(key):
            _put_detail(metadata, key, edit.details[key])
    first = CommentedMap(text=LiteralScalarString(texts[0]))
    first["metadata"] = metadata
    rest = [CommentedMap(text=LiteralScalarString(text)) for text in texts[1:]]
    fresh = dict.fromkeys(text.strip() for text in edit.added)
    block = LiteralScalarString("".join(f"- {text}\n" for text in fresh) or "\n")
    examples = _dumped(CommentedMap(nlu=[CommentedMap(intent=edit.topic, examples=block)]))
    answer = _dumped(CommentedMap(responses=CommentedMap({f"{UTTER}{edit.topic}": [first, *rest]})))
    text = files[name] if files[name].endswith("\n") else files[name] + "\n"
    start = _start_of_responses(name, text)
    changed = (
        text[:start] + examples.partition("\n")[2] + "\n" + text[start:].rstrip("\n") + "\n\n"
        + answer.partition("\n")[2]
    )  # fmt: skip
    _loaded(name, changed)
    return {name: changed}


def _start_of_responses(name: str, text: str) -> int:
    for key, _ in YAML(typ="safe", pure=False).compose(text).value:
        if key.value == "responses":
            return int(key.start_mark.index)
    raise EditRefusedError(f"{name} has no 'responses:'. Put one at its end by hand.")


def _carried_over(text: str, before: str, after: str) -> str:
    """Make the change from one text to another in a third that says the same as the first.

    So a file that is written in a style of its own (wide lists, comments set out) keeps it.

    Raises:
        EditRefusedError: the changed lines are not the same in both.
    """
    if text == before:
        return after
    lines, old, new = (part.splitlines(keepends=True) for part in (text, before, after))
    place_of: dict[int, int] = {}
    for one, two, size in difflib.SequenceMatcher(
        None, old, lines, autojunk=False
    ).get_matching_blocks():
        place_of.update({one + step: two + step for step in range(size)})
    place_of[len(old)] = len(lines)
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for kind, start, end, new_start, new_end in reversed(changes):
        if kind == "equal":
            continue
        first = place_of.get(start)
        if first is None and start - 1 in place_of:
            first = place_of[start - 1] + 1
        size = end - start
        if first is None or any(place_of.get(start + step) != first + step for step in range(size)):
            raise EditRefusedError(
                f"The lines around '{old[max(start - 1, 0)].strip()[:40]}' are written in a way that "
                f"cannot be changed here. Change them by hand."
            )
        lines[first : first + size] = new[new_start:new_end]
    return "".join(lines)


def _difference(files: Mapping[str, str], changed: Mapping[str, str]) -> str:
    found: list[str] = []
    for name, text in changed.items():
        if files[name] == text:
            continue
        found += [f"--- {name}", f"+++ {name}"]
        old, new = files[name].splitlines(), text.splitlines()
        # Not difflib's unified_diff: it takes lines that stand often, as "metadata:", for junk.
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        for group in matcher.get_grouped_opcodes(_CONTEXT):
            (_, start, _, new_start, _), (_, _, end, _, new_end) = group[0], group[-1]
            found.append(f"@@ -{start + 1},{end - start} +{new_start + 1},{new_end - new_start} @@")
            for kind, one, two, new_one, new_two in group:
                if kind == "equal":
                    found += [f" {line}" for line in old[one:two]]
                else:
                    found += [f"-{line}" for line in old[one:two]]
                    found += [f"+{line}" for line in new[new_one:new_two]]
    return "".join(f"{line}\n" for line in found)


def _regions(name: str, before: str, after: str) -> list[Region]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    regions = []
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        (_, start, _, new_start, _), (_, _, end, _, new_end) = group[0], group[-1]
        regions.append(Region(name, "".join(old[start:end]), "".join(new[new_start:new_end])))
    return regions


def _replace(path: Path, text: str) -> None:
    """Put a text in place of a file's, so that a reader sees the one or the other, whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, name)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _change_of(row: Any) -> Change:
    return Change(
        number=row.id, at=row.at, account=row.account, action=row.action, topic=row.topic,
        difference=row.difference, undoes=row.undoes, undone=bool(row.undone),
    )  # fmt: skip


def _digest_of(files: Mapping[str, str]) -> str:
    today = dt.date.today().isoformat()  # reviews become due without any change
    return hashlib.sha256(json.dumps([today, files], sort_keys=True).encode()).hexdigest()


def _placeless(problem: str) -> str:
    """Return a problem without line numbers, which move when lines are put in above."""
    return _PLACE_IN_FILE.sub(r"\1", problem)
