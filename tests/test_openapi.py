"""docs/openapi.yaml is valid, describes the routes that there are, and what they really answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft4Validator, RefResolver
from openapi_pydantic.v3.v3_0 import OpenAPI
from ruamel.yaml import YAML

from tests.conftest import PROJECT, Server

DESCRIPTION = PROJECT / "docs" / "openapi.yaml"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}

ALIASES = {("GET", "/webchat"), ("GET", "/webchat/")}
"""The one leads to the other as `/` does; that is the route of the files, with an empty name."""


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe").load(DESCRIPTION)
    return read


def operations(description: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_the_description_is_valid_openapi(description: dict[str, Any]) -> None:
    document = OpenAPI.parse_obj(description)
    assert document.openapi == "3.0.3"
    unknown = [
        where
        for where, node in nodes(description)
        for reference in [node.get("$ref")]
        if reference and found(description, reference) is None
    ]
    assert unknown == []
    for schema in description["components"]["schemas"].values():
        Draft4Validator.check_schema(schema)
    named = [operation["operationId"] for operation in operations(description).values()]
    assert len(named) == len(set(named))


def nodes(node: Any, where: str = "") -> Any:
    if isinstance(node, dict):
        yield where, node
        for key, item in node.items():
            yield from nodes(item, f"{where}/{key}")
    elif isinstance(node, list):
        for place, item in enumerate(node):
            yield from nodes(item, f"{where}/{place}")


def found(description: dict[str, Any], reference: str) -> Any:
    node: Any = description
    for key in reference.removeprefix("#/").split("/"):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def test_it_describes_the_routes_that_the_server_has(
    description: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assistant.server import build_app
    from assistant.settings import load_settings

    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'assistant.db'}")
    app = build_app(load_settings(), model)
    app.router.finalize()
    there = {
        (method, "/" + re.sub(r"<(\w+):[^>]*>", r"{\1}", route.path))
        for route in app.router.routes
        for method in route.methods
        if method != "OPTIONS" and not route.path.startswith("staff")  # pages, not an interface
    }
    assert there - ALIASES == operations(description).keys() - ALIASES


def fits(
    description: dict[str, Any], response: httpx.Response, method: str, path: str
) -> list[str]:
    """Return in what a response is not as described."""
    responses = operations(description)[method, path]["responses"]
    described = responses.get(str(response.status_code))
    if described is None:
        return [f"status {response.status_code}"]
    if "$ref" in described:
        described = found(description, described["$ref"])
    missing = [
        name
        for name, header in described.get("headers", {}).items()
        if header.get("required") and name not in response.headers
    ]
    content = described.get("content")
    kind = response.headers.get("content-type", "").partition(";")[0]
    if content is None:
        return [f"lacks {name}" for name in missing] + ["has a body"] * bool(response.content)
    if kind not in content:
        return [f"is {kind}"]
    if kind != "application/json":
        return missing
    validator = Draft4Validator(
        content[kind]["schema"], resolver=RefResolver.from_schema(description)
    )
    return [*missing, *(error.message for error in validator.iter_errors(response.json()))]


def test_what_the_server_answers_is_as_described(
    description: dict[str, Any], server: Server
) -> None:
    chat, other = server.open(), server.open()
    private = server.http.post("/webchat/session", json={"private": True})
    bearer, id_ = chat.headers, {"id": "described-1"}
    messages, feedback, session = "/webchat/messages", "/webchat/feedback", "/webchat/session"
    asked: list[tuple[httpx.Response, str, str, int]] = [
        (private, "POST", session, 201),
        (server.http.post(session, json={"private": 1}), "POST", session, 400),
        (server.http.post(session, headers={"Origin": "null"}), "POST", session, 403),
        (server.http.post(session, content=b" " * 17_000), "POST", session, 413),
    ]
    for body, status in [
        ({"text": "should I stop eating gluten?", **id_}, 200),
        ({"text": "crushing chest pain, cant breathe"}, 200),
        ({"text": "asdf qwer"}, 200),
        ({"text": "I want to book an appointment"}, 200),
        ({"text": ""}, 200),
        ({"text": 1}, 400),
        ({"postback": "never offered"}, 400),
        ({"text": "a" * 1001}, 413),
    ]:
        asked.append(
            (server.http.post(messages, json=body, headers=bearer), "POST", messages, status)
        )
    for body, status in [
        ({**id_, "helpful": True}, 204),
        ({**id_, "helpful": 1}, 400),
        ({"id": "nothing-like-this", "helpful": True}, 404),
    ]:
        asked.append(
            (server.http.post(feedback, json=body, headers=bearer), "POST", feedback, status)
        )
    closed = {"Authorization": f"Bearer {private.json()['token']}"}
    asked += [
        (server.http.post(feedback, json={**id_, "helpful": True}, headers=closed), "POST", feedback, 409),
        (server.http.get(messages, headers=bearer), "GET", messages, 200),
        (server.http.get(messages), "GET", messages, 401),
        (server.http.delete(session, headers=other.headers), "DELETE", session, 204),
        (server.http.delete(session, headers=other.headers), "DELETE", session, 401),
        (server.http.get("/webchat/"), "GET", "/webchat/", 200),
        (server.http.get("/webchat/nothing.js"), "GET", "/webchat/{name}", 404),
        (server.http.get("/health/live"), "GET", "/health/live", 200),
        (server.http.get("/health/ready"), "GET", "/health/ready", 200),
        (server.http.get("/"), "GET", "/", 302),
    ]  # fmt: skip
    names = operations(description)["GET", "/webchat/{name}"]["parameters"][0]["schema"]["enum"]
    for name in names:
        asked.append((server.http.get(f"/webchat/{name}"), "GET", "/webchat/{name}", 200))
    wrong = [
        f"{method} {path} {response.status_code}: {fault}"
        for response, method, path, status in asked
        for fault in [
            *(["expected another status"] if response.status_code != status else []),
            *fits(description, response, method, path),
        ]
    ]
    assert wrong == []
