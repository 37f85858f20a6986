"""The spaCy pipeline: tokens, sentences, and the single questions in a message.

Rasa loads it by the name of this package; it holds no trained weights, so it is built
in code and needs no download.
"""

# No `from __future__ import annotations` here: spaCy reads the factory's annotations at run time.
import json
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span

import assistant

QUESTIONS = "questions"
"""Name of the span group that holds the single questions of a document."""

_SENTENCE_ENDS = [".", "?", "!", ";", "\n", "\n\n", "…", "。", "？", "！"]  # noqa: RUF001
_JOINERS = {"and", "also", "plus", "&", "n", "or", "but"}
_NEW_THOUGHTS = {"also", "plus"}  # what follows is another matter, question or not
_OPENERS = {
    "what", "whats", "what's", "how", "hows", "where", "wheres", "when", "whens", "who", "why",
    "which", "is", "are", "am", "do", "does", "did", "can", "could", "should", "will", "would",
    "may", "have", "has", "r", "any", "tell", "whether", "if",
}  # fmt: skip


def build(**overrides: Any) -> Language:
    """Build the pipeline.

    Args:
        overrides: `disable` and `exclude` as for `spacy.load`; other keys are ignored.
    """
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer", config={"punct_chars": _SENTENCE_ENDS})
    nlp.add_pipe("question_splitter")
    folder = Path(assistant.__file__).parent
    nlp.meta.update(json.loads((folder / "meta.json").read_text(encoding="utf-8")))
    # Rasa refuses a pipeline that does not come from disk; ours comes from this package.
    nlp._path = folder  # type: ignore[assignment]
    for name in overrides.get("exclude") or []:
        if name in nlp.pipe_names:
            nlp.remove_pipe(name)
    for name in overrides.get("disable") or []:
        if name in nlp.pipe_names:
            nlp.disable_pipe(name)
    return nlp


class QuestionSplitter:
    """Marks the single questions of a message as `doc.spans["questions"]`.

    "is it safe and how much does it cost" holds two. A sentence is cut where a joining word is
    followed by a word that opens a question; statements are kept as they are. "I have a pacemaker,
    can I still come?" holds one: with "still", a question goes on from the statement before it.
    """

    def __call__(self, doc: Doc) -> Doc:
        """Add the span group to the document and hand it on."""
        spans: list[Span] = []
        for sentence in doc.sents:
            start = sentence.start
            if spans and _goes_on(doc, spans[-1].start, start):
                start = spans.pop().start
            for position in range(sentence.start + 1, sentence.end):
                if _cut_before(doc, start, position, sentence.end):
                    spans.append(doc[start:position])
                    start = position
            spans.append(doc[start : sentence.end])
        doc.spans[QUESTIONS] = [span for span in map(_trimmed, spans) if len(span) > 0]
        return doc


@Language.factory("question_splitter")
def create_question_splitter(nlp: Language, name: str) -> QuestionSplitter:
    """Make the component (spaCy finds it by this entry point)."""
    return QuestionSplitter()


def _cut_before(doc: Doc, start: int, position: int, end: int) -> bool:
    """Whether a new question begins at `position`."""
    previous = doc[position - 1]
    if previous.lower_ in _NEW_THOUGHTS and position - 1 > start and end - position > 1:
        return True
    if doc[position].lower_ not in _OPENERS or end - position < 2:
        return False
    if _goes_on(doc, start, position):
        return False
    if previous.lower_ in _JOINERS:
        return position - 1 > start
    return previous.text == "," and position - 1 > start


def _goes_on(doc: Doc, start: int, position: int) -> bool:
    """Whether the question at `position`, as "can I still ...", is about the statement at `start`."""
    asks_still = doc[position].lower_ in _OPENERS and "still" in (
        token.lower_ for token in doc[position + 1 : position + 3]
    )
    return asks_still and doc[start].lower_ not in _OPENERS and doc[position - 1].text != "?"


def _trimmed(span: Span) -> Span:
    """Leave out joining words and punctuation at both ends."""
    start, end = span.start, span.end
    doc = span.doc
    while start < end and (
        doc[start].is_punct or doc[start].is_space or doc[start].lower_ in _JOINERS
    ):
        start += 1
    while end > start and (
        doc[end - 1].is_punct or doc[end - 1].is_space or doc[end - 1].lower_ in _JOINERS
    ):
        end -= 1
    return doc[start:end]
