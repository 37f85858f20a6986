"""Settings from the environment: one place that names, checks and explains each of them."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


class SettingError(ValueError):
    """A setting is missing or cannot be used; the message says which and what to set."""


@dataclass(frozen=True)
class Target:
    """Who is told about each request.

    Attributes:
        name: stands in the database and the log, and holds no secret.
        address: an e-mail address or the address of a webhook, which may be a secret.
    """

    name: str
    address: str = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """What an installation decides.

    Attributes:
        production: whether visitors reach this server; then nothing insecure is a default.
        host, port: where the server listens.
        secret: signs web chat sessions.
        origins: sites that may embed the chat, besides the server's own.
        proxies: how many trusted proxies stand in front (their X-Forwarded-For is believed).
        database_url: SQLAlchemy address of the database.
        action_endpoint: address of a separate action server; "" runs actions in this process.
        answer_seconds: longest time for an answer before the visitor gets an apology.
        contact_keys: encrypt contact requests, the newest first.
        targets: who is told about each request.
        draft_minutes: how long an unfinished request is kept.
        session_hours: life of a web chat session.
        session_rate, session_burst: messages a second, and at once, of one session.
        address_rate, address_burst: requests a second, and at once, of one network address.
    """

    production: bool = False
    host: str = "127.0.0.1"
    port: int = 5005
    secret: str = ""
    origins: tuple[str, ...] = ()
    proxies: int = 0
    database_url: str = ""
    action_endpoint: str = ""
    answer_seconds: float = 15.0
    contact_keys: tuple[str, ...] = field(default=(), repr=False)
    targets: tuple[Target, ...] = ()
    draft_minutes: float = 60.0
    session_hours: float = 24.0
    session_rate: float = 2.0
    session_burst: int = 20
    address_rate: float = 10.0
    address_burst: int = 100
    folder: Path = field(default_factory=lambda: project_folder())


def project_folder() -> Path:
    """Return the folder with `config.yml`, `data/` and `office.yml`.

    It is `ASSISTANT_HOME` if that is set, else the current folder, as for Rasa's own commands.
    """
    return Path(os.environ.get("ASSISTANT_HOME") or ".").resolve()


def office_file() -> Path:
    """Return the file with the office's facts: `OFFICE_FILE`, or `office.yml` in the project."""
    return Path(os.environ.get("OFFICE_FILE") or project_folder() / "office.yml")


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read all settings.

    Args:
        environment: the variables; the process's own by default.

    Raises:
        SettingError: a value cannot be used, or production lacks a secret.
    """
    env = os.environ if environment is None else environment
    folder = project_folder()
    mode = env.get("ASSISTANT_MODE", "development")
    if mode not in ("development", "production"):
        raise SettingError(f"ASSISTANT_MODE is '{mode}'; set it to development or production.")
    production = mode == "production"
    return Settings(
        production=production,
        host=env.get("HOST") or "127.0.0.1",  # make hands on an empty HOST
        port=_whole(env, "PORT", 5005, 0, 65535),
        secret=_secret(env, production, folder),
        origins=_origins(env.get("WEBCHAT_ORIGINS", "")),
        proxies=_whole(env, "TRUSTED_PROXIES", 0, 0, 10),
        database_url=env.get("DATABASE_URL") or f"sqlite:///{folder / 'var' / 'assistant.db'}",
        action_endpoint=env.get("ACTION_ENDPOINT", ""),
        answer_seconds=_number(env, "ANSWER_SECONDS", 15.0, 1.0, 300.0),
        contact_keys=_contact_keys(env, production, folder),
        draft_minutes=_number(env, "DRAFT_MINUTES", 60.0, 1.0, 60.0 * 24),
        session_hours=_number(env, "WEBCHAT_SESSION_HOURS", 24.0, 0.1, 24.0 * 30),
        session_rate=_number(env, "WEBCHAT_SESSION_RATE", 2.0, 0.01, 10_000.0),
        session_burst=_whole(env, "WEBCHAT_SESSION_BURST", 20, 1, 100_000),
        address_rate=_number(env, "WEBCHAT_ADDRESS_RATE", 10.0, 0.01, 100_000.0),
        address_burst=_whole(env, "WEBCHAT_ADDRESS_BURST", 100, 1, 1_000_000),
        folder=folder,
    )


def _secret(env: Mapping[str, str], production: bool, folder: Path) -> str:
    secret = env.get("WEBCHAT_SECRET", "")
    if secret:
        if len(secret) < 32:
            raise SettingError(
                "WEBCHAT_SECRET is shorter than 32 characters. Make one with: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        return secret
    if production:
        raise SettingError(
            "WEBCHAT_SECRET is not set. In production it signs the visitors' sessions; make one "
            "with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return _kept_secret(folder / "var" / "webchat.secret", secrets.token_urlsafe(48))


def _contact_keys(env: Mapping[str, str], production: bool, folder: Path) -> tuple[str, ...]:
    text = env.get("CONTACT_KEYS", "")
    how = (
        "make one with: python3 -c 'import base64, os; "
        "print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
    )
    if not text:
        if production:
            raise SettingError(
                f"CONTACT_KEYS is not set. In production it encrypts contact requests; {how}"
            )
        text = _kept_secret(
            folder / "var" / "contact.key", base64.urlsafe_b64encode(os.urandom(32)).decode()
        )
    keys = tuple(part.strip() for part in text.split(","))
    for place, key in enumerate(keys, 1):
        try:
            usable = len(base64.b64decode(key, altchars=b"-_", validate=True)) == 32
        except ValueError:
            usable = False
        if not usable:
            raise SettingError(f"Key {place} of CONTACT_KEYS is not 32 bytes in base64; {how}")
    return keys


def _kept_secret(path: Path, fresh: str) -> str:
    """Return a development secret, made at the first start and kept for the next."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(fresh)
        except FileExistsError:
            pass  # another process made it in the same moment
    return path.read_text(encoding="utf-8").strip()


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
            raise SettingError(
                f"WEBCHAT_ORIGINS holds '{origin}', which is not an origin. Write scheme and host, "
                f"separated by commas: https://www.example.com,https://example.com"
            )
    return origins


def _whole(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    return int(_number(env, name, default, least, most, whole=True))


def _number(
    env: Mapping[str, str],
    name: str,
    default: float,
    least: float,
    most: float,
    whole: bool = False,
) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise SettingError(f"{name} is '{text}'; set it to {kind} from {least:g} to {most:g}.")
    return value
