"""The editors' pages: what visitors asked, the topics, what was changed, and publishing."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Iterable
from typing import Any

from ruamel.yaml.error import YAMLError
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.content.catalogue import ContentError, LiveCatalogue
from assistant.content.check import EVIDENCE, REVIEW_DAYS
from assistant.logs import keep_out_of_logs
from assistant.safety.detector import SAFETY_AREA, load_detector
from assistant.settings import Settings
from assistant.staff.editing import (
    DETAILS,
    LISTS,
    OUT_OF_SCOPE,
    Change,
    ContentEditor,
    Edit,
    EditRefusedError,
    NoSuchTopicError,
    Topic,
    new_example_dangers,
)
from assistant.staff.guard import EDITOR, Guard
from assistant.staff.log import note
from assistant.staff.pages import (
    NotThereError,
    Part,
    RefusedError,
    local_time,
    page,
    part,
    part_alone,
    see,
)
from assistant.staff.preview import drafted, preview
from assistant.staff.publishing import Publisher, PublishError, served_model
from assistant.staff.questions import DISMISSED, OpenQuestions, encoder_of
from assistant.staff.visit import Visit
from assistant.storage.database import in_thread, transaction
from assistant.understanding.results import area_of, ranked_topics

logger = logging.getLogger(__name__)

_DUE_SOON = 30  # days
_LONGEST_SENTENCE = 1000  # characters
_LONGEST_FIELD = 5000
_MOST_QUESTIONS = 50
_SAID = {
    "answer": "Saved. Visitors read it within two seconds.",
    "examples": "Saved. It counts from the next publishing on.",
    "new": "The topic is saved. It counts from the next publishing on.",
    "undone": "It is taken back.",
    "settled": "It is seen to.",
    "added": "Added. It counts from the next publishing on.",
}
_OUT_OF_SCOPE_WORDS = {
    "out_of_scope/health": "Another health question",
    "out_of_scope/service": "A service that the office does not have",
    "out_of_scope/world": "Something else in the world",
    "out_of_scope/nonsense": "No question at all",
}


def add_content(guard: Guard, engine: Engine, settings: Settings) -> Publisher:
    """Add the editors' pages, and what runs beside them; return what publishes."""
    desk = _Desk(engine, settings)
    _add_topics(guard, desk)
    _add_questions(guard, desk)
    _add_publishing(guard, desk)
    publisher = desk.publisher

    @guard.blueprint.listener("after_server_start")
    async def begin(app: Sanic, loop: Any) -> None:
        app.ctx.follows_models = asyncio.create_task(publisher.follow(app))

    @guard.blueprint.listener("before_server_stop")
    async def end(app: Sanic, loop: Any) -> None:
        app.ctx.follows_models.cancel()
        await asyncio.gather(app.ctx.follows_models, return_exceptions=True)
        await publisher.stop()

    return publisher


class _Desk:
    """What the editors' pages work with."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.project = settings.folder
        # The server gives up a page five seconds later than this.
        self.editor = ContentEditor(settings.folder, engine, settings.answer_seconds + 10)
        self.questions = OpenQuestions(engine, settings.folder)
        self.publisher = Publisher(engine, settings)
        self._live: LiveCatalogue | None = None

    def catalogue(self) -> Any:
        """Return the answers as the files hold them; call it in a thread."""
        if self._live is None:
            self._live = LiveCatalogue(self.project)
        return self._live.current()

    def topics(self) -> list[Topic]:
        """Return what may be changed here; call it in a thread."""
        return [topic for topic in self.editor.topics() if not topic.is_advice]

    def save(self, edits: list[Edit], visit: Visit, action: str) -> Change:
        """Save edits and note it; call it in a thread.

        Raises:
            EditRefusedError: nothing is saved.
        """
        change = self.editor.save(edits, visit.name, action)
        self.note(visit, f"content: {action}", edits[0].topic)
        return change

    def note(self, visit: Visit, what: str, about: str = "") -> None:
        """Add a line to the access log."""
        with transaction(self.engine) as connection:
            note(connection, visit.name, what, about)

    async def refuse_advice(self, app: Sanic, topic: str, texts: Iterable[str]) -> None:
        """Refuse examples that the assistant answers with advice on a warning sign.

        Raises:
            EditRefusedError: one is such.
        """
        for text in texts:
            parsed = await _parsed(app, text)
            if parsed["intent"]["name"] == SAFETY_AREA:
                raise EditRefusedError(
                    f"'{text[:60]}' is answered with advice on a warning sign. The assistant must not "
                    f"learn it as {topic}."
                )


def _add_topics(guard: Guard, desk: _Desk) -> None:
    @guard.get("/content", EDITOR, menu="Content")
    async def show_topics(request: Request, visit: Visit) -> HTTPResponse:
        wanted = request.args.get("q", "").strip()[:100]
        due = request.args.get("due") == "yes"
        topics = await _refusable(asyncio.to_thread(desk.topics))
        shown = [t for t in topics if _matches(t, wanted) and (not due or (_days_left(t) is not None
                 and (_days_left(t) or 0) <= _DUE_SOON))]  # fmt: skip
        return page(
            "content.html", visit, topics=shown, all=len(topics), wanted=wanted, due=due,
            days_left=_days_left, said=_SAID.get(request.args.get("said", ""), ""),
        )  # fmt: skip

    @guard.get("/content/topic", EDITOR)
    async def show_topic(request: Request, visit: Visit) -> HTTPResponse:
        topic = await _topic(desk, request.args.get("name", ""))
        said = _SAID.get(request.args.get("said", ""), "")
        return await _topic_page(desk, visit, topic, _form_of(topic), said=said)

    @guard.post("/content/topic", EDITOR)
    async def save_topic(request: Request, visit: Visit) -> HTTPResponse:
        topic = await _topic(desk, _field(request, "name"))
        form = _form_from(request, topic)
        edit = Edit(
            topic.name, seen=_field(request, "seen"), texts=tuple(form["texts"]),
            details=_changed_details(topic, form["details"]),
        )  # fmt: skip
        try:
            await asyncio.to_thread(desk.save, [edit], visit, "answer")
        except EditRefusedError as error:
            form["seen"] = _field(request, "seen")
            return await _topic_page(desk, visit, topic, form, reasons=error.reasons)
        return see("/content/topic", name=topic.name, said="answer")

    @guard.post("/content/examples", EDITOR)
    async def save_examples(request: Request, visit: Visit) -> HTTPResponse:
        topic = await _topic(desk, _field(request, "name"))
        added = _lines(_field(request, "added"))
        removed = tuple(_fields(request, "removed"))
        to = _field(request, "to")
        edits = [Edit(topic.name, added=added, removed=removed)]
        if to:
            edits.append(Edit(to, added=removed))
        try:
            await desk.refuse_advice(request.app, topic.name, added)
            await asyncio.to_thread(desk.save, edits, visit, "moved" if to else "examples")
        except EditRefusedError as error:
            form = {**_form_of(topic), "added": "\n".join(added)}
            return await _topic_page(desk, visit, topic, form, reasons=error.reasons)
        return see("/content/topic", name=topic.name, said="examples")

    @guard.post("/content/preview", EDITOR)
    async def show_preview(request: Request, visit: Visit) -> HTTPResponse:
        name = _field(request, "name")

        def made() -> Part:
            catalogue = desk.catalogue()
            details = _details_from(request)
            answer = drafted(catalogue, name, _texts_from(request), details)
            added = _lines(_field(request, "added"))
            dangers = [d for t in added for d in new_example_dangers(desk.project, name, t)]
            return part(
                "content_preview.html", visit, look=preview(catalogue, answer), dangers=dangers
            )

        return part_alone(request, await _refusable(asyncio.to_thread(made)))

    @guard.get("/content/new", EDITOR)
    async def show_new(request: Request, visit: Visit) -> HTTPResponse:
        return await _new_page(desk, visit, _empty_form(""))

    @guard.post("/content/new", EDITOR)
    async def save_new(request: Request, visit: Visit) -> HTTPResponse:
        form = {
            "name": _field(request, "name").strip(), "texts": _texts_from(request),
            "details": _details_from(request), "added": _field(request, "added"), "seen": "",
        }  # fmt: skip
        added = _lines(str(form["added"]))
        edit = Edit(
            str(form["name"]), creates=True, added=added, texts=tuple(_texts_from(request)),
            details={**_details_from(request), "reviewed_on": _today()},
        )  # fmt: skip
        try:
            await desk.refuse_advice(request.app, edit.topic, added)
            await asyncio.to_thread(desk.save, [edit], visit, "new topic")
        except EditRefusedError as error:
            return await _new_page(desk, visit, form, error.reasons)
        await in_thread(desk.questions.settle, added, visit.name, edit.topic)
        return see("/content/topic", name=edit.topic, said="new")

    @guard.get("/content/changes", EDITOR)
    async def show_changes(request: Request, visit: Visit) -> HTTPResponse:
        changes = await in_thread(desk.editor.history)
        said = _SAID.get(request.args.get("said", ""), "")
        return page("content_changes.html", visit, changes=changes, said=said, reasons=())

    @guard.post("/content/undo", EDITOR)
    async def undo(request: Request, visit: Visit) -> HTTPResponse:
        number = _field(request, "number")
        if not number.isdecimal() or len(number) > 9:
            raise NotThereError
        try:
            change = await asyncio.to_thread(desk.editor.undo, int(number), visit.name)
        except EditRefusedError as error:
            changes = await in_thread(desk.editor.history)
            return page(
                "content_changes.html", visit, 422, changes=changes, said="", reasons=error.reasons
            )
        await in_thread(desk.note, visit, "content: undo", change.topic)
        return see("/content/changes", said="undone")

    @guard.get("/content/try", EDITOR)
    async def show_trial(request: Request, visit: Visit) -> HTTPResponse:
        return page("content_try.html", visit, text="", found=None)

    @guard.post("/content/try", EDITOR)
    async def try_sentence(request: Request, visit: Visit) -> HTTPResponse:
        """Understand a sentence; it comes as a form, so that no log of addresses has it."""
        text = _field(request, "text").strip()[:_LONGEST_SENTENCE]
        found = await _refusable(_understood(desk, request.app, text)) if text else None
        return page("content_try.html", visit, text=text, found=found)


def _add_questions(guard: Guard, desk: _Desk) -> None:
    async def questions_page(
        visit: Visit, said: str = "", reasons: tuple[str, ...] = ()
    ) -> HTTPResponse:
        groups = await _refusable(asyncio.to_thread(desk.questions.groups))
        topics = await _refusable(asyncio.to_thread(desk.topics))
        return page(
            "questions.html", visit, 422 if reasons else 200, groups=groups[:_MOST_QUESTIONS],
            left=max(0, len(groups) - _MOST_QUESTIONS), topics=_names(topics), said=said,
            reasons=reasons, kinds=_OUT_OF_SCOPE_WORDS,
        )  # fmt: skip

    @guard.get("/questions", EDITOR, menu="Questions")
    async def show_questions(request: Request, visit: Visit) -> HTTPResponse:
        return await questions_page(visit, _SAID.get(request.args.get("said", ""), ""))

    @guard.post("/questions", EDITOR)
    async def see_to(request: Request, visit: Visit) -> HTTPResponse:
        """See to a group: its chosen phrasings go where the editor says, all of it is settled."""
        chosen = tuple(_fields(request, "chosen"))
        everything = tuple(_fields(request, "text"))
        do = _field(request, "do")
        topic = {"add": _field(request, "topic"), "away": _field(request, "kind")}.get(do, "")
        if do == "new":
            # Not by an address, which logs would keep with what visitors wrote.
            return await _new_page(desk, visit, _empty_form("\n".join(chosen or everything)))
        if do in ("add", "away"):
            reasons: tuple[str, ...] = ()
            if not topic or (do == "away") != (area_of(topic) == OUT_OF_SCOPE):
                reasons = ("Choose the topic that it belongs to.",)
            elif not chosen:
                reasons = ("Choose at least one phrasing.",)
            else:
                try:
                    await desk.refuse_advice(request.app, topic, chosen)
                    edit = Edit(topic, added=chosen)
                    action = "question added" if do == "add" else "out of scope"
                    await asyncio.to_thread(desk.save, [edit], visit, action)
                except EditRefusedError as error:
                    reasons = error.reasons
            if reasons:
                return await questions_page(visit, reasons=reasons)
        elif do != "dismiss":
            raise NotThereError
        await in_thread(desk.questions.settle, everything, visit.name, topic or DISMISSED)
        if do == "dismiss":
            await in_thread(desk.note, visit, "question dismissed")
        return see("/questions", said="settled" if do == "dismiss" else "added")


def _add_publishing(guard: Guard, desk: _Desk) -> None:
    publisher = desk.publisher

    async def state(request: Request, visit: Visit) -> Part:
        running = publisher.progress.phase == "running"
        waits = not running and await _refusable(asyncio.to_thread(publisher.waits, request.app))
        return part(
            "publish_state.html", visit, progress=publisher.progress, running=running,
            waits=waits, history=await in_thread(publisher.history),
            served=served_model(request.app),
        )  # fmt: skip

    @guard.get("/publish", EDITOR, menu="Publish")
    async def show_publishing(request: Request, visit: Visit) -> HTTPResponse:
        return await shown(request, visit)

    async def shown(request: Request, visit: Visit, wrong: str = "") -> HTTPResponse:
        live = await state(request, visit)
        return page("publish.html", visit, 409 if wrong else 200, live=live, wrong=wrong)

    @guard.get("/publish/progress", EDITOR, quiet=True)
    async def show_progress(request: Request, visit: Visit) -> HTTPResponse:
        return part_alone(request, await state(request, visit))

    @guard.post("/publish", EDITOR)
    async def publish(request: Request, visit: Visit) -> HTTPResponse:
        try:
            publisher.start(request.app, visit.name)
        except PublishError as error:
            return await shown(request, visit, str(error))
        await in_thread(desk.note, visit, "publishing begun")
        return see("/publish")


async def _topic(desk: _Desk, name: str) -> Topic:
    """Return a topic that may be changed here.

    Raises:
        NotThereError: there is none of that name.
    """
    try:
        topic: Topic = await _refusable(asyncio.to_thread(desk.editor.topic, name))
    except NoSuchTopicError:
        raise NotThereError("There is no such topic; it may have been renamed.") from None
    if topic.is_advice:
        raise NotThereError(
            "Advice on warning signs is not changed here: a clinician reviews data/safety first."
        )
    return topic


async def _refusable(work: Any) -> Any:
    """Wait for what reads the files.

    Raises:
        RefusedError: one of them cannot be read.
    """
    try:
        return await work
    except (EditRefusedError, ContentError, YAMLError, OSError) as error:
        logger.error("The content cannot be read. %s", error)
        raise RefusedError(
            503,
            "The content cannot be read",
            "A file was broken by hand. `assistant check` says which line; mend it there.",
        ) from error


async def _topic_page(
    desk: _Desk,
    visit: Visit,
    topic: Topic,
    form: dict[str, Any],
    said: str = "",
    reasons: tuple[str, ...] = (),
) -> HTTPResponse:
    catalogue = await _refusable(asyncio.to_thread(desk.catalogue))
    look = None
    if topic.texts:
        answer = drafted(catalogue, topic.name, form["texts"], form["details"])
        look = await asyncio.to_thread(preview, catalogue, answer)
    others = await _refusable(asyncio.to_thread(desk.topics))
    changes = await in_thread(desk.editor.history, topic.name, 5)
    return page(
        "content_topic.html", visit, 422 if reasons else 200, topic=topic, form=form, look=look,
        said=said, reasons=reasons, evidence=sorted(EVIDENCE), sources=sorted(catalogue.sources),
        topics=_names(others), days_left=_days_left(topic), changes=changes, dangers=[],
        lists=LISTS,
    )  # fmt: skip


async def _new_page(
    desk: _Desk, visit: Visit, form: dict[str, Any], reasons: tuple[str, ...] = ()
) -> HTTPResponse:
    catalogue = await _refusable(asyncio.to_thread(desk.catalogue))
    topics = await _refusable(asyncio.to_thread(desk.topics))
    areas = sorted({t.file.rpartition("/")[2].removesuffix(".yml") for t in topics if t.file.startswith("data/faq/")})  # fmt: skip
    return page(
        "content_new.html", visit, 422 if reasons else 200, form=form, reasons=reasons, areas=areas,
        evidence=sorted(EVIDENCE), sources=sorted(catalogue.sources), topics=_names(topics),
        look=None, dangers=[],
    )  # fmt: skip


async def _parsed(app: Sanic, text: str) -> dict[str, Any]:
    with keep_out_of_logs(text):
        found = await app.ctx.agent.parse_message(text)
    return dict(found)


async def _understood(desk: _Desk, app: Sanic, text: str) -> dict[str, Any]:
    """Return what a sentence is understood as, and why."""
    parsed = await _parsed(app, text)
    ranking = ranked_topics(parsed)[:5]
    flag = await asyncio.to_thread(load_detector(desk.project).scan, text)

    def nearest() -> list[tuple[str, str, float]]:
        known = {topic.name: topic.examples for topic in desk.editor.topics()}
        pairs = [(score.topic, e) for score in ranking[:3] for e in known.get(score.topic, ())]
        if not pairs:
            return []
        encode = encoder_of(desk.project)
        (vector,) = encode([text])
        likeness = encode([example for _, example in pairs]) @ vector
        order = sorted(range(len(pairs)), key=lambda place: -float(likeness[place]))[:5]
        return [(*pairs[place], float(likeness[place])) for place in order]

    return {
        "topic": parsed["intent"].get("full_retrieval_intent_name") or parsed["intent"]["name"],
        "ranking": ranking,
        "flag": flag,
        "questions": parsed.get("questions") or [],
        "nearest": await asyncio.to_thread(nearest),
    }


def _form_of(topic: Topic) -> dict[str, Any]:
    return {
        "texts": list(topic.texts),
        "details": dict(topic.details),
        "added": "",
        "seen": topic.digest,
    }


def _empty_form(examples: str) -> dict[str, Any]:
    details: dict[str, Any] = {key: () if key in LISTS else "" for key in DETAILS}
    return {"name": "", "texts": [""], "details": details, "added": examples, "seen": ""}


def _form_from(request: Request, topic: Topic) -> dict[str, Any]:
    details = {**topic.details, **_details_from(request)}
    return {"texts": _texts_from(request), "details": details, "added": "", "seen": topic.digest}


def _texts_from(request: Request) -> list[str]:
    return [text.replace("\r\n", "\n") for text in _fields(request, "wording")]


def _details_from(request: Request) -> dict[str, str | tuple[str, ...]]:
    """Return the details that a form holds; the review date is today if the editor says so."""
    found: dict[str, str | tuple[str, ...]] = {}
    for key in DETAILS:
        if key == "reviewed_on":
            if _field(request, "reviewed") == "yes":
                found[key] = _today()
        elif _field(request, "details"):  # the form has them; Sanic leaves out those that are empty
            text = _field(request, key)
            found[key] = tuple(text.replace(",", " ").split()) if key in LISTS else text.strip()
    return found


def _changed_details(
    topic: Topic, details: dict[str, str | tuple[str, ...]]
) -> dict[str, str | tuple[str, ...]]:
    return {key: value for key, value in details.items() if topic.details.get(key) != value}


def _days_left(topic: Topic) -> int | None:
    """Return how many days the review of an answer is good for; None if it needs none."""
    reviewed = str(topic.details.get("reviewed_on") or "")
    try:
        day = dt.date.fromisoformat(reviewed)
    except ValueError:
        return None
    return (day + dt.timedelta(days=REVIEW_DAYS) - dt.date.today()).days


def _matches(topic: Topic, wanted: str) -> bool:
    """Whether all words of a search stand in a topic."""
    everything = " ".join([topic.name, *topic.examples, *topic.texts, str(topic.details)]).lower()
    return all(word in everything for word in wanted.lower().split())


def _names(topics: list[Topic]) -> list[str]:
    return [topic.name for topic in topics if topic.examples]


def _today() -> str:
    return local_time(dt.datetime.now(dt.timezone.utc)).date().isoformat()


def _field(request: Request, name: str) -> str:
    return str((request.form or {}).get(name) or "")[:_LONGEST_FIELD]


def _fields(request: Request, name: str) -> list[str]:
    form: Any = request.form
    if not form:
        return []
    return [str(value)[:_LONGEST_FIELD] for value in form.getlist(name, [])]


def _lines(text: str) -> tuple[str, ...]:
    found = (line.strip().removeprefix("- ").strip() for line in text.splitlines())
    return tuple(line for line in found if line)
