"""Publishing: train what the files hold now, try it, and only then let visitors have it.

Training and trying run in a process of their own, on a snapshot. The running server then loads the new
model beside the old one and asks it the golden questions; from one message to the next it answers
with the new one, while turns under way end on the old one. Whatever fails, the old one goes on.
Other processes on the same database learn of the new model from a row there.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rasa.core.utils import AvailableEndpoints
from sanic import Sanic
from sqlalchemy.engine import Engine

from assistant.agent import load_agent
from assistant.memory import settle
from assistant.model_seal import check_seal, forget_seal, seal
from assistant.self_test import golden_questions, self_test
from assistant.settings import Settings
from assistant.staff.editing import in_background, staged
from assistant.storage.database import (
    StorageError,
    connected,
    in_thread,
    published_models,
    transaction,
)
from assistant.training import forget_old_models, model_path

logger = logging.getLogger(__name__)

_LOOK_EVERY = 2.0  # seconds between looks for a model that another process published
_LONGEST = 1800.0  # seconds for training and trying
_MOST_LINES = 200
_LONGEST_LINE = 1 << 20  # bytes of what the process says


class PublishError(Exception):
    """Nothing is published, and nothing has changed for visitors.

    Attributes:
        reasons: why and what to do, a sentence or two each.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Progress:
    """Where publishing stands in this process.

    Attributes:
        phase: "idle", "running", "live" or "failed".
        account: who started it.
        began, ended: seconds since 1970; 0 if not.
        lines: what was done so far, the oldest first.
        reasons: why it failed.
    """

    phase: str = "idle"
    account: str = ""
    began: float = 0.0
    ended: float = 0.0
    lines: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A model that went live.

    Attributes:
        number: its number.
        at: seconds since 1970.
        account: who published it.
        name: of the model file.
        sha256: of its bytes.
    """

    number: int
    at: float
    account: str
    name: str
    sha256: str


class Publisher:
    """Publishes in this process, and follows what others publish.

    Args:
        engine: the database.
        settings: the project folder, and whether the model is pinned.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._project = settings.folder
        self._progress = Progress()
        self._task: asyncio.Task[None] | None = None
        self._known = 0
        self._one_swap = asyncio.Lock()

    @property
    def progress(self) -> Progress:
        """Where it stands now."""
        return self._progress

    def waits(self, app: Sanic) -> bool:
        """Whether the files hold what the served model does not know. Reads them: call in a thread."""
        return model_path(self._project).name != served_model(app)

    def history(self, most: int = 20) -> list[Published]:
        """Return what went live, the newest first.

        Raises:
            StorageError: the database cannot be read.
        """
        query = sa.select(published_models).order_by(published_models.c.id.desc()).limit(most)
        with connected(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Published(row.id, row.at, row.account, row.name, row.sha256) for row in rows]

    def start(self, app: Sanic, account: str) -> None:
        """Begin to publish; `progress` tells how it goes.

        Raises:
            PublishError: it cannot be done here, or is under way.
        """
        if self._settings.model_sha256:
            raise PublishError(
                "MODEL_SHA256 pins the model of this server, so no other one can go live here. Publish "
                "where it is not set, or take it out."
            )
        if self._task is not None and not self._task.done():
            raise PublishError("It is being published already. Wait until that has ended.")
        self._progress = Progress("running", account, time.time())
        self._task = asyncio.create_task(self._run(app, account))

    async def stop(self) -> None:
        """End what is under way; the old model stays."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def follow(self, app: Sanic) -> None:
        """Load what other processes publish, for ever. Errors are logged, and the old model stays."""
        self._known = -1
        told = False
        while True:
            try:
                newest = await in_thread(self._newest)
                told = False
                if self._known < 0:  # at the start the files decide
                    self._known = newest.number if newest else 0
                elif newest and newest.number > self._known:
                    self._known = newest.number
                    await self._take_over(app, newest)
            except StorageError as error:
                if not told:  # once for each time that the database is away
                    logger.warning("Whether a new model was published is not known. %s", error)
                told = True
            await asyncio.sleep(_LOOK_EVERY)

    async def swap(self, app: Sanic, model: Path) -> None:
        """Answer with another model from the next message on.

        Raises:
            Exception: whatever loading or the golden questions raise; the old one goes on.
        """
        async with self._one_swap:
            old = app.ctx.agent
            domain = old.domain
            try:
                new = await asyncio.to_thread(_load_beside, old, model)
                await self_test(new, golden_questions(self._project))
            except BaseException:
                old.tracker_store.domain = domain  # loading may have set the new one
                raise
            app.ctx.agent = new
        asyncio.get_running_loop().call_later(self._settings.answer_seconds + 1, settle)

    async def _run(self, app: Sanic, account: str) -> None:
        try:
            with _alone(self._project / "var" / "publish.lock"):
                known = {path.name for path in (self._project / "models").glob("*")}
                model = await self._trained(app)
                self._say("Loading it beside the present one")
                try:
                    await self.swap(app, model)
                except BaseException:
                    if model.name not in known:  # the next start must not find it
                        model.unlink()
                        forget_seal(model)
                    raise
                published = await in_thread(self._note, model, account)
                self._known = max(self._known, published)
                await asyncio.to_thread(forget_old_models, model)
            self._say("Live")
            self._progress = replace(self._progress, phase="live", ended=time.time())
        except asyncio.CancelledError:
            self._fail("The server stopped meanwhile. Publish again.")
            raise
        except PublishError as error:
            self._fail(*error.reasons)
        except (
            Exception
        ) as error:  # MemoryError, a damaged file, the database: say it, go on as before
            logger.exception("Publishing failed.")
            self._fail(f"{type(error).__name__}: {error}")

    async def _trained(self, app: Sanic) -> Path:
        """Train and try what the files hold now; return the model, in its place."""
        with ExitStack() as stack:
            snapshot = await asyncio.to_thread(stack.enter_context, staged(self._project, {}))
            await asyncio.to_thread(self._bring_known_model, snapshot)
            made = await self._watched(snapshot, self._project / "models" / served_model(app))
            return await asyncio.to_thread(_put_in_place, made, self._project / "models")

    def _bring_known_model(self, snapshot: Path) -> None:
        """Spare the training if these very files were trained before, else all but what is new."""
        (snapshot / ".rasa").symlink_to(self._project.absolute() / ".rasa")
        known = model_path(self._project)
        mark = known.with_name(f"{known.name}.sha256")
        (snapshot / "models").mkdir()
        if known.exists() and mark.exists():
            shutil.copy(known, snapshot / "models")
            shutil.copy(mark, snapshot / "models")

    async def _watched(self, snapshot: Path, served: Path) -> Path:
        """Run the process that trains and tries, and tell what it says.

        Raises:
            PublishError: it found a reason not to publish, or did not end well.
        """
        command = in_background(
            "-W", "ignore", "-m", "assistant.staff.publish_process", str(served)
        )
        environment = {**os.environ, "ASSISTANT_HOME": str(snapshot)}
        for name in ("DATABASE_URL", "REDIS_URL", "AMQP_URL"):  # nothing of it is for visitors
            environment.pop(name, None)
            environment.pop(f"{name}_FILE", None)
        environment["LOG_LEVEL"] = "WARNING"
        environment["DATABASE_URL"] = f"sqlite:///{snapshot / 'trial.db'}"
        with tempfile.TemporaryFile() as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._project,  # where Rasa keeps what it need not train again
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LONGEST_LINE,
            )
            try:
                said = await asyncio.wait_for(self._listen(process), _LONGEST)
            except asyncio.TimeoutError:
                raise PublishError(
                    f"Training did not end within {_LONGEST / 60:g} minutes. Is the machine busy? "
                    f"Try again later."
                ) from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if "failed" in said:
                raise PublishError(*said["failed"])
            if process.returncode or "model" not in said:
                errors.seek(0)
                lines = errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
                raise PublishError(
                    f"Training ended without a model ({process.returncode}). "
                    f"{lines[-1] if lines else 'It said nothing; perhaps memory ran out.'}"
                )
        return Path(said["model"])

    async def _listen(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        said: dict[str, Any] = {}
        assert process.stdout is not None  # noqa: S101 - asked for above
        async for line in process.stdout:
            try:
                part = json.loads(line)
            except ValueError:  # a library's own words
                continue
            if isinstance(part, dict):
                said.update(part)
                if "step" in part:
                    self._say(str(part["step"]))
        await process.wait()
        return said

    async def _take_over(self, app: Sanic, newest: Published) -> None:
        model = self._project / "models" / newest.name
        if served_model(app) == newest.name:
            return
        try:
            await asyncio.to_thread(check_seal, model, newest.sha256)
            await self.swap(app, model)
        except Exception as error:  # whatever it is: the old one goes on
            logger.error(
                "The model %s, which another process published, is not served here: %s Bring the file "
                "and the content here and restart.",
                newest.name,
                error,
            )
        else:
            logger.info("Serving %s, which another process published.", newest.name)

    def _newest(self) -> Published | None:
        return next(iter(self.history(most=1)), None)

    def _note(self, model: Path, account: str) -> int:
        digest = model.with_name(f"{model.name}.sha256").read_text(encoding="ascii").split()[0]
        row = {"at": time.time(), "account": account, "name": model.name, "sha256": digest}
        with transaction(self._engine) as connection:
            (number,) = connection.execute(
                sa.insert(published_models).values(row)
            ).inserted_primary_key
        return int(number)

    def _say(self, line: str) -> None:
        lines = (*self._progress.lines, line)[-_MOST_LINES:]
        self._progress = replace(self._progress, lines=lines)

    def _fail(self, *reasons: str) -> None:
        self._progress = replace(self._progress, phase="failed", reasons=reasons, ended=time.time())


def served_model(app: Sanic) -> str:
    """Return the name of the model file that answers now."""
    return Path(app.ctx.agent.processor.model_filename).name


def _load_beside(old: Any, model: Path) -> Any:
    """Load a model with the conversations, locks and actions of the agent that is served."""
    endpoints = AvailableEndpoints(lock_store=old.lock_store, action=old.action_endpoint)
    return load_agent(model, endpoints, tracker_store=old.tracker_store)


def _put_in_place(made: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    place = folder / made.name
    fresh = folder / f".{made.name}.new"
    shutil.copy(made, fresh)
    fresh.replace(place)
    seal(place)
    return place


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Make sure that no other process of this machine publishes the same files.

    Raises:
        PublishError: one does.
    """
    try:
        lock.parent.mkdir(mode=0o700, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise PublishError(
            f"The folder var cannot be written ({error.strerror}), which publishing needs."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PublishError(
                "Another process is publishing. Wait until that has ended."
            ) from None
        yield
