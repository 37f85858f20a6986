"""Where faults are staged: a small installation on SQLite, and a large one with everything."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from tests.faults import services
from tests.faults.proxy import FaultProxy
from tests.faults.server import ServerProcess, project_copy
from tests.receivers import MailServer, WebhookReceiver

SECRETS = {
    "WEBCHAT_SECRET": "a secret of the fault suite, long enough",
    "CONTACT_KEYS": base64.urlsafe_b64encode(b"k" * 32).decode(),
}
_FAULTY_CODE = Path(__file__).parent / "faulty_code"


@dataclass
class Place:
    """A running installation.

    Attributes:
        folder: of its own, for whatever a fault needs.
        home: its project folder, a copy.
        server: the process under test.
        engine: leads to the database past all faults.
        targets: how many are told of each request.
        postgres, redis, rabbitmq, smtp: the wires to them; None where the installation has none.
    """

    folder: Path
    home: Path
    server: ServerProcess
    engine: sa.engine.Engine
    targets: int = 0
    mail: MailServer = field(default_factory=MailServer)
    webhook: WebhookReceiver = field(default_factory=WebhookReceiver)
    postgres: FaultProxy | None = None
    redis: FaultProxy | None = None
    redis_port: int = 0
    rabbitmq: FaultProxy | None = None
    rabbitmq_port: int = 0
    smtp: FaultProxy | None = None

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self.server.url

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "assistant.db"

    @property
    def actions_control(self) -> Path:
        """The file that tells the faulty actions how to fail."""
        return self.folder / "actions.txt"


@contextmanager
def new_folder() -> Iterator[Path]:
    """Provide a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Path(folder)


def environment_of(folder: Path, home: Path) -> dict[str, str]:
    """Return the settings that all installations share."""
    return {
        "ASSISTANT_HOME": str(home),
        "OFFICE_FILE": str(home / "office.yml"),
        "DATABASE_URL": f"sqlite:///{folder / 'assistant.db'}",
        "FAULTY_ACTIONS": str(folder / "actions.txt"),
        "TRAIN_AT_START": "no",
        **SECRETS,
    }


def engine_of(url: str) -> sa.engine.Engine:
    """Return an engine that keeps no connection and makes no tables."""
    return sa.create_engine(url, poolclass=sa.pool.NullPool)


@contextmanager
def small(folder: Path | None = None, **environment: str) -> Iterator[Place]:
    """Provide one process on SQLite, whose custom actions can be told to fail."""
    with ExitStack() as stack:
        folder = folder or stack.enter_context(new_folder())
        home = project_copy(folder)
        settings = {**environment_of(folder, home), **environment}
        server = ServerProcess(folder, settings, before=[_FAULTY_CODE])
        stack.callback(server.start().stop)
        server.wait_ready()
        yield Place(folder, home, server, engine_of(settings["DATABASE_URL"]))


@contextmanager
def large(**environment: str) -> Iterator[Place]:
    """Provide a process on PostgreSQL, Redis, RabbitMQ, a mail server and a webhook receiver.

    Each stands behind a wire that can fail.
    """
    with large_stopped(**environment) as place:
        place.server.start().wait_ready()
        yield place


@contextmanager
def large_stopped(**environment: str) -> Iterator[Place]:
    """Provide the same, with the server not started."""
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder())
        home = project_copy(folder)
        url, socket = stack.enter_context(services.postgres())
        redis_port = stack.enter_context(services.redis())
        rabbitmq_port = stack.enter_context(services.rabbitmq())
        mail = MailServer()
        postgres, redis, rabbitmq, smtp = (
            stack.enter_context(FaultProxy(upstream))
            for upstream in (socket, redis_port, rabbitmq_port, mail.port)
        )
        webhook = WebhookReceiver()
        for receiver in (mail, webhook):
            receiver.start()
            stack.callback(receiver.stop)
        address = sa.engine.make_url(url)
        wired = address.set(host="127.0.0.1", port=postgres.port, query={})
        settings = {
            **environment_of(folder, home),
            "DATABASE_URL": wired.render_as_string(hide_password=False),
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "AMQP_URL": f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/",
            "OFFICE_EMAILS": "desk@moonbeam.example",
            "MAIL_FROM": "assistant@moonbeam.example",
            "SMTP_URL": f"smtp+plain://127.0.0.1:{smtp.port}",
            "WEBHOOK_URLS": webhook.url,
            "WEBHOOK_SECRET": f"whsec_{base64.b64encode(b'k' * 32).decode()}",
            **environment,
        }
        place = Place(
            folder,
            home,
            ServerProcess(folder, settings, before=[_FAULTY_CODE]),
            engine_of(url),
            targets=2,
            mail=mail,
            webhook=webhook,
            postgres=postgres,
            redis=redis,
            redis_port=redis_port,
            rabbitmq=rabbitmq,
            rabbitmq_port=rabbitmq_port,
            smtp=smtp,
        )
        stack.callback(place.server.stop)
        yield place
