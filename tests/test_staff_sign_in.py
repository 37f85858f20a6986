"""Signing in to the staff pages, and that no route is served to who may not have it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sanic import Sanic
from typer.testing import CliRunner

from assistant.office_commands import OfficeCommandError
from assistant.settings import Settings
from assistant.staff.accounts import AccountError, Accounts
from assistant.staff.guard import OPEN, SIGNED_IN, Route
from assistant.staff.lockout import FREE_TRIES_OF_NAME, FREE_TRIES_OF_NETWORK, Lockout
from assistant.staff.routes import staff_blueprint, staff_guard
from assistant.staff.sessions import IDLE_SECONDS, LONGEST_SECONDS, Sessions
from assistant.staff_commands import commands
from assistant.storage.database import engine_for, staff_sessions, staff_tries, transaction
from tests.conftest import PROJECT, Server, free_port
from tests.staff import PASSWORDS, ROLES, Browser, office_of, signed_in, words

KEYS = (Fernet.generate_key().decode(),)
SETTINGS = Settings(contact_keys=KEYS, folder=PROJECT)


def declared(folder: Path) -> list[Route]:
    return staff_guard(engine_for(f"sqlite:///{folder / 'routes.db'}"), SETTINGS).routes


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    return declared(tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="module")
def guarded(routes: list[Route]) -> list[Route]:
    return [route for route in routes if route.role != OPEN]


@pytest.fixture(scope="module")
def office(server: Server) -> Iterator[sa.engine.Engine]:
    with office_of(server) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_tries(server: Server) -> Iterator[None]:
    """All tests come from one network; the tries of one must not lock out the next."""
    yield
    engine = sa.create_engine(server.database_url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM staff_tries"))


def address(route: Route) -> str:
    return re.sub(r"<\w+:\w+>", "1", route.path)


def ask(browser: Browser, route: Route, **form: str) -> httpx.Response:
    """Call a route as it is; a form has no token of its own here."""
    if route.method == "GET":
        return browser.get(address(route))
    return browser.http.post(f"/staff{address(route)}", data=form)


def is_signed_out(response: httpx.Response) -> bool:
    leads_on = response.status_code == 303 and response.headers["location"].startswith(
        "/staff/sign-in?next="
    )
    return leads_on or response.status_code == 401


# Without an account there are no pages.


def test_without_an_account_every_route_is_as_if_it_were_not_there(
    server: Server, routes: list[Route]
) -> None:
    assert len(routes) > 5
    nowhere = server.http.get("/nowhere").content
    for route in routes:
        response = ask(Browser(server.url), route)
        assert (response.status_code, response.content) == (404, nowhere), route


# The door.


def test_every_route_goes_through_the_guard(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'routes.db'}")
    guard = staff_guard(engine, SETTINGS)
    app = Sanic("guarded")
    app.blueprint(guard.blueprint)
    app.router.finalize()
    served = {(method, route.path) for route in app.router.routes for method in route.methods}
    named = {(route.method, f"staff{route.path}".rstrip("/")) for route in guard.routes}
    assert {(method, path.strip("/")) for method, path in served} == named


def test_no_route_is_served_without_a_session(
    server: Server, office: sa.engine.Engine, guarded: list[Route]
) -> None:
    made_up = Browser(server.url)
    made_up.http.cookies.set("staff", "x" * 43)
    for browser in (Browser(server.url), made_up):
        for route in guarded:
            assert is_signed_out(ask(browser, route)), route


@pytest.mark.parametrize(
    ("column", "seconds"), [("seen_at", IDLE_SECONDS), ("created_at", LONGEST_SECONDS)]
)
def test_no_route_is_served_to_a_session_that_is_over(
    server: Server, office: sa.engine.Engine, guarded: list[Route], column: str, seconds: float
) -> None:
    browser = signed_in(server, "olga")
    csrf = browser.csrf()
    assert browser.get("/account").status_code == 200
    with office.begin() as connection:
        connection.execute(sa.update(staff_sessions).values({column: time.time() - seconds - 1}))
    for route in guarded:
        assert is_signed_out(ask(browser, route, csrf=csrf)), route


def test_no_route_is_served_to_the_wrong_role(
    server: Server, office: sa.engine.Engine, guarded: list[Route]
) -> None:
    for name in ("ana", "eddie"):
        browser = signed_in(server, name)
        csrf = browser.csrf()
        others = [route for route in guarded if route.role not in (*ROLES[name], SIGNED_IN)]
        for route in others:
            response = ask(browser, route, csrf=csrf)
            assert response.status_code == 403, route
            assert "not for your account" in words(response.text)


def test_no_form_is_taken_without_its_sessions_token(
    server: Server, office: sa.engine.Engine, guarded: list[Route]
) -> None:
    browser, stranger = signed_in(server, "olga"), signed_in(server, "olga")
    forms = [route for route in guarded if route.method == "POST"]
    assert forms
    assert stranger.csrf() != browser.csrf()
    for route in forms:
        for form in ({}, {"csrf": ""}, {"csrf": "made-up"}, {"csrf": stranger.csrf()}):
            response = ask(browser, route, **form)
            assert response.status_code == 403, (route, form)
            assert "out of date" in words(response.text)
    assert browser.get("/account").status_code == 200  # nothing was done, such as signing out


def test_no_form_is_taken_from_another_site(
    server: Server, office: sa.engine.Engine, routes: list[Route]
) -> None:
    browser = signed_in(server, "olga")
    csrf = browser.csrf()
    for origin in ("https://evil.example", "null", f"{server.url}.evil.example", "http://[", None):
        if origin is None:
            del browser.http.headers["Origin"]
        else:
            browser.http.headers["Origin"] = origin
        for route in (route for route in routes if route.method == "POST"):
            response = ask(browser, route, csrf=csrf, name="olga", password=PASSWORDS["olga"])
            assert response.status_code == 403, (route, origin)
            assert "set-cookie" not in response.headers


# Signing in and out.


def test_who_signs_in_gets_a_cookie_that_scripts_and_other_sites_do_not(
    server: Server, office: sa.engine.Engine
) -> None:
    browser = Browser(server.url)
    first = browser.sign_in("Ana ", PASSWORDS["ana"])
    assert first.status_code == 303
    kept = first.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(kept.split("; "))
    assert "Secure" not in kept, "this server is in development and has no HTTPS"
    before = browser.token
    browser.sign_in("ana")
    assert browser.token != before
    old = Browser(server.url)
    old.http.cookies.set("staff", before)
    assert is_signed_out(old.get("/account")), "the session from before still opens the pages"
    page = browser.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


async def test_behind_https_the_cookie_is_bound_to_it(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'assistant.db'}")
    Accounts(engine).add("ana", PASSWORDS["ana"], ["staff"])
    app = Sanic("in_production")
    app.blueprint(staff_blueprint(engine, Settings(production=True, contact_keys=KEYS)))
    port = free_port()
    server = await app.create_server(port=port, return_asyncio_server=True, access_log=False)
    assert server is not None
    await server.startup()
    await server.start_serving()
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers={"Origin": url}) as http:
        response = await http.post(
            "/staff/sign-in", data={"name": "ana", "password": PASSWORDS["ana"]}
        )
    kept = response.headers["set-cookie"]
    assert kept.startswith("__Host-staff=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(kept.split("; "))
    assert "Domain" not in kept
    await server.close()


def test_nobody_learns_who_has_an_account(server: Server, office: sa.engine.Engine) -> None:
    def best(name: str) -> tuple[float, str]:
        seconds, page = [], ""
        for _ in range(3):
            began = time.perf_counter()
            response = Browser(server.url).sign_in(name, "some-wrong-password-77")
            seconds.append(time.perf_counter() - began)
            assert response.status_code == 403
            page = response.text.replace(name, "NAME")
        return min(seconds), page

    known, page = best("ana")
    unknown, same_page = best("nobody")
    assert page == same_page
    assert unknown > known / 2


def test_who_guesses_must_wait_and_so_must_who_guesses_a_name_that_nobody_has(
    server: Server, office: sa.engine.Engine
) -> None:
    for name in ("nobody", "ana"):
        statuses = []
        # A busy machine may need longer for a try than the first waits last; they double.
        while not statuses or (statuses[-1] != 429 and len(statuses) < FREE_TRIES_OF_NAME + 4):
            response = Browser(server.url).sign_in(name, f"wrong-password-{len(statuses)}")
            statuses.append(response.status_code)
        assert statuses[:FREE_TRIES_OF_NAME] == [403] * FREE_TRIES_OF_NAME, name
        assert statuses[-1] == 429, name
        assert int(response.headers["retry-after"]) > 1
        forget_tries_of_networks(office)
    with office.begin() as connection:  # the wait is long, however slow the machine is
        connection.execute(sa.text("UPDATE staff_tries SET locked_until = locked_until + 600"))
    assert Browser(server.url).sign_in("ana").status_code == 429, "the right password ends the wait"
    assert signed_in(server, "olga").get("/").status_code == 200


def forget_tries_of_networks(engine: sa.engine.Engine) -> None:
    names = [hashlib.sha256(f"name:{name}".encode()).hexdigest() for name in ("ana", "nobody")]
    with engine.begin() as connection:
        connection.execute(sa.delete(staff_tries).where(staff_tries.c.key.notin_(names)))


def test_the_wait_grows_ends_and_knows_the_network(database_url: str) -> None:
    engine = engine_for(database_url)
    now = 1_000_000.0
    lockout = Lockout(engine, clock=lambda: now)
    waits = []
    for _ in range(FREE_TRIES_OF_NAME):
        assert lockout.begin("ana", "192.0.2.1") == 0
    for _ in range(8):
        waits.append(lockout.begin("ana", "192.0.2.9"))
        now += waits[-1]
        assert lockout.begin("ANA ", "192.0.2.1") == 0
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert lockout.begin("olga", "192.0.2.2") == 0
    with transaction(engine) as connection:
        lockout.succeed(connection, "ana", "192.0.2.1")
    assert lockout.begin("ana", "192.0.2.3") == 0

    for number in range(FREE_TRIES_OF_NETWORK):
        assert lockout.begin(f"name-{number}", "198.51.100.7") == 0
    assert lockout.begin("one-more", "198.51.100.7") > 0
    assert lockout.begin("one-more", "198.51.100.8") == 0
    with engine.connect() as connection:
        kept = str(connection.execute(sa.text("SELECT * FROM staff_tries")).all())
    assert "ana" not in kept
    assert "198.51" not in kept


def test_signing_out_ends_the_session_on_the_server(
    server: Server, office: sa.engine.Engine
) -> None:
    browser, thief = signed_in(server, "ana"), Browser(server.url)
    thief.http.cookies.set("staff", browser.token)
    assert thief.get("/account").status_code == 200
    assert browser.post("/sign-out").status_code == 303
    assert browser.token == ""
    assert is_signed_out(thief.get("/account"))


def test_signing_out_everywhere_ends_ones_own_sessions_alone(
    server: Server, office: sa.engine.Engine
) -> None:
    here, there, colleague = (signed_in(server, name) for name in ("ana", "ana", "olga"))
    assert here.post("/sign-out-everywhere").status_code == 303
    assert is_signed_out(there.get("/account"))
    assert colleague.get("/account").status_code == 200


def test_a_new_password_ends_all_other_sessions(server: Server, office: sa.engine.Engine) -> None:
    here, there = signed_in(server, "eddie"), signed_in(server, "eddie")
    new = "amber-window-four-turtles"

    def change(password: str, new: str, again: str) -> httpx.Response:
        return here.post("/account/password", password=password, new=new, again=again)

    for form in (("wrong-password-11", new, new), (PASSWORDS["eddie"], new, "other"),
                 (PASSWORDS["eddie"], "short", "short")):  # fmt: skip
        response = change(*form)
        assert response.status_code == 400
        assert 'role="alert"' in response.text
    assert there.get("/account").status_code == 200
    assert change(PASSWORDS["eddie"], new, new).status_code == 303
    assert here.get("/account").status_code == 200
    assert is_signed_out(there.get("/account"))
    assert Browser(server.url).sign_in("eddie").status_code == 403
    assert Browser(server.url).sign_in("eddie", new).status_code == 303
    Accounts(office).set_password("eddie", PASSWORDS["eddie"])


def test_the_sign_in_leads_on_to_pages_of_ours_alone(
    server: Server, office: sa.engine.Engine
) -> None:
    def leads_to(wanted: str) -> str:
        page = Browser(server.url).get("/sign-in", params={"next": wanted}).text
        return re.search(r'name="next" value="([^"]*)"', page)[1]  # type: ignore[index]

    asked = Browser(server.url).get("/account?a=b")
    assert asked.headers["location"] == "/staff/sign-in?next=%2Fstaff%2Faccount%3Fa%3Db"
    assert leads_to("/staff/account?a=b") == "/staff/account?a=b"
    for elsewhere in ("https://evil.example", "//evil.example", "/staff//evil.example", "\\\\evil",
                      "/staff/\\evil", "/staff/a\r\nSet-Cookie: b=c", "/webchat/", "javascript:1"):  # fmt: skip
        assert leads_to(elsewhere) == "", elsewhere
    for wanted, place in (("//evil.example", "/staff/"), ("/staff/account?a=b",) * 2):
        browser = Browser(server.url)
        there = browser.sign_in("ana", next=wanted).headers["location"]
        assert browser.http.get(there).headers["location"] == place
        browser.http.cookies.clear()  # as a browser that keeps none
        assert "did not keep the sign-in" in words(browser.http.get(there).text)


def test_a_page_that_asks_by_itself_keeps_no_session_open(database_url: str) -> None:
    engine = engine_for(database_url)
    Accounts(engine).add("ana", PASSWORDS["ana"], ["staff"])
    now = time.time()
    sessions = Sessions(engine, clock=lambda: now)
    with transaction(engine) as connection:
        token = sessions.open(connection, "ana").token
    now += IDLE_SECONDS - 10
    assert sessions.find(token, counts=False)[1] is not None
    now += 20
    assert sessions.find(token)[1] is None, "asking by itself kept it open"
    with transaction(engine) as connection:
        token = sessions.open(connection, "ana").token
    for _ in range(int(LONGEST_SECONDS // (IDLE_SECONDS - 10))):
        now += IDLE_SECONDS - 10
        assert sessions.find(token)[1] is not None, "who works is signed out"
    now += IDLE_SECONDS - 10
    assert sessions.find(token)[1] is None, "it has no end"


def test_neither_database_nor_log_holds_what_opens_the_pages(
    server: Server, office: sa.engine.Engine
) -> None:
    browser = signed_in(server, "ana")
    Browser(server.url).sign_in("typed-my-password-here-by-mistake", "x" * 12)
    kept = server.kept()
    for secret in (browser.token, browser.csrf(), PASSWORDS["ana"], "typed-my-password-here"):
        assert [name for name, content in kept.items() if secret.encode() in content] == []
    log = server.rows("SELECT name, what FROM staff_log ORDER BY id DESC LIMIT 2")
    assert [tuple(row) for row in log] == [("", "gave a wrong password"), ("ana", "signed in")]


# Accounts.


@pytest.mark.parametrize(
    ("name", "password", "roles", "why"),
    [
        ("ana garcia", "harbor-lantern-seven", ["staff"], "cannot be a name"),
        ("<b>ana</b>", "harbor-lantern-seven", ["staff"], "cannot be a name"),
        ("ana", "eleven-char", ["staff"], "needs 12"),
        ("ana", "aaaaaaaaaaaaaaaaaaa", ["staff"], "too easy"),
        ("anagarcia", "anagarcia1234", ["staff"], "too easy"),
        ("ana", "harbor-lantern-seven", [], "Choose one or more"),
        ("ana", "harbor-lantern-seven", ["owner"], "Choose one or more"),
    ],
)
def test_an_account_that_cannot_be_used_is_not_made(
    tmp_path: Path, name: str, password: str, roles: list[str], why: str
) -> None:
    accounts = Accounts(engine_for(f"sqlite:///{tmp_path / 'assistant.db'}"))
    with pytest.raises(AccountError, match=why):
        accounts.add(name, password, roles)
    assert accounts.all() == []


def test_accounts_are_made_on_the_command_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*words: str, stdin: str = "", refused: bool = False) -> str:
        done = CliRunner().invoke(commands, ["staff", *words], input=stdin)
        if refused:
            assert isinstance(done.exception, OfficeCommandError)
            return str(done.exception)
        assert done.exit_code == 0, done.output
        return done.output

    assert "No accounts" in run("list")
    both = ("--role", "staff", "--role", "editor")
    assert "may sign in" in run("add", "Ana", *both, stdin=f"{PASSWORDS['ana']}\n")
    assert "already" in run("add", "ana", *both, stdin="some-other-words-12", refused=True)
    assert "staff, editor" in run("list")
    accounts = Accounts(engine_for(database_url))
    before = accounts.check("ana", PASSWORDS["ana"])
    assert before is not None
    assert before.roles == {"staff", "editor"}
    run("password", "ana", stdin="some-other-words-12")
    assert accounts.check("ana", PASSWORDS["ana"]) is None
    assert accounts.check("ANA", "some-other-words-12") is not None
    log = run("log")
    assert "command line" in log
    assert log.count("\n") == 2
    run("remove", "ana")
    assert "There is no account" in run("remove", "ana", refused=True)
    assert accounts.all() == []
