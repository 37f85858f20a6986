"""Settings from the environment: one place that names, checks and explains each of them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from email_validator import EmailNotValidError, validate_email

_PLACEHOLDER = re.compile(
    r"change.?(?:me|it|this)|replace|placeholder|example|\.\.\.|<\w[^<>]*>|\$\{"
    r"|your.?(?:own|secret|key|password|token)|insert.?here",
    re.IGNORECASE,
)
"""What examples hold in place of a secret. No random value in base64 or hexadecimal looks like it."""

_WELL_KNOWN = frozenset({"admin", "guest", "password", "postgres", "root", "secret", "test"})
"""Passwords that services are installed with."""

SECRETS = (
    "ACTION_SECRET",
    "AMQP_URL",
    "CONTACT_KEYS",
    "DATABASE_URL",
    "MESSENGER_APP_SECRET",
    "MESSENGER_PAGE_TOKEN",
    "MESSENGER_VERIFY_TOKEN",
    "METRICS_TOKEN",
    "REDIS_URL",
    "SLACK_BOT_TOKEN",
    "SLACK_SIGNING_SECRET",
    "SMTP_URL",
    "TELEGRAM_SECRET",
    "TELEGRAM_TOKEN",
    "TWILIO_AUTH_TOKEN",
    "WEBCHAT_SECRET",
    "WEBHOOK_SECRET",
    "WEBHOOK_URLS",
)
"""Settings that can also lie in a file each, which `NAME_FILE` then names."""


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
class MailServer:
    """The server that sends our mail.

    Attributes:
        host, port: where it is.
        sender: the address that mail comes from.
        security: "tls", "starttls" or, on this machine only, "none".
        user, password: to log in; "" without.
    """

    host: str
    port: int
    sender: str
    security: str = "tls"
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Messaging:
    """The messaging platforms; one without its secrets is off.

    Attributes:
        public_url: where the platforms reach this server, as https://chat.example.com.
        call_seconds: how long one call of a platform may take.
        give_up_hours: after that an answer that a platform does not take is given up.
        twilio_account_sid, twilio_auth_token: the account at Twilio.
        twilio_sms_number, twilio_whatsapp_number: our numbers as E.164; "" if the channel is off.
        messenger_page_token: lets us write as the office's Facebook page.
        messenger_app_secret: with it Meta signs its calls.
        messenger_verify_token: what Meta shows when the webhook is set up.
        messenger_graph_version: of the Graph API, as v25.0; Meta ends each after two years or more.
        telegram_token: the bot's, from BotFather.
        telegram_secret: what Telegram shows at each call; ours to choose.
        slack_bot_token: begins with xoxb-.
        slack_signing_secret: with it Slack signs its calls.
        twilio_api_url, messenger_api_url, telegram_api_url, slack_api_url: where the platforms are.
    """

    public_url: str = ""
    call_seconds: float = 10.0
    give_up_hours: float = 6.0
    twilio_account_sid: str = ""
    twilio_auth_token: str = field(default="", repr=False)
    twilio_sms_number: str = ""
    twilio_whatsapp_number: str = ""
    twilio_api_url: str = "https://api.twilio.com"
    messenger_page_token: str = field(default="", repr=False)
    messenger_app_secret: str = field(default="", repr=False)
    messenger_verify_token: str = field(default="", repr=False)
    messenger_graph_version: str = "v25.0"
    messenger_api_url: str = "https://graph.facebook.com"
    telegram_token: str = field(default="", repr=False)
    telegram_secret: str = field(default="", repr=False)
    telegram_api_url: str = "https://api.telegram.org"
    slack_bot_token: str = field(default="", repr=False)
    slack_signing_secret: str = field(default="", repr=False)
    slack_api_url: str = "https://slack.com/api"


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
        database_wait_seconds: how long a start waits for the database.
        redis_url: where several processes agree who answers next; "" for a single process.
        event_stream_url: the RabbitMQ server that is told all stored events; "" for none.
        metrics_token: what a reader of the metrics must show; "" closes them in production.
        log_format: "plain" lines for people or "json" for programs.
        drain_seconds: how long a stop waits for the answers under way.
        train_at_start: whether a start may train when no model fits the data.
        model_sha256: the digest that the model must have; "" for the one that training noted.
        action_endpoint: address of a separate action server; "" runs actions in this process.
        action_secret: what a separate action server and its callers share; "" only in development.
        answer_seconds: longest time for an answer before the visitor gets an apology.
        contact_keys: encrypt contact requests, the newest first.
        targets: who is told about each request.
        mail_server: how mail is sent; None if nobody is told by mail.
        webhook_secret: signs what webhooks get.
        delivery_details: whether messages hold what the visitor wrote.
        draft_minutes: how long an unfinished request is kept.
        handled_request_days: how long a request is kept after it was handled or withdrawn.
        request_days: how long any request is kept.
        transcript_days: how long conversations are kept.
        session_hours: life of a web chat session.
        session_rate, session_burst: messages a second, and at once, of one session.
        address_rate, address_burst: requests a second, and at once, of one network address.
        messaging: the messaging platforms.
        log_level: from which level our own lines are written; INFO by default for JSON, else WARNING.
    """

    production: bool = False
    host: str = "127.0.0.1"
    port: int = 5005
    secret: str = field(default="", repr=False)
    origins: tuple[str, ...] = ()
    proxies: int = 0
    database_url: str = field(default="", repr=False)
    database_wait_seconds: float = 60.0
    redis_url: str = field(default="", repr=False)
    event_stream_url: str = field(default="", repr=False)
    metrics_token: str = field(default="", repr=False)
    log_format: str = "plain"
    drain_seconds: float = 20.0
    train_at_start: bool = True
    model_sha256: str = ""
    action_endpoint: str = ""
    action_secret: str = field(default="", repr=False)
    answer_seconds: float = 15.0
    contact_keys: tuple[str, ...] = field(default=(), repr=False)
    targets: tuple[Target, ...] = ()
    mail_server: MailServer | None = None
    webhook_secret: str = field(default="", repr=False)
    delivery_details: bool = False
    draft_minutes: float = 60.0
    handled_request_days: float = 30.0
    request_days: float = 180.0
    transcript_days: float = 30.0
    session_hours: float = 24.0
    session_rate: float = 2.0
    session_burst: int = 20
    address_rate: float = 10.0
    address_burst: int = 100
    messaging: Messaging = field(default_factory=Messaging)
    log_level: str = "WARNING"
    folder: Path = field(default_factory=lambda: project_folder())


def project_folder() -> Path:
    """Return the folder with `config.yml`, `data/` and `office.yml`.

    It is `ASSISTANT_HOME` if that is set, else the current folder, as for Rasa's own commands.
    """
    # Not resolve(): each message asks several times, and that looks at the disk.
    return Path(os.path.abspath(os.environ.get("ASSISTANT_HOME") or "."))


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
    env = _with_files(os.environ if environment is None else environment)
    folder = project_folder()
    production = _choice(env, "ASSISTANT_MODE", "development", "production") == "production"
    shapes = ("json", "plain") if production else ("plain", "json")
    log_format = _choice(env, "LOG_FORMAT", *shapes)
    webhooks = _webhooks(env.get("WEBHOOK_URLS", ""))
    mailboxes = _mailboxes(env.get("OFFICE_EMAILS", ""))
    return Settings(
        production=production,
        host=env.get("HOST") or "127.0.0.1",  # make hands on an empty HOST
        port=_whole(env, "PORT", 5005, 0, 65535),
        secret=_secret(env, production, folder),
        origins=_origins(env.get("WEBCHAT_ORIGINS", "")),
        proxies=_whole(env, "TRUSTED_PROXIES", 0, 0, 10),
        database_url=_database_url(env, production, folder),
        database_wait_seconds=_number(env, "DATABASE_WAIT_SECONDS", 60.0, 0.0, 3600.0),
        redis_url=_address(env, production, "REDIS_URL", ("redis", "rediss", "unix")),
        event_stream_url=_address(env, production, "AMQP_URL", ("amqp", "amqps")),
        metrics_token=_token(env, "METRICS_TOKEN"),
        log_format=log_format,
        drain_seconds=_number(env, "DRAIN_SECONDS", 20.0, 0.0, 600.0),
        train_at_start=_choice(env, "TRAIN_AT_START", "yes", "no") == "yes",
        model_sha256=_digest(env),
        action_endpoint=env.get("ACTION_ENDPOINT", ""),
        action_secret=_token(env, "ACTION_SECRET"),
        answer_seconds=_number(env, "ANSWER_SECONDS", 15.0, 1.0, 300.0),
        contact_keys=_contact_keys(env, production, folder),
        targets=mailboxes + webhooks,
        mail_server=_mail_server(env) if mailboxes else None,
        webhook_secret=_webhook_secret(env) if webhooks else "",
        delivery_details=_choice(env, "DELIVERY_DETAILS", "no", "yes") == "yes",
        draft_minutes=_number(env, "DRAFT_MINUTES", 60.0, 1.0, 60.0 * 24),
        handled_request_days=_number(env, "HANDLED_REQUEST_DAYS", 30.0, 0.0, 3650.0),
        request_days=_number(env, "REQUEST_DAYS", 180.0, 1.0, 3650.0),
        transcript_days=_number(env, "TRANSCRIPT_DAYS", 30.0, 1.0, 3650.0),
        session_hours=_number(env, "WEBCHAT_SESSION_HOURS", 24.0, 0.1, 24.0 * 30),
        session_rate=_number(env, "WEBCHAT_SESSION_RATE", 2.0, 0.01, 10_000.0),
        session_burst=_whole(env, "WEBCHAT_SESSION_BURST", 20, 1, 100_000),
        address_rate=_number(env, "WEBCHAT_ADDRESS_RATE", 10.0, 0.01, 100_000.0),
        address_burst=_whole(env, "WEBCHAT_ADDRESS_BURST", 100, 1, 1_000_000),
        messaging=_messaging(env),
        log_level=_log_level(env, log_format),
        folder=folder,
    )


def refuse_placeholder(name: str, value: str) -> None:
    """Refuse a secret that was copied from an example or that everybody knows.

    Args:
        name: the setting.
        value: its secret; "" passes, whether it may be empty is another question.

    Raises:
        SettingError: it is no secret. The message does not show it.
    """
    if _PLACEHOLDER.search(value) or value.lower() in _WELL_KNOWN:
        raise SettingError(
            f"{name} holds an example in place of a secret. Put in one of your own; make one with: "
            f"python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )


def _database_url(env: Mapping[str, str], production: bool, folder: Path) -> str:
    url = env.get("DATABASE_URL") or f"sqlite:///{folder / 'var' / 'assistant.db'}"
    # SQLAlchemy's own message on an address that it cannot read shows the password in it.
    if not re.match(r"(?:sqlite|postgresql)(?:\+\w+)?://", url):
        raise SettingError(
            "DATABASE_URL must begin with postgresql:// or sqlite:///, as in "
            "postgresql://user:password@host/database."
        )
    if production:
        refuse_placeholder("DATABASE_URL", unquote(urlsplit(url).password or ""))
    return url


def _with_files(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables, with the contents of the files that `NAME_FILE` names.

    Raises:
        SettingError: a file cannot be read, or a setting is given twice.
    """
    read = {}
    for name in SECRETS:
        path = env.get(f"{name}_FILE", "")
        if not path:
            continue
        if env.get(name):
            raise SettingError(f"{name} and {name}_FILE are both set. Keep one of them.")
        try:
            read[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"{name}_FILE names {path}, which cannot be read: {error}") from None
    return {**env, **read}


def _token(env: Mapping[str, str], name: str) -> str:
    token = env.get(name, "")
    refuse_placeholder(name, token)
    if token and len(token) < 32:
        raise SettingError(f"{name} is shorter than 32 characters; make a longer one.")
    return token


def _address(env: Mapping[str, str], production: bool, name: str, schemes: Sequence[str]) -> str:
    address = env.get(name, "")
    parts = urlsplit(address)
    if address and (parts.scheme not in schemes or not (parts.hostname or parts.path)):
        shown = " or ".join(f"{scheme}://" for scheme in schemes)
        raise SettingError(f"{name} is not an address; it begins with {shown} and names a server.")
    if production:
        refuse_placeholder(name, unquote(parts.password or ""))
    return address


def _digest(env: Mapping[str, str]) -> str:
    digest = env.get("MODEL_SHA256", "").lower()
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise SettingError("MODEL_SHA256 is not a SHA-256: 64 digits and letters from a to f.")
    return digest


def _log_level(env: Mapping[str, str], shape: str) -> str:
    level = env.get("LOG_LEVEL") or ("INFO" if shape == "json" else "WARNING")
    known = ("DEBUG", "INFO", "WARNING", "ERROR")
    if level.upper() not in known:
        raise SettingError(f"LOG_LEVEL is '{level}'; set it to one of {', '.join(known)}.")
    return level.upper()


def _secret(env: Mapping[str, str], production: bool, folder: Path) -> str:
    secret = env.get("WEBCHAT_SECRET", "")
    refuse_placeholder("WEBCHAT_SECRET", secret)
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
    refuse_placeholder("CONTACT_KEYS", text)
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
        if not _is_base64(key.translate({ord("-"): "+", ord("_"): "/"}), 32, 32):
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
    origins = tuple(part.rstrip("/") for part in _listed(value))
    for origin in origins:
        parts = urlsplit(origin)
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or parts.path
            or "*" in origin  # the CORS layer would take it for a pattern
        ):
            raise SettingError(
                f"WEBCHAT_ORIGINS holds '{origin}', which is not an origin. Write scheme and host, "
                f"separated by commas: https://www.example.com,https://example.com"
            )
    return origins


def _mailboxes(value: str) -> tuple[Target, ...]:
    targets = []
    for part in _listed(value):
        try:
            address = validate_email(part, check_deliverability=False).normalized
        except EmailNotValidError:
            raise SettingError(
                f"OFFICE_EMAILS holds '{part}', which is not an e-mail address. Write one or more, "
                f"separated by commas."
            ) from None
        targets.append(Target(f"email:{address}", address))
    return tuple(targets)


def _mail_server(env: Mapping[str, str]) -> MailServer:
    url, sender = env.get("SMTP_URL", ""), env.get("MAIL_FROM", "")
    if not url or not sender:
        raise SettingError(
            "OFFICE_EMAILS is set, so SMTP_URL (smtps://user:password@mail.example.com) and "
            "MAIL_FROM (the sender's address) must be set too."
        )
    parts = urlsplit(url)
    ports = {"smtps": 465, "smtp": 587, "smtp+plain": 25}
    try:
        port = parts.port or ports[parts.scheme]
    except (KeyError, ValueError):
        raise SettingError(
            "SMTP_URL must begin with smtps:// (TLS), smtp:// (STARTTLS) or, for a mail server on "
            "this machine, smtp+plain://; then user:password@host:port."
        ) from None
    host = parts.hostname or ""
    if not host or parts.path.strip("/") or parts.query:
        raise SettingError("SMTP_URL must be smtps://user:password@host:port and nothing more.")
    if parts.scheme == "smtp+plain" and not _is_here(host):
        raise SettingError(
            "SMTP_URL sends without encryption to another machine. Use smtps:// or smtp://."
        )
    refuse_placeholder("SMTP_URL", unquote(parts.password or ""))
    try:
        sender = validate_email(sender, check_deliverability=False).normalized
    except EmailNotValidError:
        raise SettingError(f"MAIL_FROM is '{sender}', which is not an e-mail address.") from None
    return MailServer(
        host,
        port,
        sender,
        security={"smtps": "tls", "smtp": "starttls", "smtp+plain": "none"}[parts.scheme],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def _webhooks(value: str) -> tuple[Target, ...]:
    targets = []
    for place, url in enumerate(_listed(value), 1):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise SettingError(
                f"Address {place} of WEBHOOK_URLS is not a web address. Write one or more "
                f"https:// addresses, separated by commas."
            )
        if parts.scheme == "http" and not _is_here(parts.hostname):
            raise SettingError(
                f"Address {place} of WEBHOOK_URLS sends without encryption to another machine. "
                f"Use https://."
            )
        # The path of many webhooks is their secret, so the name tells only the host.
        mark = hashlib.sha256(url.encode()).hexdigest()[:6]
        targets.append(Target(f"webhook:{parts.hostname}:{mark}", url))
    return tuple(targets)


def _webhook_secret(env: Mapping[str, str]) -> str:
    secret = env.get("WEBHOOK_SECRET", "")
    refuse_placeholder("WEBHOOK_SECRET", secret)
    if not _is_base64(secret.removeprefix("whsec_"), 24, 64) or not secret.startswith("whsec_"):
        raise SettingError(
            "WEBHOOK_URLS is set, so WEBHOOK_SECRET must be whsec_ and 24 to 64 bytes in base64; "
            "make one with: python3 -c 'import base64, os; "
            'print("whsec_" + base64.b64encode(os.urandom(32)).decode())\''
        )
    return secret


_PLATFORM_SECRETS = {
    "TWILIO": ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
    "MESSENGER": ("MESSENGER_PAGE_TOKEN", "MESSENGER_APP_SECRET", "MESSENGER_VERIFY_TOKEN"),
    "TELEGRAM": ("TELEGRAM_TOKEN", "TELEGRAM_SECRET"),
    "SLACK": ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET"),
}
"""What turns each platform on; one of them alone is a mistake."""

_SECRET_SHAPES = {
    "TWILIO_ACCOUNT_SID": ("AC[0-9a-f]{32}", "AC and 32 digits and letters from a to f"),
    # https://core.telegram.org/bots/api#setwebhook names the characters; fewer could be guessed.
    "TELEGRAM_SECRET": ("[A-Za-z0-9_-]{24,256}", "24 to 256 letters, digits, _ and -"),
    "TELEGRAM_TOKEN": (r"\d+:[A-Za-z0-9_-]+", "digits, a colon and a key, as BotFather gives it"),
    "MESSENGER_VERIFY_TOKEN": (r"\S{16,}", "at least 16 characters without spaces"),
    "SLACK_BOT_TOKEN": (r"xoxb-\S+", "xoxb- and a key, as Slack gives it"),
}


def _messaging(env: Mapping[str, str]) -> Messaging:
    values = {name: env.get(name, "") for names in _PLATFORM_SECRETS.values() for name in names}
    numbers = {
        name: _phone_number(env, name) for name in ("TWILIO_SMS_NUMBER", "TWILIO_WHATSAPP_NUMBER")
    }
    for name, value in values.items():
        refuse_placeholder(name, value)
        shape, meaning = _SECRET_SHAPES.get(name, (r"\S{16,}", "as the platform gives it"))
        if value and not re.fullmatch(shape, value):
            raise SettingError(f"{name} cannot be right; it is {meaning}.")
    for names in _PLATFORM_SECRETS.values():
        missing = [name for name in names if not values[name]]
        if missing and len(missing) < len(names):
            present = next(name for name in names if values[name])
            raise SettingError(
                f"{present} is set, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
                "not. Set all, or none to turn the channel off; see docs/channels.md."
            )
    if bool(values["TWILIO_AUTH_TOKEN"]) != any(numbers.values()):
        raise SettingError(
            "Twilio needs TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and at least one of "
            "TWILIO_SMS_NUMBER and TWILIO_WHATSAPP_NUMBER. Set these, or none of them to turn SMS "
            "and WhatsApp off."
        )
    public_url = _web_address(env, "PUBLIC_URL", "").rstrip("/")
    if any(values.values()) and not public_url:
        raise SettingError(
            "A messaging channel is on, so PUBLIC_URL must say where its platform reaches this "
            "server, as https://chat.example.com."
        )
    if urlsplit(public_url).path or urlsplit(public_url).query:
        raise SettingError("PUBLIC_URL must be scheme and host alone: https://chat.example.com")
    addresses = {
        name.lower(): _web_address(env, name, getattr(Messaging, name.lower())).rstrip("/")
        for name in ("TWILIO_API_URL", "MESSENGER_API_URL", "TELEGRAM_API_URL", "SLACK_API_URL")
    }
    graph_version = env.get("MESSENGER_GRAPH_VERSION") or Messaging.messenger_graph_version
    if not re.fullmatch(r"v\d{1,3}\.\d", graph_version):
        raise SettingError(
            f"MESSENGER_GRAPH_VERSION is '{graph_version}'; write it as v25.0, or leave it out."
        )
    return Messaging(
        public_url=public_url,
        messenger_graph_version=graph_version,
        call_seconds=_number(env, "CHANNEL_CALL_SECONDS", 10.0, 0.1, 120.0),
        give_up_hours=_number(env, "CHANNEL_GIVE_UP_HOURS", 6.0, 0.01, 72.0),
        **addresses,
        **{name.lower(): value for name, value in {**values, **numbers}.items()},
    )


def _phone_number(env: Mapping[str, str], name: str) -> str:
    number = env.get(name, "")
    if number and not re.fullmatch(r"\+[1-9]\d{6,14}", number):
        raise SettingError(
            f"{name} is '{number}'; write the number with + and country code, without spaces: "
            "+12025550123"
        )
    return number


def _web_address(env: Mapping[str, str], name: str, default: str) -> str:
    address = env.get(name) or default
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if address and (not host or parts.scheme not in ("http", "https") or "@" in parts.netloc):
        raise SettingError(f"{name} is not a web address; write https://host, as in the examples.")
    if address and parts.scheme == "http" and not _is_here(host):
        raise SettingError(f"{name} goes to another machine without encryption. Use https://.")
    return address


def _is_base64(text: str, least: int, most: int) -> bool:
    try:
        return least <= len(base64.b64decode(text, validate=True)) <= most
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def _listed(value: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _choice(env: Mapping[str, str], name: str, default: str, other: str) -> str:
    value = env.get(name) or default
    if value not in (default, other):
        raise SettingError(f"{name} is '{value}'; set it to {default} or {other}.")
    return value


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
