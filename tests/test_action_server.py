"""`rasa run actions`, for those who want the actions apart: shut to strangers, silent on errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import PROJECT, free_port

SECRET = "a-secret-of-more-than-32-characters-for-tests"
CANARY = "Xanthippe Vauquelin"


def start(port: int, folder: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {
        **{name: value for name, value in os.environ.items() if name != "SANIC_HOST"},
        "DATABASE_URL": f"sqlite:///{folder / 'assistant.db'}",
        **environment,
    }
    command = [sys.executable, "-m", "rasa_sdk", "--actions", "actions", "--port", str(port)]
    return subprocess.Popen(
        command, cwd=PROJECT, env=variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def action_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Any]]:
    port = free_port()
    process = start(port, tmp_path_factory.mktemp("actions"), ACTION_SECRET=SECRET)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
    deadline = time.monotonic() + 180
    while True:
        try:
            if client.get("/health").status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the action server did not start"
        time.sleep(0.1)  # between looks; the deadline decides, not this
    yield client, process
    process.terminate()
    output = process.communicate(timeout=20)[0]
    assert CANARY not in output
    assert "http://127.0.0.1:" in output


def call(action: str) -> dict[str, Any]:
    message = {"text": CANARY, "intent": {"name": "affirm", "confidence": 1.0}, "entities": []}
    tracker = {
        "sender_id": "x", "slots": {}, "latest_message": message, "events": [], "paused": False,
        "active_loop": {}, "latest_action_name": None, "followup_action": None,
    }  # fmt: skip
    return {"next_action": action, "tracker": tracker, "domain": {}, "version": "3.6.21"}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer no"}, {"Authorization": SECRET}])
def test_without_the_secret_nothing_runs(
    action_server: tuple[httpx.Client, Any], header: dict[str, str]
) -> None:
    client, _ = action_server
    response = client.post("/webhook", json=call("action_affirm"), headers=header)
    assert response.status_code == 401
    assert CANARY not in response.text
    assert client.get("/actions", headers=header).status_code == 401


def test_with_the_secret_the_same_actions_run(action_server: tuple[httpx.Client, Any]) -> None:
    client, _ = action_server
    headers = {"Authorization": f"Bearer {SECRET}"}
    response = client.post("/webhook", json=call("action_affirm"), headers=headers)
    assert response.json()["responses"][0]["response"] == "utter_affirm"
    assert "validate_contact_form" in client.get("/actions", headers=headers).text


def test_an_error_does_not_echo_the_conversation(action_server: tuple[httpx.Client, Any]) -> None:
    client, _ = action_server
    headers = {"Authorization": f"Bearer {SECRET}"}
    broken = {**call("action_affirm"), "tracker": [CANARY]}
    response = client.post("/webhook", json=broken, headers=headers)
    assert response.status_code == 500
    assert response.json() == {"error": "The action could not be run."}


def test_production_refuses_to_start_without_a_secret(tmp_path: Path) -> None:
    process = start(
        free_port(), tmp_path,
        ASSISTANT_MODE="production", WEBCHAT_SECRET="w" * 48, CONTACT_KEYS="A" * 43 + "=",
    )  # fmt: skip
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert "ACTION_SECRET is not set" in output
