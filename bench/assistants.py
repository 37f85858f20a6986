"""The three assistants under comparison, each in a project folder of its own.

- ours, as `assistant serve` runs it;
- stock Rasa: the configuration of `rasa init` and the documentation, on the same data;
- rules-only Rasa: keywords and rules, the least that the framework can do a message in.
"""

from __future__ import annotations

import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench.messages import BOOKING, OTHERS, QUESTIONS, Message
from bench.processes import (
    PROJECT,
    MeasuringError,
    end_of,
    free_port,
    resident_megabytes,
    run,
    started,
    wait_until_ready,
)

OURS, STOCK, RULES = "ours", "stock Rasa", "rules-only Rasa"

_MODEL = "model"
_STAND_INS = {"action_repeat": "utter_repeat", "action_finish_contact_request": "utter_goodbye"}
_OTHER_STAND_IN = "utter_fallback_rephrase"  # for every other custom action
_OUR_FILES = ("config.yml", "domain.yml", "endpoints.yml", "credentials.yml", "office.yml")
_OUR_FOLDERS = ("data", "assistant", "actions")
_FORM_SLOTS = {
    "contact_name": "What is your name?",
    "contact_reach": "How can the office reach you?",
    "contact_time": "Which days or times suit you?",
    "contact_note": "Is there anything else the office should know?",
}
_FORM_TEXTS = ("Jane Doe", "818 555 0142", "Tuesday afternoon", "nothing else")


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        address: where it is.
        process: the number of its process.
        log: what it said.
        start_seconds: from the start of the process until it said that it is ready.
    """

    address: str
    process: int
    log: Path
    start_seconds: float

    def memory(self) -> float:
        """Return its resident memory, in 10^6 bytes."""
        return resident_megabytes(self.process)


class Assistant(ABC):
    """A project that can be trained and served, as its users would do it.

    Args:
        folder: where it lies.
        environment: the Python environment that runs it.

    Attributes:
        name: stands in the report.
        channel: which visitors of `bench.load` can talk to it.
        ready_path: what answers 200 once it is ready.
        form: what a visitor says to the contact form, after asking for it.
    """

    name: str
    channel: str
    ready_path: str
    form: tuple[str, ...]

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder
        self._environment = environment

    @abstractmethod
    def prepare(self) -> None:
        """Write the project into the folder."""

    @abstractmethod
    def training_command(self) -> list[str]:
        """Return the command that trains."""

    @abstractmethod
    def serving_command(self, port: int) -> list[str]:
        """Return the command that serves."""

    def variables(self, port: int) -> dict[str, str]:
        """Return the environment variables of its commands, beside this process's own."""
        return {"RASA_TELEMETRY_ENABLED": "false", "SQLALCHEMY_SILENCE_UBER_WARNING": "1"}

    def train(self, limit: float | None = None) -> float | None:
        """Train and return the seconds of the whole command; None if stopped at the limit.

        Raises:
            MeasuringError: the command failed or left no model.
        """
        log = self.folder / "train.log"
        seconds = run(self.training_command(), self.folder, self.variables(0), log, limit)
        if seconds is not None and not list((self.folder / "models").glob("*.tar.gz")):
            raise MeasuringError(f"{self.name}: training left no model.\n{end_of(log)}")
        return seconds

    @contextmanager
    def served(self, **variables: str) -> Iterator[Server]:
        """Start its server, wait until it is ready, and stop it in the end.

        Args:
            variables: of the environment, beside the usual ones.

        Raises:
            MeasuringError: it does not become ready.
        """
        with ExitStack() as stack:
            self._start_beside(stack)
            port = free_port()
            log = self.folder / f"server-{port}.log"
            given = {**self.variables(port), **variables}
            began = time.perf_counter()
            process = stack.enter_context(
                started(self.serving_command(port), self.folder, given, log)
            )
            wait_until_ready(process, port, self.ready_path, log)
            seconds = time.perf_counter() - began
            yield Server(f"http://127.0.0.1:{port}", process.pid, log, seconds)

    def _start_beside(self, stack: ExitStack) -> None:  # noqa: B027 - most need nothing
        """Start what else it needs to serve."""

    def program(self, name: str) -> str:
        """Return a command of its environment."""
        return str(self._environment / "bin" / name)


class Ours(Assistant):
    """This assistant: a copy of the project and its packages, run with `assistant`."""

    name = OURS
    channel = "webchat"
    ready_path = "/health/ready"
    form = ("Yes", *_FORM_TEXTS, "Cancel")

    def prepare(self) -> None:
        """Copy the project; the packages too, so that files edited meanwhile change nothing."""
        self.folder.mkdir(parents=True)
        for name in _OUR_FILES:
            shutil.copy(PROJECT / name, self.folder / name)
        for name in _OUR_FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, self.folder / name, ignore=ignored)

    def training_command(self) -> list[str]:
        """Return `assistant train`."""
        return [self.program("assistant"), "train"]

    def serving_command(self, port: int) -> list[str]:
        """Return `assistant serve`; its port comes from the environment."""
        return [self.program("assistant"), "serve"]

    def variables(self, port: int) -> dict[str, str]:
        """Return the settings: this folder, and no limits, since one address sends all."""
        database = self.folder / f"conversations-{port}.db"  # one of its own for each start
        return {
            **super().variables(port),
            "ASSISTANT_HOME": str(self.folder),
            "PYTHONPATH": str(self.folder),  # before the installed packages
            "ASSISTANT_MODE": "development",
            "ACTION_ENDPOINT": "",
            "OFFICE_FILE": "",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "DATABASE_URL": f"sqlite:///{database}",
            "REDIS_URL": "",
            "AMQP_URL": "",
            "WEBCHAT_SESSION_RATE": "10000",
            "WEBCHAT_SESSION_BURST": "100000",
            "WEBCHAT_ADDRESS_RATE": "100000",
            "WEBCHAT_ADDRESS_BURST": "1000000",
        }


class _PlainRasa(Assistant):
    """A project that is run with Rasa's own commands, with SQLite and the REST channel."""

    channel = "rest"
    ready_path = "/webhooks/rest/"
    form = _FORM_TEXTS

    def __init__(self, folder: Path, environment: Path, source: Path) -> None:
        super().__init__(folder, environment)
        self._source = source

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Return its config.yml."""

    def prepare(self) -> None:
        """Write the project: our data, with the form and the actions that Rasa's docs show."""
        self.folder.mkdir(parents=True)
        shutil.copytree(self._source / "data", self.folder / "data")
        domain = read_yaml(self._source / "domain.yml")
        with_plain_actions(domain, self.folder / "data")
        self.convert(domain)
        write_yaml(self.folder / "domain.yml", domain)
        write_yaml(self.folder / "config.yml", self.configuration())
        write_yaml(self.folder / "credentials.yml", {"rest": None})
        shutil.copy(PROJECT / "bench" / "stock" / "actions.py", self.folder / "actions.py")
        self._write_endpoints(0)

    def convert(self, domain: dict[str, Any]) -> None:
        """Change domain and data further, where the configuration cannot use them."""

    def training_command(self) -> list[str]:
        """Return `rasa train`."""
        return [self.program("rasa"), "train", "--fixed-model-name", _MODEL]

    def serving_command(self, port: int) -> list[str]:
        """Return `rasa run`."""
        command = [self.program("rasa"), "run", "-m", f"models/{_MODEL}.tar.gz"]
        command += ["--interface", "127.0.0.1", "--port", str(port)]
        return [*command, "--endpoints", "endpoints.yml", "--credentials", "credentials.yml"]

    def _start_beside(self, stack: ExitStack) -> None:
        """Start the action server; the form calls it once a turn."""
        port, log = free_port(), self.folder / "actions.log"
        command = [self.program("rasa"), "run", "actions", "--port", str(port)]
        process = stack.enter_context(started(command, self.folder, self.variables(0), log))
        wait_until_ready(process, port, "/health", log)
        self._write_endpoints(port)

    def _write_endpoints(self, actions: int) -> None:
        (self.folder / "conversations.db").unlink(missing_ok=True)
        endpoints = {
            "tracker_store": {"type": "SQL", "dialect": "sqlite", "db": "conversations.db"},
            "action_endpoint": {"url": f"http://127.0.0.1:{actions}/webhook"},
        }
        write_yaml(self.folder / "endpoints.yml", endpoints)


class Stock(_PlainRasa):
    """The configuration of `rasa init` and the documentation, on the same data.

    Args:
        folder: where it lies.
        environment: the Python environment that runs it.
        source: the project folder whose data it takes.
        epochs: of every trained part; 100 is Rasa's own figure.
    """

    name = STOCK

    def __init__(self, folder: Path, environment: Path, source: Path, epochs: int) -> None:
        super().__init__(folder, environment, source)
        self._epochs = epochs

    def configuration(self) -> dict[str, Any]:
        """Return the stock configuration."""
        return stock_configuration(self._epochs)


class RulesOnly(_PlainRasa):
    """Keywords and rules: one intent for each area, as our rules have it."""

    name = RULES

    def configuration(self) -> dict[str, Any]:
        """Return keywords, rules and nothing else."""
        return {
            "recipe": "default.v1",
            "assistant_id": "rules",
            "language": "en",
            "pipeline": [
                {"name": "KeywordIntentClassifier", "case_sensitive": False},
                {"name": "FallbackClassifier", "threshold": 0.3},
            ],
            "policies": [{"name": "RulePolicy"}],
        }

    def convert(self, domain: dict[str, Any]) -> None:
        """Turn each area with its many answers into one intent with one answer."""
        data = self.folder / "data"
        examples: dict[str, list[str]] = {}
        for path in sorted(data.rglob("*.yml")):
            document = read_yaml(path)
            for block in document.pop("nlu", None) or []:
                area = str(block["intent"]).partition("/")[0]
                lines = str(block["examples"]).splitlines()
                examples.setdefault(area, []).extend(line.partition("-")[2] for line in lines)
            for name, wordings in (document.pop("responses", None) or {}).items():
                domain["responses"].setdefault(name.partition("/")[0], wordings[:1])
            write_yaml(path, document)
        for name in [name for name in domain["responses"] if "/" in name]:
            wordings = domain["responses"].pop(name)
            domain["responses"].setdefault(name.partition("/")[0], wordings[:1])
        nlu = [
            {"intent": intent, "examples": "".join(f"- {keyword}\n" for keyword in keywords)}
            for intent, keywords in _keywords(examples).items()
        ]
        write_yaml(data / "keywords.yml", {"version": "3.1", "nlu": nlu})


def _keywords(examples: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return for each intent what visitors of the measurements say; else its longest example.

    No more, since the KeywordIntentClassifier tries one after the other, and ends with an error
    where keywords of two intents hold one another.
    """
    found: dict[str, list[str]] = {}
    for message in (*QUESTIONS, *OTHERS, BOOKING):
        if message.intent:
            found.setdefault(message.intent, []).append(_keyword(message.text))
    for intent, texts in examples.items():
        found.setdefault(intent, [max(map(_keyword, texts), key=len)])
    return found


def stock_configuration(epochs: int) -> dict[str, Any]:
    """Return the pipeline and the policies as Rasa's documentation gives them.

    Args:
        epochs: of every trained part.
    """
    trained = {"epochs": epochs, "constrain_similarities": True}
    characters = {"analyzer": "char_wb", "min_ngram": 1, "max_ngram": 4}
    return {
        "recipe": "default.v1",
        "assistant_id": "stock",
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


def with_plain_actions(domain: dict[str, Any], data: Path) -> None:
    """Put a form of Rasa's documentation in our form's place, and utterances for our actions.

    Args:
        domain: the domain; changed.
        data: folder of the training data; its files with rules or stories are changed.
    """
    custom = {str(action) for action in domain.get("actions") or []}
    domain["actions"] = ["validate_contact_form"]
    domain["forms"] = {"contact_form": {"required_slots": list(_FORM_SLOTS)}}
    domain["slots"] = {slot: _asked_slot(slot) for slot in _FORM_SLOTS}
    for slot, question in _FORM_SLOTS.items():
        domain["responses"][f"utter_ask_{slot}"] = [{"text": question}]
    for path in sorted(data.rglob("*.yml")):
        document = read_yaml(path)
        flows = [*(document.get("rules") or []), *(document.get("stories") or [])]
        steps = [step for flow in flows for step in flow["steps"]]
        replaced = [step for step in steps if step.get("action") in custom]
        for step in replaced:
            step["action"] = _STAND_INS.get(step["action"], _OTHER_STAND_IN)
        if replaced:
            write_yaml(path, document)


def _asked_slot(slot: str) -> dict[str, Any]:
    asked = {"active_loop": "contact_form", "requested_slot": slot}
    mapping = {"type": "from_text", "conditions": [asked]}
    return {"type": "text", "influence_conversation": False, "mappings": [mapping]}


def _keyword(text: str) -> str:
    """Return a text without what the KeywordIntentClassifier would read as a pattern."""
    return " ".join(re.sub(r"[^\w' ]", " ", text).split())


def form_conversation(assistant: Assistant) -> list[Message]:
    """Return what a visitor says who fills the contact form of an assistant."""
    turns = [Message(BOOKING.kind, "", text) for text in assistant.form]
    return [BOOKING._replace(kind="form opening"), *turns]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file; what is no mapping counts as empty."""
    document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def write_yaml(path: Path, document: dict[str, Any]) -> None:
    """Write a YAML file."""
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)
