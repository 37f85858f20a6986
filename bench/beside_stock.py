"""Our assistant beside the stock Rasa configuration: same data, same machine, one run.

Both are trained, started as their users would start them, and asked the same questions over HTTP,
one after the other, from this process. Each works in a temporary copy, so that neither meets
models or caches of before, and so that files that are edited meanwhile change nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import httpx
from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

QUESTIONS = (
    "Hello there",
    "What is sciatica?",
    "What causes sciatica?",
    "How do I know if I have sciatica?",
    "my left leg tingles when I sit at my desk",
    "How long does sciatica usually last?",
    "When should I see a doctor about back pain?",
    "Do I need an MRI?",
    "Could it be the piriformis muscle?",
    "Does a slipped disc heal by itself?",
    "Can both legs hurt at the same time?",
    "Does acupuncture work for sciatica?",
    "How does acupuncture help with nerve pain?",
    "does it hurt to get the needles",
    "How many sessions will I need?",
    "What happens during a treatment?",
    "Is acupuncture safe?",
    "Can I have acupuncture while I take blood thinners?",
    "I have a pacemaker, can I still come?",
    "What are the side effects?",
    "Should I try a chiropractor instead?",
    "Is surgery better than acupuncture?",
    "Which stretches help with sciatica?",
    "how often should i stretch",
    "How do I do the figure four stretch?",
    "Are there stretches I should avoid?",
    "Is walking good for me?",
    "Should I use heat or ice?",
    "What is the best way to sleep with sciatica?",
    "Do I have to stay in bed?",
    "What should I eat?",
    "Should I give up gluten?",
    "Does magnesium help?",
    "How much water should I drink?",
    "Where is your office?",
    "What are your opening hours?",
    "How much is a session?",
    "Do you take my insurance?",
    "I would like to make an appointment",
    "Thanks a lot",
)
"""What visitors commonly ask, one question a message."""

_OURS, _STOCK = "This assistant", "Stock Rasa"
_STOCK_MODEL = "stock"
_STAND_INS = {"action_repeat": "utter_repeat"}
_OTHER_STAND_IN = "utter_fallback_rephrase"  # for every other custom action
_OUR_FILES = ("config.yml", "domain.yml", "endpoints.yml", "credentials.yml", "office.yml")
_OUR_FOLDERS = ("data", "assistant", "actions")
_START_SECONDS = 600.0
_ANSWER_SECONDS = 60.0
_STOP_SECONDS = 30.0

_Result = TypeVar("_Result")


class MeasuringError(RuntimeError):
    """Something could not be measured; the message says what, and shows the end of its log."""


@dataclass(frozen=True)
class Served:
    """What was measured on a running server.

    Attributes:
        start_seconds: from the start of the process until it said that it is ready.
        first_milliseconds: the first answer after that.
        memory_megabytes: resident memory of its processes once each question was answered.
        milliseconds: each warm answer, in the order asked.
        answered: how many of the warm messages got words back.
    """

    start_seconds: float
    first_milliseconds: float
    memory_megabytes: float
    milliseconds: tuple[float, ...]
    answered: int


@dataclass(frozen=True)
class Measured:
    """All that was measured of one contender; `accuracy` is empty without labelled data."""

    name: str
    training_seconds: float
    model_megabytes: float
    served: Served
    accuracy: dict[str, Any]


class Contender(ABC):
    """A project that can be trained, served and asked, in a folder of its own."""

    name: str
    ready_path: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def model(self) -> Path:
        """Return the trained model."""
        return next((self.folder / "models").glob("*.tar.gz"))

    @abstractmethod
    def prepare(self) -> None:
        """Write the project into the folder."""

    @abstractmethod
    def training_command(self) -> list[str]:
        """Return the command that trains, as its users would type it."""

    @abstractmethod
    def serving_command(self, port: int) -> list[str]:
        """Return the command that serves, as its users would type it."""

    @abstractmethod
    def environment(self, port: int) -> dict[str, str]:
        """Return the variables that its commands need beside this process's own."""

    @abstractmethod
    def open_conversation(self, client: httpx.Client) -> str:
        """Return what a new visitor shows with each message."""

    @abstractmethod
    def ask(self, client: httpx.Client, visitor: str, text: str) -> httpx.Response:
        """Send one message of a visitor's and return the answer."""

    @abstractmethod
    def words(self, response: httpx.Response) -> str:
        """Return what an answer says; empty if it says nothing."""

    @abstractmethod
    def accuracy(self, data: Path) -> dict[str, Any]:
        """Return the figures for labelled messages, defined as in `assistant.evaluation`."""

    def train(self) -> float:
        """Train and return the seconds that the whole command took.

        Raises:
            MeasuringError: the command failed or left no model.
        """
        log = self.folder / "training.log"
        started = time.perf_counter()
        run(self.training_command(), self.folder, self.environment(0), log)
        seconds = time.perf_counter() - started
        if not list((self.folder / "models").glob("*.tar.gz")):
            raise MeasuringError(f"Training left no model.\n{_end_of(log)}")
        return seconds


class Ours(Contender):
    """This assistant: a copy of the project and its packages, run with `assistant`."""

    name = _OURS
    ready_path = "/health/ready"

    def prepare(self) -> None:
        """Copy the project; the packages too, so that both commands run the same code."""
        self.folder.mkdir()
        for name in _OUR_FILES:
            shutil.copy(PROJECT / name, self.folder / name)
        for name in _OUR_FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, self.folder / name, ignore=ignored)

    def training_command(self) -> list[str]:
        """Return `assistant train`."""
        return [_program("assistant"), "train"]

    def serving_command(self, port: int) -> list[str]:
        """Return `assistant serve`; its port comes from the environment."""
        return [_program("assistant"), "serve"]

    def environment(self, port: int) -> dict[str, str]:
        """Return the settings: this folder, and no limits, since one address sends all."""
        return {
            "ASSISTANT_HOME": str(self.folder),
            "PYTHONPATH": str(self.folder),  # before the installed packages
            "ASSISTANT_MODE": "development",
            "ACTION_ENDPOINT": "",
            "OFFICE_FILE": "",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "DATABASE_URL": f"sqlite:///{self.folder / 'conversations.db'}",
            "WEBCHAT_SESSION_RATE": "10000",
            "WEBCHAT_SESSION_BURST": "100000",
            "WEBCHAT_ADDRESS_RATE": "100000",
            "WEBCHAT_ADDRESS_BURST": "1000000",
        }

    def open_conversation(self, client: httpx.Client) -> str:
        """Return the token of a new web chat session."""
        return str(client.post("/webchat/session").raise_for_status().json()["token"])

    def ask(self, client: httpx.Client, visitor: str, text: str) -> httpx.Response:
        """Send a message to the web chat."""
        headers = {"Authorization": f"Bearer {visitor}"}
        return client.post("/webchat/messages", json={"text": text}, headers=headers)

    def words(self, response: httpx.Response) -> str:
        """Return the texts of all bubbles."""
        return " ".join(message["text"] for message in response.json()["messages"])

    def accuracy(self, data: Path) -> dict[str, Any]:
        """Measure through the visitors' path, with the packages of the copy."""
        figures = self.folder / "figures.json"
        command = [_program("assistant"), "eval", str(data), "--json", str(figures)]
        run(command, self.folder, self.environment(0), self.folder / "evaluation.log")
        found: dict[str, Any] = YAML(typ="safe").load(figures.read_text(encoding="utf-8"))
        return found


class Stock(Contender):
    """The configuration of `rasa init` and the documentation, on the same data.

    Args:
        folder: where to write the project.
        source: the project folder whose data it takes.
        epochs: of every trained part; 100 is Rasa's own figure.
    """

    name = _STOCK
    ready_path = "/webhooks/rest/"

    def __init__(self, folder: Path, source: Path, epochs: int) -> None:
        super().__init__(folder)
        self._source = source
        self._epochs = epochs

    def prepare(self) -> None:
        """Write the project; custom actions become utterances, so it needs no action server."""
        self.folder.mkdir()
        shutil.copytree(self._source / "data", self.folder / "data")
        domain = _read_yaml(self._source / "domain.yml")
        without_custom_actions(domain, self.folder / "data")
        write_yaml(self.folder / "domain.yml", domain)
        write_yaml(self.folder / "config.yml", stock_configuration(self._epochs))
        write_yaml(self.folder / "endpoints.yml", stock_endpoints())
        write_yaml(self.folder / "credentials.yml", {"rest": None})

    def training_command(self) -> list[str]:
        """Return `rasa train`."""
        return [_program("rasa"), "train", "--fixed-model-name", _STOCK_MODEL]

    def serving_command(self, port: int) -> list[str]:
        """Return `rasa run`."""
        command = [_program("rasa"), "run", "-m", f"models/{_STOCK_MODEL}.tar.gz"]
        command += ["--interface", "127.0.0.1", "--port", str(port)]
        return [*command, "--endpoints", "endpoints.yml", "--credentials", "credentials.yml"]

    def environment(self, port: int) -> dict[str, str]:
        """Return what keeps Rasa from reporting to its vendor."""
        return {"RASA_TELEMETRY_ENABLED": "false"}

    def open_conversation(self, client: httpx.Client) -> str:
        """Return a sender that was never seen."""
        return uuid.uuid4().hex

    def ask(self, client: httpx.Client, visitor: str, text: str) -> httpx.Response:
        """Send a message to Rasa's REST channel."""
        return client.post("/webhooks/rest/webhook", json={"sender": visitor, "message": text})

    def words(self, response: httpx.Response) -> str:
        """Return the texts of all messages."""
        return " ".join(message.get("text", "") for message in response.json())

    def accuracy(self, data: Path) -> dict[str, Any]:
        """Measure what the model understands, in a process of its own."""
        return in_own_process(stock_figures, self.folder, self.model, data)


def stock_configuration(epochs: int) -> dict[str, Any]:
    """Return the pipeline and the policies as Rasa's documentation gives them.

    Args:
        epochs: of every trained part.
    """
    trained = {"epochs": epochs, "constrain_similarities": True}
    characters = {"analyzer": "char_wb", "min_ngram": 1, "max_ngram": 4}
    return {
        "recipe": "default.v1",
        "assistant_id": _STOCK_MODEL,
        "language": "en",
        "pipeline": [
            {"name": "WhitespaceTokenizer"},
            {"name": "RegexFeaturizer"},
            {"name": "LexicalSyntacticFeaturizer"},
            {"name": "CountVectorsFeaturizer"},
            {"name": "CountVectorsFeaturizer", **characters},
            {"name": "DIETClassifier", **trained},
            {"name": "EntitySynonymMapper"},
            {"name": "ResponseSelector", **trained},
            {"name": "FallbackClassifier", "threshold": 0.3, "ambiguity_threshold": 0.1},
        ],
        "policies": [
            {"name": "MemoizationPolicy"},
            {"name": "RulePolicy"},
            {"name": "UnexpecTEDIntentPolicy", "max_history": 5, "epochs": epochs},
            {"name": "TEDPolicy", "max_history": 5, **trained},
        ],
    }


def stock_endpoints() -> dict[str, Any]:
    """Return Rasa's own tracker store on SQLite; there is no action server."""
    return {"tracker_store": {"type": "SQL", "dialect": "sqlite", "db": "conversations.db"}}


def without_custom_actions(domain: dict[str, Any], data: Path) -> None:
    """Take custom actions out of a domain, and put utterances in their place in its rules.

    Args:
        domain: the domain; changed.
        data: folder of the training data; its files with rules or stories are changed.
    """
    custom = {str(action) for action in domain.pop("actions", None) or []}
    for path in sorted(data.rglob("*.yml")):
        document = _read_yaml(path)
        flows = [*(document.get("rules") or []), *(document.get("stories") or [])]
        steps = [step for flow in flows for step in flow["steps"]]
        replaced = [step for step in steps if step.get("action") in custom]
        for step in replaced:
            step["action"] = _STAND_INS.get(step["action"], _OTHER_STAND_IN)
        if replaced:
            write_yaml(path, document)


def problem_of(data: Path) -> str:
    """Return why labelled messages cannot be read; empty if they can."""
    from assistant.evaluation import EvaluationFileError, read_rows

    try:
        read_rows(data)
    except EvaluationFileError as error:
        return str(error)
    return ""


def stock_figures(project: Path, model: Path, data: Path) -> dict[str, Any]:
    """Return the figures of a stock model, leaving out the same rows as for ours.

    Args:
        project: the folder with the training data.
        model: the stock model.
        data: the labelled messages.
    """
    from rasa.core.agent import Agent

    from assistant import evaluation
    from assistant.content.examples import read_examples

    rows = evaluation.read_rows(data)
    plain = evaluation._plain  # what counts as word for word must be the same for both
    known = {plain(text) for texts in read_examples(project).values() for text in texts}
    scored = [row for row in rows if plain(row.text) not in known]
    agent = Agent.load(model_path=str(model))

    async def outcomes() -> list[evaluation.Outcome]:
        return [stock_outcome(row, await agent.parse_message(row.text)) for row in scored]

    found = evaluation.figures(asyncio.run(outcomes()))
    return {**found, "rows": len(rows), "left_out": len(rows) - len(scored)}


def stock_outcome(row: Any, parsed: dict[str, Any]) -> Any:
    """Return what a visitor of the stock assistant gets for a row.

    Args:
        row: a labelled message (`assistant.evaluation.Row`).
        parsed: what Rasa understood.
    """
    from assistant.evaluation import OUT_OF_SCOPE, Outcome

    topic = stock_topic(parsed)
    turned_away = topic in (OUT_OF_SCOPE, "nlu_fallback")
    return Outcome(row=row, topics=(topic,), turned_away=turned_away, likeliest=())


def stock_topic(parsed: dict[str, Any]) -> str:
    """Return the topic that answers: for an area, the answer that the ResponseSelector picks.

    Rasa says that answer even if it belongs to another area than the intent.
    """
    from assistant.evaluation import OUT_OF_SCOPE
    from assistant.understanding.results import area_of

    topic = str(parsed["intent"]["name"])
    selector = parsed.get("response_selector", {})
    if topic in selector.get("all_retrieval_intents", []):
        topic = str(selector["default"]["response"]["intent_response_key"])
    return OUT_OF_SCOPE if area_of(topic) == OUT_OF_SCOPE else topic


def in_own_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what a function returns in a fresh process, whose memory is given back."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_quiet) as pool:
        return pool.submit(function, *arguments).result()


def _quiet() -> None:
    """Keep Rasa from reporting to its vendor, and the notices of its dependencies away."""
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    import sanic.app  # noqa: F401 - it turns deprecation warnings on, so it goes before the filter

    import assistant  # noqa: F401 - turns Rasa's reporting off, so it goes before Rasa

    warnings.simplefilter("ignore")
    from rasa.utils.log_utils import configure_structlog

    configure_structlog(logging.WARNING)  # else it shows every message that is parsed


def run(command: list[str], folder: Path, variables: dict[str, str], log: Path) -> None:
    """Run a command to its end.

    Raises:
        MeasuringError: it failed.
    """
    with started(command, folder, variables, log) as process:
        code = process.wait()
    if code != 0:
        raise MeasuringError(f"{_shown(command)} ended with code {code}.\n{_end_of(log)}")


@contextmanager
def started(
    command: list[str], folder: Path, variables: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own, and stop the whole group in the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serve_and_ask(contender: Contender, messages: int) -> Served:
    """Start a contender's server, warm it up, measure, and stop it.

    Args:
        contender: a trained one.
        messages: how many warm answers to time.

    Raises:
        MeasuringError: it does not start, or refuses a message.
    """
    port = _free_port()
    log = contender.folder / "server.log"
    command, variables = contender.serving_command(port), contender.environment(port)
    address = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    with (
        started(command, contender.folder, variables, log) as process,
        httpx.Client(base_url=address, timeout=_ANSWER_SECONDS, trust_env=False) as client,
    ):
        _wait_until_ready(process, client, contender.ready_path, log)
        start_seconds = time.perf_counter() - began
        try:
            warm_up = [timed_answer(contender, client, question)[0] for question in QUESTIONS]
            memory = resident_megabytes(process.pid)
            asked = [QUESTIONS[number % len(QUESTIONS)] for number in range(messages)]
            answers = [timed_answer(contender, client, question) for question in asked]
        except httpx.HTTPError as error:
            raise MeasuringError(f"{contender.name}: {error}\n{_end_of(log)}") from None
    return Served(
        start_seconds=start_seconds,
        first_milliseconds=warm_up[0],
        memory_megabytes=memory,
        milliseconds=tuple(milliseconds for milliseconds, _ in answers),
        answered=sum(bool(words) for _, words in answers),
    )


def timed_answer(contender: Contender, client: httpx.Client, text: str) -> tuple[float, str]:
    """Ask in a fresh conversation; return the milliseconds of the answer, and its words."""
    visitor = contender.open_conversation(client)
    began = time.perf_counter()
    response = contender.ask(client, visitor, text)
    milliseconds = 1000 * (time.perf_counter() - began)
    return milliseconds, contender.words(response.raise_for_status()).strip()


def _wait_until_ready(
    process: subprocess.Popen[bytes], client: httpx.Client, path: str, log: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.05)
    raise MeasuringError(f"The server did not become ready.\n{_end_of(log)}")


def resident_megabytes(root: int) -> float:
    """Return the resident memory of a process and all its descendants, in 10^6 bytes."""
    children: dict[int, list[int]] = defaultdict(list)
    resident: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue  # it ended meanwhile
        facts = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        number = int(path.parent.name)
        children[int(facts["PPid"])].append(number)
        resident[number] = 1024 * int(facts.get("VmRSS", "0 kB").split()[0])
    tree = [root]
    for number in tree:  # grows while it is read
        tree.extend(children[number])
    return sum(resident.get(number, 0) for number in tree) / 1e6


def percentile(values: tuple[float, ...], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def measure(contender: Contender, seconds: float, messages: int, data: Path | None) -> Measured:
    """Measure a trained contender.

    Args:
        contender: the one to measure.
        seconds: how long its training took.
        messages: how many warm answers to time.
        data: labelled messages, if accuracy is wanted.
    """
    say(f"{contender.name}: serving and asking.")
    served = serve_and_ask(contender, messages)
    if data:
        say(f"{contender.name}: measuring accuracy.")
    return Measured(
        name=contender.name,
        training_seconds=seconds,
        model_megabytes=contender.model.stat().st_size / 1e6,
        served=served,
        accuracy=contender.accuracy(data) if data else {},
    )


def compare(arguments: argparse.Namespace) -> str:
    """Measure both contenders and return the report."""
    began = dt.datetime.now().astimezone()
    with tempfile.TemporaryDirectory(prefix="beside_stock_") as name:
        folder = Path(name)
        ours = Ours(folder / "ours")
        ours.prepare()
        contenders = [ours, Stock(folder / "stock", ours.folder, arguments.epochs)]
        contenders[1].prepare()
        training = {}
        for contender in contenders:
            say(f"{contender.name}: training.")
            training[contender.name] = contender.train()
        load = os.getloadavg()[0]
        measured = [
            measure(contender, training[contender.name], arguments.messages, arguments.data)
            for contender in contenders
        ]
    return report(measured, arguments, began, load)


def report(
    measured: list[Measured], arguments: argparse.Namespace, began: dt.datetime, load: float
) -> str:
    """Return the Markdown: the table, and under what circumstances it was measured."""
    rows = [*_speed_rows(measured), *(_accuracy_rows(measured) if arguments.data else [])]
    lines = [
        "| | " + " | ".join(one.name for one in measured) + " |",
        "|---" + "|---:" * len(measured) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join([*lines, "", *_circumstances(arguments, began, load)]) + "\n"


def _speed_rows(measured: list[Measured]) -> list[list[str]]:
    served = [one.served for one in measured]
    count = len(served[0].milliseconds)
    return [
        ["Training, s", *(f"{one.training_seconds:.0f}" for one in measured)],
        ["Model file, MB", *(f"{one.model_megabytes:.1f}" for one in measured)],
        ["Start until ready, s", *(f"{one.start_seconds:.1f}" for one in served)],
        ["First answer, ms", *(f"{one.first_milliseconds:.0f}" for one in served)],
        ["Resident memory after warm-up, MB", *(f"{one.memory_megabytes:.0f}" for one in served)],
        ["Warm answer, median, ms", *(f"{percentile(s.milliseconds, 0.5):.1f}" for s in served)],
        ["Warm answer, p95, ms", *(f"{percentile(s.milliseconds, 0.95):.1f}" for s in served)],
        [f"Messages answered, of {count}", *(str(one.answered) for one in served)],
    ]


def _accuracy_rows(measured: list[Measured]) -> list[list[str]]:
    figures = [one.accuracy for one in measured]
    names = {"in_scope": "in_scope_accuracy", "out_of_scope": "out_of_scope_recall"}
    return [
        [f"{figure}, of {figures[0][group]} rows", *(_percent(one[figure]) for one in figures)]
        for group, figure in names.items()
    ]


def _circumstances(arguments: argparse.Namespace, began: dt.datetime, load: float) -> list[str]:
    lines = [
        f"- Measured from {began:%Y-%m-%d %H:%M %Z} with Rasa {version('rasa')} on "
        f"{os.cpu_count()} cores ({_processor()}), niceness {os.nice(0)}; "
        f"load average {load:.1f} before serving.",
        f"- Stock: {arguments.epochs} epochs"
        + ("." if arguments.epochs == 100 else "; Rasa's own figure is 100, so this is a trial."),
        "- Training is the whole command, with nothing cached. Memory is the sum over the "
        "server's processes, after each question was asked once.",
        "- An answer is one HTTP request on loopback, one at a time, each in a new conversation; "
        f"{len(QUESTIONS)} different questions, all of which were asked once before.",
    ]
    if arguments.data:
        lines.append(
            f"- Accuracy on {arguments.data.name}, as defined in assistant/evaluation.py; rows "
            "that stand in the training data are left out. Stock is judged by the topic that it "
            "understood."
        )
    return lines


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _program(name: str) -> str:
    """Return a command of this Python environment."""
    return str(Path(sys.executable).parent / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read_yaml(path: Path) -> dict[str, Any]:
    document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def write_yaml(path: Path, document: dict[str, Any]) -> None:
    """Write a YAML file."""
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])


def _shown(command: list[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])


def say(text: str) -> None:
    """Tell on standard error, with the time, what is being done."""
    print(f"{dt.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.beside_stock",
        description="Measure this assistant beside the stock Rasa configuration, on the same data "
        "and machine: training, start, memory, speed of answers, and with --data accuracy. The "
        "table is printed, and kept in a file.",
        epilog="Stock Rasa may train for an hour. For a quick trial: --epochs 2 --messages 40",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA.tsv",
        help="measure accuracy too, on these labelled messages: tab-separated id, text, label",
    )
    parser.add_argument(
        "--messages",
        type=_positive,
        default=200,
        metavar="N",
        help="how many warm answers to time (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=_positive,
        default=100,
        metavar="N",
        help="how long stock Rasa trains (default: %(default)s, Rasa's own figure)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.md",
        help="where to write the table (default: a new file in bench/results/)",
    )
    arguments = parser.parse_args()
    if arguments.data:
        arguments.data = arguments.data.resolve()
    return arguments


def main() -> None:
    """Measure, print the table and write it; a known problem is told and ends with code 1."""
    arguments = read_arguments()
    out = arguments.out or RESULTS / f"beside_stock_{dt.datetime.now():%Y%m%d_%H%M%S}.md"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if arguments.data and (problem := in_own_process(problem_of, arguments.data)):
            raise MeasuringError(problem)  # now, not after an hour of training
        text = compare(arguments)
    except (MeasuringError, OSError, ValueError) as error:
        sys.exit(str(error))
    print(text)
    out.write_text(text, encoding="utf-8")
    say(f"Written to {out}")


if __name__ == "__main__":
    main()
