"""What an attacker would try first: default secrets, forgotten routes, missing headers, talkative errors."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from assistant.channels.rate_limit import RateLimit, network_of
from assistant.redaction import redact
from assistant.settings import SettingError, Settings, load_settings
from tests.conftest import PROJECT, free_port

CANARY = "Xq7wPz4vKj9mTn2r"
"""Part of each secret below; it may never be seen."""

SECRETS = {
    "WEBCHAT_SECRET": f"{CANARY}-signs-the-sessions-of-the-visitors",
    "CONTACT_KEYS": base64.urlsafe_b64encode(CANARY.encode() * 2).decode(),
    "ACTION_SECRET": f"{CANARY}-is-shared-with-the-action-server",
    "METRICS_TOKEN": f"{CANARY}-lets-the-collector-read-the-metrics",
    "WEBHOOK_SECRET": f"whsec_{base64.b64encode(CANARY.encode() * 2).decode()}",
    "TWILIO_AUTH_TOKEN": f"{CANARY}-twilio-signs-with-it",
    "MESSENGER_PAGE_TOKEN": f"{CANARY}-writes-as-the-page",
    "MESSENGER_APP_SECRET": f"{CANARY}-meta-signs-with-it",
    "MESSENGER_VERIFY_TOKEN": f"{CANARY}-meta-shows-it-once",
    "TELEGRAM_TOKEN": f"123456:{CANARY}-is-the-bot",
    "TELEGRAM_SECRET": f"{CANARY}-telegram-shows-it",
    "SLACK_BOT_TOKEN": f"xoxb-{CANARY}-is-the-app",
    "SLACK_SIGNING_SECRET": f"{CANARY}-slack-signs-with-it",
}
"""Every setting that is a secret. A new one belongs here."""

PASSWORDS = {
    "SMTP_URL": "smtps://office:{}@mail.moonbeam.example",
    "DATABASE_URL": "postgresql://office:{}@127.0.0.1:1/office",
    "REDIS_URL": "redis://:{}@127.0.0.1:1",
    "AMQP_URL": "amqps://office:{}@127.0.0.1:1",
}
"""Every setting with a password inside."""

SHOWN = [CANARY, SECRETS["CONTACT_KEYS"], SECRETS["WEBHOOK_SECRET"].removeprefix("whsec_")]

PRODUCTION = {
    "ASSISTANT_MODE": "production",
    "OFFICE_EMAILS": "desk@moonbeam.example",
    "MAIL_FROM": "assistant@moonbeam.example",
    "WEBHOOK_URLS": f"https://crm.moonbeam.example/{CANARY}",
    "PUBLIC_URL": "https://chat.moonbeam.example",
    "TWILIO_ACCOUNT_SID": "AC" + "0a" * 16,
    "TWILIO_SMS_NUMBER": "+12135550111",
    **SECRETS,
    **{name: url.format(CANARY) for name, url in PASSWORDS.items()},
}


def hides_all_secrets(text: str) -> bool:
    return not any(secret in text for secret in SHOWN)


# No default secret works in production.


def test_the_settings_of_this_test_are_accepted_in_production() -> None:
    assert load_settings(PRODUCTION).production


@pytest.mark.parametrize("name", ["WEBCHAT_SECRET", "CONTACT_KEYS", "WEBHOOK_SECRET"])
def test_production_makes_up_no_secret(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        load_settings({**PRODUCTION, name: ""})


PLACEHOLDERS = [
    "change-me",
    "CHANGE_ME_to_48_random_characters_before_you_start",
    "replace-this-with-a-secret-of-your-own-please-now",
    "<put your own secret of 48 characters in here!!>",
    "your-secret-key-your-secret-key-your-secret-key",
    "an-example-that-is-long-enough-to-be-a-secret-00",
    "placeholder-placeholder-placeholder-placeholder",
    "${SECRET_THAT_NOBODY_FILLED_IN_BEFORE_THE_START}",
    "whsec_...",
]


@pytest.mark.parametrize("value", PLACEHOLDERS)
@pytest.mark.parametrize("name", SECRETS)
def test_an_example_in_place_of_a_secret_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name} holds an example") as caught:
        load_settings({**PRODUCTION, name: value})
    assert value not in str(caught.value)


@pytest.mark.parametrize("password", ["change-me", "password", "Postgres", "admin", "<password>"])
@pytest.mark.parametrize("name", PASSWORDS)
def test_a_password_that_everybody_knows_is_refused(name: str, password: str) -> None:
    with pytest.raises(SettingError, match=f"{name} holds an example"):
        load_settings({**PRODUCTION, name: PASSWORDS[name].format(password)})


def tracked_files(*endings: str) -> list[Path]:
    """Return what git keeps, by the ends of the names."""
    if not (PROJECT / ".git").exists():
        pytest.skip("This is no checkout; only what git keeps is looked at.")
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    files = [PROJECT / name for name in listed if name.endswith(endings)]
    return [path for path in files if path.is_file()]


def example_settings() -> list[tuple[str, str, str]]:
    """Return file, name and value wherever a page or a deployment file sets a secret."""
    names = "|".join([*SECRETS, *PASSWORDS])
    setting = re.compile(rf"\b({names})[\"']?[ \t]*[=:][ \t]*[\"']?([^\s\"'`]+)")
    found = []
    for path in tracked_files(""):
        relative = path.relative_to(PROJECT)
        if path.suffix == ".md" or relative.parts[0] == "deploy" or len(relative.parts) == 1:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [(str(relative), *pair) for pair in setting.findall(text)]
    return found


def test_no_secret_of_our_own_examples_works() -> None:
    examples = [
        (file, name, value)
        for file, name, value in example_settings()
        if not value.startswith(("$", "postgresql://user:password@host", "sqlite:"))
        and (name not in PASSWORDS or re.search(r"//[^/@]*:[^/@]*@", value))
    ]
    assert len(examples) >= 3  # those of docs/staff.md at least
    accepted = []
    for file, name, value in examples:
        try:
            load_settings({**PRODUCTION, name: value})
        except SettingError:
            continue
        accepted.append(f"{file}: {name}")
    assert accepted == []


def test_git_keeps_no_key_and_no_token() -> None:
    secret = re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE"
        + r" KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abprs]-\d{6,}"
        r"|\bsk_live_\w{16,}|\bAIza[\w-]{35}\b|\bwhsec_[A-Za-z0-9+/]{32,}"
        r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}|(?<![\w-])[\w-]{43}=(?![\w=])"
    )
    files = tracked_files("")
    assert len(files) > 100
    found = [
        str(path.relative_to(PROJECT))
        for path in files
        if secret.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("origins", ["*", "https://*.practice.example", "null"])
def test_only_named_sites_can_be_allowed(origins: str) -> None:
    with pytest.raises(SettingError, match="not an origin"):
        load_settings({**PRODUCTION, "WEBCHAT_ORIGINS": origins})


# Secrets are not shown.


def test_a_field_that_holds_a_secret_is_left_out_of_what_is_shown() -> None:
    secret = re.compile(r"secret|key|token|password|url")
    fields = [field for field in dataclasses.fields(Settings) if secret.search(field.name)]
    assert len(fields) >= 5
    assert [field.name for field in fields if field.repr] == []
    assert hides_all_secrets(repr(load_settings(PRODUCTION)))


@pytest.mark.parametrize("name", [*SECRETS, *PASSWORDS, "WEBHOOK_URLS", "WEBCHAT_ORIGINS"])
@pytest.mark.parametrize("damage", ["{}x,", "{}://", "postgres:/{}", "{}@:port"])
def test_a_refused_setting_is_not_quoted(name: str, damage: str) -> None:
    value = damage.format(PRODUCTION.get(name, "https://moonbeam.example"))
    try:
        shown = repr(load_settings({**PRODUCTION, name: value}))
    except SettingError as error:
        shown = str(error)
    assert hides_all_secrets(shown)


@pytest.mark.parametrize(
    ("command", "variables", "words"),
    [
        ("requests", {}, "The database does not answer"),
        ("serve", {"DATABASE_URL": f"postgres:/office:{CANARY}@db/office"}, "DATABASE_URL must"),
        ("serve", {"WEBHOOK_SECRET": CANARY}, "WEBHOOK_SECRET must"),
    ],
)
def test_a_start_that_fails_shows_no_secret(
    command: str, variables: dict[str, str], words: str
) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "assistant.command_line", command],
        cwd=PROJECT, env={**os.environ, **PRODUCTION, **variables}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 1, process.stdout
    assert words in process.stdout
    assert hides_all_secrets(process.stdout)


def test_a_database_that_is_away_does_not_put_its_password_into_a_traceback() -> None:
    from assistant.storage.database import engine_for

    with pytest.raises(Exception, match="connection to server") as caught:
        engine_for(PRODUCTION["DATABASE_URL"])
    assert hides_all_secrets("".join(traceback.format_exception(caught.value)))


def test_an_answer_cannot_show_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rasa.shared.utils.io  # noqa: F401 - from here on such places are filled in

    from assistant.content.catalogue import ContentError, load_catalogue

    monkeypatch.setenv("CONTACT_KEYS", SECRETS["CONTACT_KEYS"])
    shutil.copytree(PROJECT / "data", tmp_path / "data")
    domain = (PROJECT / "domain.yml").read_text(encoding="utf-8")
    (tmp_path / "domain.yml").write_text(domain, encoding="utf-8")
    assert "greet" in load_catalogue(tmp_path).answers
    leaking = domain.replace("responses:\n", "responses:\n  utter_x:\n  - text: ${CONTACT_KEYS}\n")
    (tmp_path / "domain.yml").write_text(leaking, encoding="utf-8")
    with pytest.raises(ContentError, match="its secrets included"):
        load_catalogue(tmp_path)


def test_nothing_phones_home() -> None:
    from rasa.telemetry import is_telemetry_enabled

    import assistant  # noqa: F401 - it turns telemetry off

    assert not is_telemetry_enabled()


# The application, with a stand-in for Rasa's agent: over real HTTP, without a model.

ROUTES = {
    ("GET", "/"): "open",  # leads to the chat
    ("GET", "/health/live"): "open",
    ("GET", "/health/ready"): "open",
    ("GET", "/metrics"): "metrics token",
    ("GET", "/webchat"): "open",
    ("GET", "/webchat/<name:str>"): "open",
    ("POST", "/webchat/session"): "origin",
    ("DELETE", "/webchat/session"): "session",
    ("GET", "/webchat/messages"): "session",
    ("POST", "/webchat/messages"): "session",
    ("POST", "/webchat/feedback"): "session",
    ("GET", "/webhooks/<name:str>"): "platform",  # Messenger's question when it is set up
    ("POST", "/webhooks/<name:str>"): "platform",
}
"""Every route, and what it asks of a caller: nothing; an allowed origin; that, and a session's token;
a platform's signature or secret.

A route that is added must be added here, and to docs/threat-model.md.
"""

ANSWERED = "answered-message"


class Agent:
    """Stands where the server keeps Rasa's agent."""

    def __init__(self) -> None:
        from rasa.shared.core.events import BotUttered, UserUttered

        events = [UserUttered("hello", message_id=ANSWERED), BotUttered("Hello.")]
        self.fails = False
        self.tracker = SimpleNamespace(events=events)
        self.tracker_store = self.nlg = self.lock_store = self

    def is_ready(self) -> bool:
        return True

    def is_stuck(self, seconds: float) -> bool:
        return False

    async def handle_message(self, message: Any) -> None:
        if self.fails:
            raise RuntimeError(f"Cannot log in as office:{CANARY}")
        await message.output_channel.send_response(message.sender_id, {"text": "Hello."})

    async def retrieve_full_tracker(self, conversation_id: str) -> Any:
        if self.fails:
            raise RuntimeError(f"Cannot log in as office:{CANARY}")
        return self.tracker

    async def generate(self, *_: Any) -> dict[str, Any]:
        return {"text": "Hello, I am an automated assistant."}

    @asynccontextmanager
    async def lock(self, *_: Any, **__: Any) -> AsyncIterator[None]:
        from assistant.storage.database import StorageError

        raise StorageError(f"redis://:{CANARY}@redis is away")
        yield


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application that `assistant serve` runs."""

    from assistant.server import build_app

    environment = {
        **PRODUCTION,
        "REDIS_URL": "",
        "AMQP_URL": "",
        "DATABASE_URL": f"sqlite:///{tmp_path_factory.mktemp('app') / 'assistant.db'}",
        "WEBCHAT_ORIGINS": "https://practice.moonbeam.example",
        "WEBCHAT_ADDRESS_BURST": "1000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        app = build_app(load_settings(environment), Path("no-model.tar.gz"))
        yield app


@pytest.fixture(scope="module")
async def address(app: Any) -> AsyncIterator[str]:
    """Where the application listens; the start that would load a model is left out."""
    port = free_port()
    server = await app.create_server("127.0.0.1", port, return_asyncio_server=True)
    await server.startup()
    yield f"http://127.0.0.1:{port}"
    await server.close()


@pytest.fixture
async def http(app: Any, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    app.ctx.agent = Agent()
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        yield client


async def token(http: httpx.AsyncClient) -> dict[str, str]:
    response = await http.post("/webchat/session")
    assert response.status_code == 201, response.text
    return {"Authorization": f"Bearer {response.json()['token']}"}


async def test_no_route_appears_unnoticed(http: httpx.AsyncClient, app: Any) -> None:
    registered = {
        (method, f"/{route.path}")
        for route in app.router.routes
        for method in route.methods
        if not route.path.startswith("staff")  # tests/test_staff_sign_in.py walks these
    }
    assert registered == set(ROUTES)
    model = (PROJECT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = [path for _, path in ROUTES if path != "/" and path.partition("<")[0] not in model]
    assert named == []


@pytest.mark.parametrize(("method", "path"), [r for r, asks in ROUTES.items() if asks == "session"])
async def test_what_is_a_visitors_own_needs_the_visitors_token(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        response = await http.request(method, path, headers=headers, content=b'{"text": "hi"}')
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_session"


@pytest.mark.parametrize(
    ("method", "path"), [r for r, asks in ROUTES.items() if asks in ("origin", "session")]
)
async def test_no_foreign_site_is_served(http: httpx.AsyncClient, method: str, path: str) -> None:
    for origin in (
        "https://evil.example",
        "null",
        "https://practice.moonbeam.example.evil.example",
    ):
        headers = {**await token(http), "Origin": origin}
        response = await http.request(method, path, headers=headers, content=b'{"text": "hi"}')
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("name", ["twilio", "messenger", "telegram", "slack"])
async def test_nobody_but_the_platform_calls_its_webhook(
    http: httpx.AsyncClient, name: str
) -> None:
    for content in (b"", b"{}", b"From=%2B18185550134&Body=hello", b'{"text": "hello"}'):
        response = await http.post(f"/webhooks/{name}", content=content)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unsigned"


async def test_the_metrics_are_for_the_collector_alone(http: httpx.AsyncClient) -> None:
    for token in ("", "Bearer nonsense", SECRETS["METRICS_TOKEN"]):
        response = await http.get("/metrics", headers={"Authorization": token})
        assert response.status_code in (401, 403, 404)
        assert "# HELP" not in response.text
    headers = {"Authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"}
    response = await http.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert hides_all_secrets(response.text)


async def test_rasas_http_api_is_not_there(http: httpx.AsyncClient) -> None:
    from rasa.server import create_app

    theirs = create_app()
    theirs.finalize()
    calls = [
        (method, "/" + re.sub(r"<[^>]+>", "x", route.path))
        for route in theirs.router.routes
        for method in route.methods
        if route.path
    ]
    assert len(calls) >= 15
    calls += [("POST", "/webhooks/rest/webhook"), ("GET", "/socket.io"), ("POST", "/webhook")]
    for method, path in calls:
        response = await http.request(method, path)
        assert response.status_code == 404, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 302),
        ("GET", "/nothing", None, 404),
        ("PUT", "/webchat/session", None, 405),
        ("GET", "/health/live", None, 200),
        ("GET", "/health/ready", None, 503),
        ("GET", "/webchat/", None, 200),
        ("GET", "/webchat/widget.js", None, 200),
        ("GET", "/webchat/nothing.js", None, 404),
        ("POST", "/webchat/session", None, 201),
        ("POST", "/webchat/session", b"{", 400),
        ("POST", "/webchat/messages", b'{"text": "hello"}', 200),
        ("POST", "/webchat/messages", b"x" * 20_000, 413),
        ("POST", "/webchat/messages", b"x" * 300_000, 413),
        ("GET", "/webchat/messages", None, 200),
        ("POST", "/webchat/feedback", f'{{"id": "{ANSWERED}", "helpful": true}}'.encode(), 204),
        ("POST", "/webchat/feedback", b'{"id": "never-answered", "helpful": true}', 404),
        ("OPTIONS", "/webchat/session", None, 200),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_every_response_carries_what_keeps_a_browser_safe(
    http: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int
) -> None:
    headers = await token(http)
    response = await http.request(method, path, content=body, headers=headers)
    assert response.status_code == status, response.text
    check_headers(response.headers, is_file=path.startswith("/webchat/") and method == "GET")
    assert hides_all_secrets(response.text + str(response.headers))


def check_headers(headers: httpx.Headers, is_file: bool = False) -> None:
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers
    assert "x-powered-by" not in headers
    if "json" in headers.get("content-type", "") or not is_file:
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"413"),
        (b"POST /webchat/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", b"413"),
    ],
    ids=["no HTTP", "long header", "long body"],
)
async def test_what_is_hardly_http_is_refused_in_the_same_way(
    http: httpx.AsyncClient, request_: bytes, status: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
    writer.write(request_)
    answer = await asyncio.wait_for(reader.read(), timeout=30)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert b"Traceback" not in body
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    check_headers(httpx.Headers([(name, value) for name, _, value in lines]))


async def test_what_went_wrong_inside_is_told_to_nobody_outside(
    http: httpx.AsyncClient, app: Any
) -> None:
    headers = await token(http)
    app.ctx.agent.fails = True
    answered = await http.post("/webchat/messages", headers=headers, json={"text": "hello"})
    assert answered.status_code == 200
    assert "something went wrong" in answered.text
    failed = await http.get("/webchat/messages", headers=headers)
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "internal"
    erased = await http.delete("/webchat/session", headers=headers)
    assert erased.status_code in (500, 503)
    ready = await http.get("/health/ready")
    assert ready.status_code == 503
    for response in (answered, failed, erased, ready):
        assert hides_all_secrets(response.text)
        assert "Traceback" not in response.text
        assert "Error" not in response.text


# One visitor must not stop the others.


@contextmanager
def ended_after(seconds: int) -> Iterator[None]:
    """Break off what does not come to an end by itself, also inside a regular expression."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_no_text_keeps_the_redaction_busy() -> None:
    # A pattern that tries every start with every "@" and every dot would need an hour for this.
    with ended_after(60):
        for piece in ("a@", "a@b.", "1 ", "1-", "a at ", "my name is ", "12 Ab ", "I am A ", "("):
            redact(piece * (8000 // len(piece)))


def test_an_address_is_found_wherever_it_stands() -> None:
    text = "mail:ana@x.org,<bob@y.co.uk> or ana@work@z.example, not a@b or @home"
    assert redact(text) == "mail:[e-mail],<[e-mail]> or [e-mail], not a@b or @home"


def test_a_long_request_counts_for_more() -> None:
    limit = RateLimit(rate=1.0, burst=10, clock=lambda: 0.0)
    assert limit.wait("a", cost=8.0) == 0
    assert limit.wait("a", cost=8.0) == 6
    assert limit.wait("a") == 0
    assert limit.wait("b", cost=1000.0) == 0  # as much as there is, but not never
    assert limit.wait("b") == 1


def test_who_has_many_addresses_of_one_network_is_one_caller() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1")
    assert network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")
    assert network_of("203.0.113.7") == "203.0.113.7"
    assert network_of("unknown") == "unknown"


async def test_what_fails_ahead_of_a_message_costs_no_advice(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("cannot start a thread")

    headers = await token(http)
    monkeypatch.setattr("assistant.channels.webchat._read_ahead", fail)
    text = "i can't pee and my groin is numb"
    answered = await http.post("/webchat/messages", headers=headers, json={"text": text})
    assert answered.status_code == 200
    assert answered.json()["messages"][0]["metadata"]["urgency"] == "emergency"
