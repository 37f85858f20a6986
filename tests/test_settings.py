"""Settings: what is unsafe or unusable is refused in words that help."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from assistant.settings import SettingError, load_settings


def test_production_needs_a_secret() -> None:
    with pytest.raises(SettingError, match="WEBCHAT_SECRET is not set"):
        load_settings({"ASSISTANT_MODE": "production"})


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
