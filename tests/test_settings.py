"""Settings: what is unsafe or unusable is refused in words that help."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from assistant.contact.cipher import Cipher
from assistant.settings import SettingError, load_settings


def test_production_needs_a_secret() -> None:
    with pytest.raises(SettingError, match="WEBCHAT_SECRET is not set"):
        load_settings({"ASSISTANT_MODE": "production"})


def test_production_needs_a_key_for_requests() -> None:
    with pytest.raises(SettingError, match="CONTACT_KEYS is not set"):
        load_settings({"ASSISTANT_MODE": "production", "WEBCHAT_SECRET": "s" * 32})


def test_a_development_key_is_made_once_and_kept_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_HOME", str(tmp_path))
    first, second = load_settings({}).contact_keys, load_settings({}).contact_keys
    assert first == second
    Cipher(first).seal({})
    assert (tmp_path / "var" / "contact.key").stat().st_mode & 0o077 == 0


DELIVERY = {
    "OFFICE_EMAILS": "desk@moonbeam.example, front@moonbeam.example",
    "SMTP_URL": "smtps://office%40moonbeam.example:p%3Ass@mail.moonbeam.example",
    "MAIL_FROM": "assistant@moonbeam.example",
    "WEBHOOK_URLS": "https://crm.example/hooks/very-secret, http://localhost:9000/hook",
    "WEBHOOK_SECRET": f"whsec_{base64.b64encode(b'k' * 32).decode()}",
    "CONTACT_KEYS": base64.urlsafe_b64encode(b"k" * 32).decode(),
}


def test_several_targets_and_a_mail_server() -> None:
    settings = load_settings(DELIVERY)
    names = [target.name for target in settings.targets]
    assert names[:2] == ["email:desk@moonbeam.example", "email:front@moonbeam.example"]
    assert [name.rpartition(":")[0] for name in names[2:]] == [
        "webhook:crm.example",
        "webhook:localhost",
    ]
    server = settings.mail_server
    assert server is not None
    assert (server.host, server.port, server.security) == ("mail.moonbeam.example", 465, "tls")
    assert (server.user, server.password) == ("office@moonbeam.example", "p:ss")
    assert not settings.delivery_details


def test_secrets_are_not_in_what_a_log_could_show_of_the_settings() -> None:
    shown = repr(load_settings({**DELIVERY, "WEBCHAT_SECRET": "w" * 40}))
    assert "crm.example" in shown
    for secret in ("very-secret", "p:ss", "whsec_", DELIVERY["CONTACT_KEYS"], "w" * 40):
        assert secret not in shown


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OFFICE_EMAILS": "desk at moonbeam"}, "not an e-mail address"),
        ({"SMTP_URL": ""}, "SMTP_URL .* and MAIL_FROM .* must be set too"),
        ({"MAIL_FROM": ""}, "SMTP_URL .* and MAIL_FROM .* must be set too"),
        ({"MAIL_FROM": "nobody"}, "not an e-mail address"),
        ({"SMTP_URL": "mail.moonbeam.example"}, "must begin with smtps"),
        ({"SMTP_URL": "smtps://mail.moonbeam.example:many"}, "must begin with smtps"),
        ({"SMTP_URL": "smtps://mail.moonbeam.example/?tls=off"}, "and nothing more"),
        ({"SMTP_URL": "smtp+plain://mail.moonbeam.example"}, "without encryption"),
        ({"WEBHOOK_URLS": "http://crm.example/hook"}, "Address 1 .* without encryption"),
        ({"WEBHOOK_URLS": "https://crm.example/hook, crm.example"}, "Address 2 .* web address"),
        ({"WEBHOOK_SECRET": ""}, "WEBHOOK_SECRET must be whsec_"),
        ({"WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "WEBHOOK_SECRET must be whsec_"),
        ({"WEBHOOK_SECRET": "k" * 40}, "WEBHOOK_SECRET must be whsec_"),
        ({"CONTACT_KEYS": "short"}, "Key 1 of CONTACT_KEYS"),
        ({"CONTACT_KEYS": f"{DELIVERY['CONTACT_KEYS']},"}, "Key 2 of CONTACT_KEYS"),
        ({"DELIVERY_DETAILS": "on"}, "set it to no or yes"),
        ({"TRANSCRIPT_DAYS": "0"}, "number from 1 to 3650"),
        ({"DRAFT_MINUTES": "forever"}, "number from 1 to 1440"),
    ],
)
def test_an_unsafe_or_unfinished_delivery_is_refused(variables: dict[str, str], words: str) -> None:
    load_settings(DELIVERY)
    with pytest.raises(SettingError, match=words) as caught:
        load_settings({**DELIVERY, **variables})
    for value in ("p%3Ass", "p:ss", "very-secret"):
        assert value not in str(caught.value)


def test_a_development_secret_is_made_once_and_kept_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_HOME", str(tmp_path))
    first, second = load_settings({}).secret, load_settings({}).secret
    assert first == second
    assert len(first) >= 32
    assert (tmp_path / "var" / "webchat.secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ASSISTANT_MODE": "live"}, "development or production"),
        ({"WEBCHAT_SECRET": "short"}, "shorter than 32"),
        ({"PORT": "http"}, "whole number from 0 to 65535"),
        ({"PORT": "70000"}, "whole number from 0 to 65535"),
        ({"ANSWER_SECONDS": "nan"}, "number from 1 to 300"),
        ({"WEBCHAT_ORIGINS": "example.com"}, "not an origin"),
        ({"WEBCHAT_ORIGINS": "https://example.com/chat"}, "not an origin"),
    ],
)
def test_a_bad_setting_is_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        load_settings(variables)


def test_a_port_in_use_is_one_line() -> None:
    from assistant.server import check_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingError) as caught:
            check_port("127.0.0.1", taken.getsockname()[1])
    assert "is in use" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_host_means_this_machine_only() -> None:
    assert load_settings({"HOST": "", "PORT": ""}).host == "127.0.0.1"
