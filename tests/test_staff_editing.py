"""Editors change topics in the files that can be edited by hand: only what is meant, and nothing bad."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.content.catalogue import load_catalogue
from assistant.content.examples import read_examples
from assistant.staff import editing
from assistant.staff.editing import (
    ContentEditor,
    Edit,
    EditConflictError,
    EditRefusedError,
    round_trip,
)
from assistant.storage.database import engine_for
from tests.conftest import PROJECT

DIET = "data/faq/diet.yml"
GOOD = "No trial has tested coffee for sciatica.\n\nIf coffee keeps you awake, drink less of it."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of a part of the content; all of it would take long to check."""
    for name in ("data", "domain.yml", "office.yml", "config.yml"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    for path in (tmp_path / "data" / "faq").glob("*.yml"):
        if path.stem not in ("diet", "office"):
            path.unlink()
    nlu = tmp_path / "data" / "nlu.yml"
    away = nlu.read_text(encoding="utf-8").partition("  - intent: out_of_scope/health\n")[1:]
    lines = "".join(away).splitlines(keepends=True)[:20]
    nlu.write_text('version: "3.1"\n\nnlu:\n' + "".join(lines), encoding="utf-8")
    (tmp_path / "data" / "follow_ups.yml").write_text("follow_ups: {}\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def editor(project: Path, tmp_path: Path) -> Iterator[ContentEditor]:
    engine = engine_for(f"sqlite:///{tmp_path / 'content.db'}")
    yield ContentEditor(project, engine, seconds=300)
    engine.dispose()


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the content check, which takes seconds, where a test is about something else."""
    monkeypatch.setattr(ContentEditor, "_check", lambda self, files, end: [])


def text_of(project: Path, file: str = DIET) -> str:
    return (project / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "file",
    sorted(
        path.relative_to(PROJECT).as_posix()
        for path in [*(PROJECT / "data").rglob("*.yml"), PROJECT / "domain.yml"]
    ),
)
def test_a_round_trip_changes_no_byte(file: str) -> None:
    text = (PROJECT / file).read_bytes().decode()
    assert round_trip(text) == text


def test_a_file_with_a_style_of_its_own_keeps_it(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    odd = text_of(project).replace(
        "nlu:\n", "# what we say about food\nnlu:    # in visitors' words\n", 1
    )
    odd = odd.replace("  utter_diet/gluten:\n", "\n\n  # ask Ann\n  utter_diet/gluten:\n", 1)
    odd = odd.replace("follow_ups: [", "follow_ups:   [ ")
    (project / DIET).write_text(odd, encoding="utf-8")
    editor.save([Edit("diet/gluten", added=("is rye bread out too",))], "ann", "examples")
    lines = text_of(project).splitlines(keepends=True)
    lines.remove("      - is rye bread out too\n")
    assert "".join(lines) == odd


def test_an_example_is_one_line_more_and_one_line_less(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    before = text_of(project)
    old = editor.topic("diet/gluten").examples[3]
    change = editor.save(
        [Edit("diet/gluten", added=("is rye bread out too",), removed=(old,))], "ann", "examples"
    )
    changed = [ln for ln in change.difference.splitlines() if ln[:1] in "+-" and ln[:3] not in ("+++", "---")]  # fmt: skip
    assert changed == [f"-      - {old}", "+      - is rye bread out too"]
    without_old = before.replace(f"      - {old}\n", "", 1)
    assert text_of(project).replace("      - is rye bread out too\n", "", 1) == without_old
    assert "is rye bread out too" in read_examples(project)["diet/gluten"]


def test_every_part_of_an_answer_is_changed_in_place(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    topic = editor.topic("office/hours")
    edit = Edit(
        "office/hours",
        seen=topic.digest,
        texts=(topic.texts[0] + "\n\nAsk about holidays.", topic.texts[1]),
        details={"title": "When it is open", "reviewed_on": "2026-11-28",
                 "follow_ups": ("office/contact", "office/booking")},
    )  # fmt: skip
    change = editor.save([edit], "ann", "answer")
    answer = load_catalogue(project).answers["office/hours"]
    assert answer.variations[0].text.endswith("Ask about holidays.")
    assert (answer.title, str(answer.reviewed_on)) == ("When it is open", "2026-11-28")
    assert answer.follow_ups == ("office/contact", "office/booking")
    removed = [ln for ln in change.difference.splitlines() if ln.startswith("-      ")]
    assert len(removed) == 3, change.difference  # title, date, follow-ups; the text only grew
    assert round_trip(text_of(project, "data/faq/office.yml")) == text_of(
        project, "data/faq/office.yml"
    )


def test_a_last_wording_keeps_the_empty_line_behind_it(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    topic = editor.topic("office/hours")
    editor.save([Edit("office/hours", texts=(topic.texts[0], "Ask the office."))], "ann", "answer")
    assert "        Ask the office.\n\n  utter_office/contact:\n" in text_of(
        project, "data/faq/office.yml"
    )


def test_an_example_moves_to_what_is_turned_away(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    text = "can food change nerve pain at all"
    editor.save(
        [Edit("diet/overview", removed=(text,)), Edit("out_of_scope/health", added=(text,))],
        "ann",
        "out of scope",
    )
    examples = read_examples(project)
    assert text not in examples["diet/overview"]
    assert text in examples["out_of_scope/health"]


def test_a_new_topic_is_checked_and_stands_as_if_by_hand(
    project: Path, editor: ContentEditor
) -> None:
    new = Edit(
        "diet/coffee_and_tea",
        creates=True,
        added=tuple(f"{verb} {what}" for verb in ("is it fine to drink", "should i give up", "how much is too much of",)
                    for what in ("espresso", "earl grey tea", "cold brew", "decaf")),
        texts=(GOOD,),
        details={"title": "Coffee and tea", "question": "May I drink coffee or tea?", "evidence": "none",
                 "sources": editor.topic("diet/gluten").details["sources"], "reviewed_on": "2026-11-28",
                 "follow_ups": ("diet/overview",)},
    )  # fmt: skip
    before = text_of(project)
    too_few = Edit(**{**vars(new), "added": new.added[:5]})
    with pytest.raises(EditRefusedError, match="has 5 examples; write at least 12"):
        editor.save([too_few], "ann", "new topic")
    assert text_of(project) == before
    change = editor.save([new], "ann", "new topic")
    answer = load_catalogue(project).answers["diet/coffee_and_tea"]
    assert (answer.title, answer.variations[0].text) == ("Coffee and tea", GOOD)
    assert read_examples(project)["diet/coffee_and_tea"] == list(new.added)
    assert not [
        ln for ln in change.difference.splitlines() if ln.startswith("-") and ln[:3] != "---"
    ]
    assert round_trip(text_of(project)) == text_of(project)
    with pytest.raises(EditRefusedError, match="already"):
        editor.save([new], "ann", "new topic")
    editor.undo(change.number, "ann")
    assert text_of(project) == before


def test_a_harmful_edit_is_refused_with_every_reason_and_writes_nothing(
    project: Path, editor: ContentEditor
) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.yml")}
    harmful = Edit(
        "diet/gluten",
        added=("sciatica diet", "is [bread](food) ok"),
        texts=("Acupuncture cures sciatica. I recommend 20 mg of zinc.",),
        details={"follow_ups": ("diet/overview", "diet/no_such")},
    )
    with pytest.raises(EditRefusedError) as refused:
        editor.save([harmful], "ann", "answer")
    for reason in (
        "'cures' in .* promises or praises",
        "'I recommend' sounds as if a licensed person spoke",
        "'20 mg' is a dose",
        "its follow-up diet/no_such is not a topic",
        "'sciatica diet' stands under diet/overview too",
        "holds a bracket",
    ):
        assert any(re.search(reason, found) for found in refused.value.reasons), reason
    assert {path: path.read_bytes() for path in project.rglob("*.yml")} == before
    assert editor.history() == []


HARMFUL = {
    "red flag as chit-chat": (
        Edit("diet/gluten", added=("i cant feel my groin and cant pee",)),
        "warning sign .*must not learn it as diet/gluten",
    ),
    "secret": (
        Edit("diet/gluten", texts=("Our key is ${CONTACT_KEYS}.",)),
        "filled in from the server's settings",
    ),
    "person": (Edit("diet/gluten", added=("my name is Ann Miller, is bread ok",)), "personal data"),
    "empty": (Edit("diet/gluten", texts=("  ",)), "would be empty"),
    "two lines": (Edit("diet/gluten", added=("a\n- intent: x",)), "one line"),
    "advice": (Edit("safety/crisis", texts=("Relax.",)), "a clinician reviews"),
    "unknown": (Edit("diet/no_such", added=("x",)), "There is no topic"),
    "no area": (Edit("cars/oil", creates=True, texts=("x",)), "The areas are diet, office"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_what_needs_no_check_is_refused_at_once(
    editor: ContentEditor, name: str, unchecked: None
) -> None:
    edit, reason = HARMFUL[name]
    with pytest.raises(EditRefusedError, match=reason):
        editor.save([edit], "ann", "answer")


def test_a_check_that_does_not_end_saves_nothing(project: Path, editor: ContentEditor) -> None:
    editor._seconds = 0.0
    before = text_of(project)
    with pytest.raises(EditRefusedError, match="did not end within"):
        editor.save([Edit("diet/gluten", added=("is rye bread out too",))], "ann", "examples")
    assert text_of(project) == before


def test_what_was_wrong_before_does_not_block_another_edit(
    project: Path, editor: ContentEditor
) -> None:
    file = project / DIET
    file.write_text(text_of(project).replace('reviewed_on: "2026', 'reviewed_on: "2024', 1))
    editor.save([Edit("diet/gluten", added=("is rye bread out too",))], "ann", "examples")
    assert "is rye bread out too" in text_of(project)


def test_two_editors_do_not_overwrite_each_other(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    seen = editor.topic("diet/gluten")
    editor.save([Edit("diet/gluten", seen=seen.digest, texts=("Ann's words.",))], "ann", "answer")
    with pytest.raises(EditConflictError, match="Somebody else changed diet/gluten"):
        editor.save([Edit("diet/gluten", seen=seen.digest, texts=("Bob's.",))], "bob", "answer")
    assert load_catalogue(project).answers["diet/gluten"].variations[0].text == "Ann's words."
    # Another topic of the same file is no conflict.
    other = editor.topic("diet/overview")
    editor.save([Edit("diet/overview", seen=other.digest, texts=("Bob's.",))], "bob", "answer")


def test_many_edits_at_once_all_arrive(
    project: Path, editor: ContentEditor, unchecked: None
) -> None:
    texts = [f"does brand number {word} bread hurt" for word in "abcdefgh"]
    threads = [
        threading.Thread(target=editor.save, args=([Edit("diet/gluten", added=(t,))], "ann", "x"))
        for t in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(texts) <= set(read_examples(project)["diet/gluten"])


def test_a_file_that_changes_while_it_is_checked_is_not_overwritten(
    project: Path, editor: ContentEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_hand(self: ContentEditor, files: dict[str, str], end: float) -> list[str]:
        (project / DIET).write_text(text_of(project) + "# by hand\n", encoding="utf-8")
        return []

    monkeypatch.setattr(ContentEditor, "_check", by_hand)
    with pytest.raises(EditConflictError, match="in this moment"):
        editor.save([Edit("diet/gluten", added=("is rye bread out too",))], "ann", "examples")
    assert text_of(project).endswith("# by hand\n")
    assert "rye" not in text_of(project)


def test_a_change_is_known_and_taken_back_byte_by_byte(
    project: Path, database_url: str, unchecked: None
) -> None:
    editor = ContentEditor(project, engine_for(database_url), seconds=300)
    before = text_of(project)
    first = editor.save([Edit("diet/gluten", texts=("New words.",))], "ann", "answer")
    second = editor.save([Edit("diet/overview", added=("food and me",))], "bob", "examples")
    shown = editor.history()
    assert [(c.account, c.action, c.topic) for c in shown] == [
        ("bob", "examples", "diet/overview"),
        ("ann", "answer", "diet/gluten"),
    ]
    assert "+        New words." in shown[1].difference
    editor.undo(first.number, "bob")  # the later one stands elsewhere and stays
    assert text_of(project) != before
    editor.undo(second.number, "bob")
    assert text_of(project) == before
    with pytest.raises(EditRefusedError, match="already"):
        editor.undo(first.number, "bob")
    assert [c.undone for c in editor.history()] == [False, False, True, True]


def test_what_was_changed_since_is_not_taken_back(editor: ContentEditor, unchecked: None) -> None:
    first = editor.save([Edit("diet/gluten", texts=("One.",))], "ann", "answer")
    editor.save([Edit("diet/gluten", texts=("Two.",))], "bob", "answer")
    with pytest.raises(EditConflictError, match="changed since"):
        editor.undo(first.number, "ann")


def test_a_folder_that_cannot_be_written_leaves_all_as_it_was(
    project: Path, editor: ContentEditor, unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two files the second fails: the first is put back, and the history knows nothing."""
    before = {path: path.read_bytes() for path in project.rglob("*.yml")}
    write, calls = editing._replace, []

    def second_fails(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        write(path, text)

    monkeypatch.setattr(editing, "_replace", second_fails)
    text = "can food change nerve pain at all"
    edits = [Edit("diet/overview", removed=(text,)), Edit("out_of_scope/health", added=(text,))]
    with pytest.raises(EditRefusedError, match="cannot be written"):
        editor.save(edits, "ann", "out of scope")
    assert {path: path.read_bytes() for path in project.rglob("*.yml")} == before
    assert editor.history() == []
