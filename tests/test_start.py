"""Start and stop: what is unsafe does not start, and a stop loses no message."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from assistant.content.office import Office
from assistant.model_seal import SealError, check_seal, is_sealed, seal
from assistant.self_test import GoldenQuestion, SelfTestError, golden_questions, self_test
from assistant.settings import SettingError, Settings
from assistant.start import check_combination, wait_for_database
from assistant.storage.database import engine_for, events
from assistant.storage.sole_process import claim
from tests.conftest import PROJECT, Chat, free_port, start_server
from tests.postgres import postgres_database

POSTGRES = Settings(database_url="postgresql://somewhere/assistant")
SQLITE = Settings(database_url="sqlite:///assistant.db")


def test_rasas_way_to_several_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANIC_WORKERS", "2")
    with pytest.raises(SettingError, match="SANIC_WORKERS"):
        check_combination(POSTGRES, Office())


def test_several_processes_on_sqlite_are_refused() -> None:
    import dataclasses

    with pytest.raises(SettingError, match="SQLite"):
        check_combination(dataclasses.replace(SQLITE, redis_url="redis://here"), Office())
    check_combination(dataclasses.replace(POSTGRES, redis_url="redis://here"), Office())
    check_combination(SQLITE, Office())


def test_production_wants_a_privacy_policy() -> None:
    production = Settings(production=True, database_url="sqlite:///assistant.db")
    with pytest.raises(SettingError, match="privacy_url"):
        check_combination(production, Office())
    check_combination(production, Office(privacy_url="https://practice.example/privacy"))


def test_a_database_that_is_away_is_waited_for_and_then_named() -> None:
    said: list[str] = []
    url = f"postgresql://me:geheim@127.0.0.1:{free_port()}/assistant"
    with pytest.raises(SettingError, match="DATABASE_URL") as refusal:
        wait_for_database(url, 1.0, said.append)
    assert said
    assert "127.0.0.1" in said[0]
    assert "geheim" not in said[0] + str(refusal.value)


def test_a_database_that_comes_is_used(postgres: str) -> None:
    with postgres_database(postgres) as there:
        name = "comes_later"
        url = sa.engine.make_url(there).set(database=name).render_as_string(hide_password=False)
        admin = sa.create_engine(there, isolation_level="AUTOCOMMIT")

        def make(line: str) -> None:
            assert "Waiting for the database" in line
            with admin.connect() as connection:
                connection.execute(sa.text(f"CREATE DATABASE {name}"))

        engine = wait_for_database(url, 30.0, make)
        assert "contact_requests" in sa.inspect(engine).get_table_names()
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def test_a_file_that_is_no_database_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "assistant.db"
    file.write_bytes(b"this is not a database, but it is long enough to look like one" * 100)
    with pytest.raises(SettingError, match="not a database"):
        wait_for_database(f"sqlite:///{file}", 30.0, pytest.fail)


def test_a_second_process_alone_is_refused(database_url: str) -> None:
    engine = engine_for(database_url)
    held = claim(engine, shared=False)
    assert held is not None
    with pytest.raises(SettingError, match="Another assistant already serves"):
        claim(engine, shared=False, seconds=0.3)
    engine.dispose()


def test_processes_that_share_may_be_several_but_not_with_one_that_does_not(postgres: str) -> None:
    with postgres_database(postgres) as url:
        engine = engine_for(url)
        held = [claim(engine, shared=True), claim(engine, shared=True)]
        with pytest.raises(SettingError, match="REDIS_URL"):
            claim(engine, shared=False, seconds=0.3)
        for connection in held:
            connection.close()
        assert claim(engine, shared=False, seconds=5) is not None
        engine.dispose()


@pytest.fixture
def copy_of_model(model: Path, tmp_path: Path) -> Path:
    copied = tmp_path / model.name
    shutil.copy(model, copied)
    return copied


def test_training_seals_its_model(model: Path) -> None:
    assert is_sealed(model)
    check_seal(model)


def test_a_model_without_seal_is_refused(copy_of_model: Path) -> None:
    with pytest.raises(SealError, match="sha256 is missing"):
        check_seal(copy_of_model)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="assistant train"):
        check_seal(tmp_path / "model.tar.gz")


@pytest.mark.parametrize("damage", ["flipped", "shortened", "another"])
def test_a_model_that_was_changed_is_refused(copy_of_model: Path, damage: str) -> None:
    seal(copy_of_model)
    content = bytearray(copy_of_model.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "shortened":
        del content[-1]
    else:
        content[:] = b"another model"
    copy_of_model.write_bytes(content)
    with pytest.raises(SealError, match="damaged, or somebody else's"):
        check_seal(copy_of_model)


def test_a_pinned_digest_goes_before_the_noted_one(copy_of_model: Path) -> None:
    seal(copy_of_model)
    with pytest.raises(SealError, match="MODEL_SHA256"):
        check_seal(copy_of_model, "0" * 64)
    digest = Path(f"{copy_of_model}.sha256").read_text().split()[0]
    check_seal(copy_of_model, digest)


@pytest.mark.parametrize("trains", ["yes", "no"])
def test_a_file_of_answers_that_cannot_be_read_is_named(trains: str, tmp_path: Path) -> None:
    for name in ("config.yml", "domain.yml", "office.yml"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(PROJECT / "data", tmp_path / "data")
    file = tmp_path / "data" / "faq" / "diet.yml"
    file.write_bytes(file.read_bytes() + b"\n  - [unclosed\n")
    variables = {**os.environ, "ASSISTANT_HOME": str(tmp_path), "TRAIN_AT_START": trains}
    done = subprocess.run(
        [sys.executable, "-m", "assistant.command_line", "serve", "--port", str(free_port())],
        cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"diet\.yml:\d+ is not readable as YAML", done.stderr.splitlines()[-1])


def test_the_golden_questions_are_answered(agent: Any, loop: Any) -> None:
    questions = golden_questions(PROJECT)
    assert len(questions) >= 10
    loop.run_until_complete(self_test(agent, questions))


def test_a_wrong_answer_to_a_golden_question_is_told(agent: Any, loop: Any) -> None:
    wrong = [GoldenQuestion("what is sciatica", "diet/gluten")]
    with pytest.raises(SelfTestError, match="diet/gluten, but got symptoms/what_is_sciatica"):
        loop.run_until_complete(self_test(agent, wrong))


def test_a_stop_answers_every_message_that_it_took(model: Path, tmp_path: Path) -> None:
    server = start_server(tmp_path)
    answered: set[str] = set()
    refused: list[httpx.Response] = []
    under_way = threading.Event()

    def write(chat: Chat, name: int) -> None:
        for number in range(500):
            text = f"what is sciatica, asks visitor {name} for the {number}th time"
            try:
                answer = httpx.post(
                    f"{server.url}/webchat/messages",
                    json={"text": text},
                    headers=chat.headers,
                    timeout=30,
                )
            except httpx.TransportError:
                return  # never taken, or the comparison below finds it
            if answer.status_code != 200:
                refused.append(answer)
                continue
            assert answer.json()["messages"]
            answered.add(text)
            if len(answered) > 20:
                under_way.set()

    threads = [threading.Thread(target=write, args=(server.open(), name)) for name in range(4)]
    for thread in threads:
        thread.start()
    assert under_way.wait(60)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=40) == 0
    for thread in threads:
        thread.join(timeout=40)
        assert not thread.is_alive()
    with engine_for(server.database_url).connect() as connection:
        rows = connection.execute(sa.select(events.c.data).where(events.c.type_name == "user"))
        taken = {json.loads(row.data)["text"] for row in rows}
    assert len(taken) > 20
    assert taken == answered
    assert refused, "nobody wrote while the server stopped, so nothing was tested"
    for answer in refused:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
