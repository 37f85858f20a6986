"""The widget in Chromium, against the running server: use, access, trust, safety."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser import AXE_RULES, ChatPage, answer_with, chromium, new_page, site
from tests.conftest import EMBEDDING_SITE, Server
from tests.data.injections import injections

STILL = """() => document.querySelector('practice-chat').shadowRoot.getAnimations()
    .every((one) => one.playState !== 'running')"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
    yield context
    context.close()


@pytest.fixture
def demo(context: BrowserContext, server: Server) -> Iterator[ChatPage]:
    """The demo page, closed chat. Whatever a test does there breaks no policy and throws nothing."""
    page = new_page(context, f"{server.url}/webchat/").visit()
    yield page
    assert page.violations() == []
    assert page.errors == []


def page_with(browser: Browser, url: str, **options: Any) -> ChatPage:
    return new_page(browser.new_context(**options), url).visit()


# Light


def test_before_it_is_opened_the_widget_asks_for_two_files_and_nobody_else(
    demo: ChatPage, server: Server
) -> None:
    demo.page.wait_for_load_state("networkidle")
    chat = [url for url in demo.requests if url.endswith(".js") and not url.endswith("/page.js")]
    assert len(chat) == 2, chat
    demo.open(save=True)
    demo.ask("does acupuncture help sciatica?")
    assert len(demo.requests) > len(chat)
    assert [url for url in demo.requests if not url.startswith(server.url)] == []


# Trust


def test_it_says_at_once_that_it_is_automated_and_asks_before_it_keeps_anything(
    demo: ChatPage,
) -> None:
    demo.open()
    assert "Automated assistant" in demo.find("header").inner_text()
    assert "not a clinician" in demo.find("header").inner_text()
    assert "automated assistant" in demo.said()[0]
    assert "May we save this chat?" in demo.find(".note").inner_text()
    for words in ("Talk to a person", "Privacy", "Delete this chat"):
        expect(demo.find("footer").get_by_text(words)).to_be_visible()
    assert demo.kept() is None
    sessions = [url for url in demo.requests if url.endswith("/session")]
    assert len(sessions) == 1


def storage_of(demo: ChatPage) -> str:
    return str(
        demo.page.evaluate(
            """async () => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie,
                (await indexedDB.databases()).map((one) => one.name),
                'caches' in window ? await caches.keys() : []])"""
        )
    )


def test_a_private_chat_leaves_nothing_in_the_browser_and_ends_with_the_page(
    demo: ChatPage,
) -> None:
    demo.open(save=False)
    demo.ask("what is sciatica?")
    assert json.loads(storage_of(demo)) == [{}, {}, "", [], []]
    assert demo.find(".thumbs").count() == 0
    demo.page.reload()
    demo.open()
    assert "what is sciatica?" not in demo.said()


def test_who_just_writes_has_a_private_chat(demo: ChatPage) -> None:
    demo.open()
    demo.ask("what is sciatica?")
    assert "Private chat" in demo.find(".note").inner_text()
    assert demo.kept() is None


def test_a_saved_chat_keeps_a_token_for_a_day_at_most_and_no_word_of_it(demo: ChatPage) -> None:
    demo.open(save=True)
    demo.ask("what is sciatica?")
    kept = demo.kept()
    assert kept
    assert kept.keys() == {"token", "until", "open", "unsent"}
    assert kept["unsent"] == []
    assert kept["until"] / 1000 <= time.time() + 24 * 3600 + 5
    assert "sciatica" not in storage_of(demo)
    demo.page.evaluate(
        """() => { for (const key of Object.keys(localStorage)) {
            const kept = JSON.parse(localStorage[key]);
            localStorage[key] = JSON.stringify({...kept, until: Date.now() - 1}); } }"""
    )
    demo.page.reload()
    demo.launcher.wait_for()
    assert demo.kept() is None


def test_deleting_asks_once_and_deletes_everywhere(demo: ChatPage, server: Server) -> None:
    demo.open(save=True)
    demo.ask("what is sciatica?")
    kept = demo.kept()
    assert kept
    demo.find("footer").get_by_text("Delete this chat").click()
    demo.find("footer").get_by_text("Delete", exact=True).click()
    demo.find(".note button").first.wait_for()
    assert demo.said("visitor") == []
    assert demo.kept() is None
    headers = {"Authorization": f"Bearer {kept['token']}"}
    assert server.http.get("/webchat/messages", headers=headers).status_code == 401


def test_the_visitor_can_keep_a_copy(demo: ChatPage) -> None:
    demo.open(save=False)
    demo.ask("what is sciatica?")
    with demo.page.expect_download() as download:
        demo.find("header").get_by_label("Save a copy of this chat").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert "You: what is sciatica?" in text
    assert all(f"Assistant: {said}"[:40] in text for said in demo.said("assistant")[:1])


# The conversation


def test_a_quick_reply_is_sent_as_a_postback_and_gone_afterwards(demo: ChatPage) -> None:
    demo.open(save=False)
    sent: list[Any] = []
    demo.page.on(
        "request",
        lambda request: (
            sent.append(request.post_data_json) if request.url.endswith("/messages") else None
        ),
    )
    choice = demo.find(".choices .choice").first
    words = choice.inner_text()
    choice.click()
    demo.find(".sources").wait_for()
    assert sent[0].keys() == {"id", "postback"}
    assert demo.find(".choices .choice", ).filter(has_text=re.compile(f"^{re.escape(words)}$")).count() <= 1  # fmt: skip
    assert len(demo.said("visitor")) == 1


def test_an_emergency_cannot_be_missed(demo: ChatPage) -> None:
    demo.open(save=False)
    demo.ask("I can't feel my groin and cannot pee since this morning")
    card = demo.find(".card")
    expect(card).to_have_count(1)
    assert "Emergency" in card.inner_text()
    call = card.locator("a.call")
    expect(call).to_be_in_viewport()
    assert call.get_attribute("href") == "tel:911"
    assert (call.bounding_box() or {})["height"] >= 44
    expect(demo.find(".log")).to_have_attribute("aria-live", "assertive")
    demo.ask("thanks")
    expect(call).to_be_attached()
    expect(demo.find(".log")).to_have_attribute("aria-live", "polite")


def test_each_reply_is_said_once_and_in_its_language(demo: ChatPage) -> None:
    demo.open(save=False)
    demo.ask("what is sciatica?")
    regions = demo.page.evaluate(
        """() => [...document.querySelector('practice-chat').shadowRoot
            .querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')]
            .map((one) => [one.getAttribute('role'), one.textContent])"""
    )
    assert sorted(role for role, _ in regions) == ["log", "status"]
    reply = demo.said("assistant")[-1]
    assert sum(text.count(reply) for _, text in regions) == 1
    assert demo.find(".bubble.assistant > span[lang=en]").count() == demo.answers()


def test_a_long_message_is_counted_in_time_and_not_cut(demo: ChatPage) -> None:
    demo.open(save=False)
    demo.input.fill("a" * 700)
    assert demo.find(".counter").inner_text() == ""
    demo.input.fill("a" * 850)
    assert demo.find(".counter").inner_text() == "850 of 1000 characters"
    demo.input.fill("a" * 1010)
    assert "10 characters too many" in demo.find(".counter").inner_text()
    expect(demo.find(".send")).to_be_disabled()
    assert len(demo.input.input_value()) == 1010


def test_a_reply_that_comes_while_it_is_closed_is_counted_and_said(demo: ChatPage) -> None:
    demo.open(save=False)
    demo.page.route("**/messages", lambda route: (time.sleep(0.3), route.continue_()))
    demo.send("what is sciatica?")
    demo.page.keyboard.press("Escape")
    expect(demo.find(".badge")).to_be_visible()
    assert "new message" in demo.launcher.inner_text()
    expect(demo.find("[role=status]")).to_have_text(re.compile(r"^\d new message"))
    demo.launcher.click()
    demo.find(".sources").wait_for()
    demo.page.keyboard.press("Escape")
    expect(demo.find(".badge")).to_be_hidden()


def test_what_was_typed_survives_turning_the_phone(browser: Browser, server: Server) -> None:
    phone = page_with(
        browser, f"{server.url}/webchat/", viewport={"width": 390, "height": 800}, has_touch=True
    )
    phone.open()
    phone.input.fill("my back hurts when")
    phone.page.set_viewport_size({"width": 800, "height": 390})
    phone.page.set_viewport_size({"width": 1000, "height": 700})
    expect(phone.panel).to_be_visible()
    phone.page.set_viewport_size({"width": 390, "height": 800})
    assert phone.input.input_value() == "my back hurts when"
    assert (phone.panel.bounding_box() or {})["width"] == 390
    phone.page.context.close()


# Keyboard


def test_everything_can_be_done_by_keyboard_alone(demo: ChatPage) -> None:
    keyboard = demo.page.keyboard
    demo.tab_to("Ask a question", most=40)
    while "launcher" not in demo.focused():
        demo.tab_to("Ask a question", most=40)
    keyboard.press("Enter")
    demo.find(".note button").first.wait_for()
    assert "textarea" in demo.focused()
    demo.tab_to("Yes, save", "Shift+Tab")
    keyboard.press("Enter")
    demo.find(".note button").first.wait_for(state="detached")
    assert "textarea" in demo.focused()
    keyboard.type("should I stop eating gluten?")
    keyboard.press("Enter")
    demo.find(".thumbs").wait_for()
    assert "textarea" in demo.focused()
    demo.tab_to("Yes, this helped", "Shift+Tab")
    keyboard.press("Enter")
    expect(demo.find(".thumbs")).to_have_text("Thank you.")
    demo.tab_to("opens in a new tab", "Shift+Tab")
    with demo.page.expect_popup() as popup:
        keyboard.press("Enter")
    popup.value.close()
    demo.tab_to("button.choice")
    keyboard.press("Enter")
    expect(demo.find(".visitor")).to_have_count(2)
    expect(demo.find(".thumbs")).to_have_count(1)
    keyboard.press("F6")
    assert "log" in demo.focused()
    keyboard.press("F6")
    demo.tab_to("Delete this chat")
    keyboard.press("Enter")
    assert demo.focused().endswith("Delete")
    keyboard.press("Enter")
    expect(demo.find(".visitor")).to_have_count(0)
    keyboard.press("Escape")
    expect(demo.panel).to_be_hidden()
    assert "launcher" in demo.focused()


def test_on_a_phone_the_focus_stays_in_the_chat(browser: Browser, server: Server) -> None:
    phone = page_with(browser, f"{server.url}/webchat/", viewport={"width": 360, "height": 740})
    phone.open()
    assert phone.panel.evaluate("dialog => dialog.matches(':modal')")
    seen = set()
    for _ in range(40):
        phone.page.keyboard.press("Tab")
        assert phone.page.evaluate("document.activeElement.localName") == "practice-chat"
        seen.add(phone.focused())
    assert any("Delete this chat" in one for one in seen)
    assert any("Close chat" in one for one in seen)
    phone.page.keyboard.press("Escape")
    assert "launcher" in phone.focused()
    phone.page.context.close()


def test_on_a_desktop_the_page_stays_in_use(demo: ChatPage) -> None:
    demo.open()
    assert not demo.panel.evaluate("dialog => dialog.matches(':modal')")
    demo.page.get_by_role("link", name="Your visit").click()
    assert demo.page.url.endswith("#visit")


# Access


def check_axe(chat: ChatPage, state: str, rules: list[str] | None = None) -> None:
    """Let axe look at the page once nothing moves: a fading element has another contrast."""
    chat.page.wait_for_function(STILL)
    options = {"runOnly": {"type": "rule", "values": rules}} if rules else AXE_RULES
    found = Axe().run(chat.page, options=options).response
    assert found["passes"], state
    problems = [
        f"{state}: {violation['id']} {[node['target'] for node in violation['nodes']]}"
        for violation in found["violations"]
    ]
    assert problems == []


def test_axe_finds_nothing_in_the_states_of_a_conversation(demo: ChatPage) -> None:
    check_axe(demo, "closed")
    demo.open()
    check_axe(demo, "open")
    demo.find(".choices .choice").first.click()
    demo.find(".sources").wait_for()
    check_axe(demo, "after a quick reply")
    demo.ask("I want to book an appointment")
    check_axe(demo, "form")
    demo.ask("yes")
    expect(demo.find(".bubble").last).to_contain_text("name")
    check_axe(demo, "form, a question")
    demo.ask("I can't feel my groin and cannot pee since this morning")
    check_axe(demo, "emergency")
    demo.page.route("**/messages", lambda route: route.abort())
    demo.send("hello")
    expect(demo.notice).to_be_visible()
    check_axe(demo, "error")


@pytest.mark.parametrize(
    ("state", "options"),
    [
        ("360 px", {"viewport": {"width": 360, "height": 740}, "has_touch": True}),
        ("320 px", {"viewport": {"width": 320, "height": 568}}),
        ("dark", {"color_scheme": "dark"}),
        ("forced colors", {"forced_colors": "active"}),
    ],
)
def test_axe_finds_nothing_on_other_screens(
    browser: Browser, server: Server, state: str, options: dict[str, Any]
) -> None:
    chat = page_with(browser, f"{server.url}/webchat/", **options)
    chat.open(save=True)
    chat.ask("does acupuncture help sciatica?")
    check_axe(chat, state)
    chat.ask("I can't feel my groin and cannot pee since this morning")
    check_axe(chat, f"{state}, emergency")
    width = chat.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    chat.page.context.close()


def test_what_can_be_tapped_is_large_enough(browser: Browser, server: Server) -> None:
    phone = page_with(
        browser, f"{server.url}/webchat/", viewport={"width": 360, "height": 740}, has_touch=True
    )
    phone.open(save=True)
    phone.ask("should I stop eating gluten?")
    buttons = phone.find("button:visible, textarea:visible, a.plain:visible, a.call:visible")
    assert buttons.count() >= 8
    phone.page.wait_for_function(STILL)  # a moving box is measured between two pixels
    for place in range(buttons.count()):
        box = buttons.nth(place).bounding_box()
        assert box
        assert round(box["height"], 2) >= 44, buttons.nth(place).inner_text()
        assert round(box["width"], 2) >= 44, buttons.nth(place).inner_text()
    phone.page.context.close()


def test_any_brand_color_stays_readable(demo: ChatPage) -> None:
    demo.open(save=True)
    demo.ask("should I stop eating gluten?")
    for theme in ("light", "dark"):
        for accent in ("#ffff00", "#ffffff", "#000", "pink", "hsl(210 90% 60%)", "nonsense"):
            demo.page.evaluate(
                """([accent, theme]) => { const chat = document.querySelector('practice-chat');
                    chat.setAttribute('accent', accent); chat.setAttribute('theme', theme); }""",
                [accent, theme],
            )
            check_axe(demo, f"{accent}, {theme}", ["color-contrast"])


def test_nothing_moves_for_those_who_do_not_want_it(browser: Browser, server: Server) -> None:
    chat = page_with(browser, f"{server.url}/webchat/", reduced_motion="reduce")
    chat.open()
    assert chat.page.evaluate(STILL)
    chat.page.context.close()


# Embedded elsewhere


def embedding_pages(chat: str) -> dict[str, tuple[str, str]]:
    policy = (
        f"default-src 'none'; script-src {chat}; style-src 'none'; connect-src {chat}; "
        f"img-src {chat} data:; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    line = f'<script src="{chat}/webchat/loader.js" data-heading="Ask us" data-accent="#7a3e9d" async></script>'
    body = "<main><h1>Practice</h1><p>Words.</p></main>"
    head = '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><title>Site</title>'
    own = f'<practice-chat><p>Call <a href="tel:+18185550100">(818) 555-0100</a></p></practice-chat><script src="{chat}/webchat/loader.js" async></script>'
    return {
        "/": (policy, f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{line}</body></html>'),
        "/own": (policy, f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{own}</body></html>'),
        "/es": (policy, f'<!doctype html><html lang="es-MX"><head>{head}</head><body>{body}{line}</body></html>'),
        "/ar": (policy, f'<!doctype html><html lang="ar" dir="rtl"><head>{head}</head><body>{body}{line}</body></html>'),
    }  # fmt: skip


@pytest.fixture
def elsewhere(server: Server) -> Iterator[str]:
    with site(EMBEDDING_SITE, embedding_pages(server.url)):
        yield EMBEDDING_SITE


def test_one_line_embeds_it_on_a_site_of_another_origin(
    context: BrowserContext, elsewhere: str, server: Server
) -> None:
    chat = new_page(context, f"{elsewhere}/").visit()
    chat.open(save=True)
    chat.ask("what is sciatica?")
    assert "Ask us" in chat.find("header").inner_text()
    chat.page.reload()
    expect(chat.find(".visitor")).to_have_count(1)
    chat.find("footer").get_by_text("Delete this chat").click()
    chat.find("footer").get_by_text("Delete", exact=True).click()
    expect(chat.find(".visitor")).to_have_count(0)
    assert chat.violations() == []
    assert chat.errors == []
    others = {url for url in chat.requests if not url.startswith((elsewhere, server.url))}
    assert others <= {"data:,"}


def test_it_speaks_spanish_and_says_that_the_answers_do_not(
    context: BrowserContext, elsewhere: str
) -> None:
    chat = new_page(context, f"{elsewhere}/es").visit()
    assert "Haga una pregunta" in chat.launcher.inner_text()
    chat.open(save=True)
    chat.ask("what is sciatica?")
    assert "responde en inglés" in chat.find(".log").inner_text()
    assert chat.find("section.root").get_attribute("lang") == "es"
    check_axe(chat, "Spanish")


def test_it_reads_from_right_to_left_where_the_page_does(
    context: BrowserContext, elsewhere: str
) -> None:
    chat = new_page(context, f"{elsewhere}/ar").visit()
    launcher = chat.launcher.bounding_box()
    assert launcher
    assert launcher["x"] < 100
    chat.open()
    panel = chat.panel.bounding_box()
    assert panel
    assert panel["x"] < 100
    check_axe(chat, "right to left")


# Safety


ALLOWED = {
    "section", "button", "svg", "path", "span", "dialog", "header", "div", "h2", "p", "form", "label",
    "textarea", "footer", "a", "i", "slot", "strong", "em", "ul", "ol", "li", "br", "img",
}  # fmt: skip


def inspect(chat: ChatPage) -> dict[str, Any]:
    return dict(
        chat.page.evaluate(
            """() => {
                const all = [...document.querySelector('practice-chat').shadowRoot.querySelectorAll('*')];
                const addresses = all.flatMap((one) => ['href', 'src', 'action', 'formaction', 'srcdoc',
                    'xlink:href', 'data', 'poster'].map((name) => one.getAttribute(name)).filter(Boolean));
                return {
                    names: [...new Set(all.map((one) => one.localName))],
                    handlers: all.flatMap((one) => one.getAttributeNames()).filter((name) => /^on|^style$/.test(name)
                        && name !== 'style'),
                    schemes: [...new Set(addresses.map((address) => new URL(address, 'none:').protocol))],
                    broken: window.broken ?? null,
                };
            }"""
        )
    )


def test_no_injected_string_becomes_more_than_text(demo: ChatPage) -> None:
    strings = injections()
    assert len(strings) >= 200
    demo.page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    bad = [
        {
            "text": text,
            "buttons": [{"title": text, "payload": text}],
            "image": text,
            "metadata": {
                "topic": text,
                "urgency": text if place % 3 == 0 else None,
                "language": text,
                "image_alt": text,
                "sources": [{"label": text, "url": text}, {"label": text}],
            },
        }
        for place, text in enumerate(strings)
    ]
    spoken = [{**one, "from": "visitor", "id": one["text"]} for one in bad]
    demo.open(save=True)
    demo.page.route("**/messages", answer_with(200, {"messages": [*bad, *spoken, *bad]}))
    demo.send("<img src=x onerror=window.broken=1>")
    expect(demo.find(".bubble.assistant").nth(len(strings))).to_be_attached(timeout=20_000)
    first = inspect(demo)
    demo.page.reload()
    expect(demo.find(".bubble.visitor").nth(len(strings) - 1)).to_be_attached(timeout=20_000)
    for seen in (first, inspect(demo)):
        assert set(seen["names"]) <= ALLOWED
        assert seen["handlers"] == []
        assert set(seen["schemes"]) <= {"http:", "https:", "tel:", "mailto:"}
        assert seen["broken"] is None
    shown = " ".join(demo.find(".log").all_inner_texts())
    assert "<script>alert(1)</script>" in shown


def test_text_becomes_links_lists_and_emphasis(demo: ChatPage) -> None:
    text = (
        "**Bold** and *light*, [a page](https://practice.example/a?b=1&c=2).\n- one\n- two\n1. first\n"
        "Call (818) 555-0100 or +44 20 7946 0000, write to desk@practice.example, see https://practice.example/x."
    )
    demo.open(save=False)
    demo.page.route(
        "**/messages",
        answer_with(200, {"messages": [{"text": text, "buttons": [], "metadata": {}}]}),
    )
    demo.ask("hello")
    bubble = demo.find(".bubble.assistant").last
    assert bubble.locator("strong").inner_text() == "Bold"
    assert bubble.locator("em").inner_text() == "light"
    assert bubble.locator("ul > li").all_inner_texts() == ["one", "two"]
    assert bubble.locator("ol > li").all_inner_texts() == ["first"]
    assert bubble.locator("a").evaluate_all(
        "all => all.map((one) => one.getAttribute('href'))"
    ) == [
        "https://practice.example/a?b=1&c=2",
        "tel:8185550100",
        "tel:+442079460000",
        "mailto:desk@practice.example",
        "https://practice.example/x",
    ]


def test_a_picture_has_its_words_and_comes_from_no_third_party(
    demo: ChatPage, server: Server
) -> None:
    def message(address: str) -> dict[str, Any]:
        return {"text": "Look:", "image": address, "metadata": {"image_alt": "A leaf"}}

    messages = [message(f"{server.url}/webchat/leaf.svg"), message("https://other.example/x.png")]
    demo.open(save=False)
    demo.page.route("**/messages", answer_with(200, {"messages": messages}))
    demo.ask("hello")
    expect(demo.find(".log img")).to_have_count(1)
    assert demo.find(".log img").get_attribute("alt") == "A leaf"
    assert demo.find(".log .sources a").get_attribute("href") == "https://other.example/x.png"
    assert not [url for url in demo.requests if "other.example" in url]


# For developers of sites


def test_the_page_hears_of_what_happens_but_not_what_was_said(demo: ChatPage) -> None:
    demo.page.evaluate(
        """() => { window.heard = []; const chat = document.querySelector('practice-chat');
            for (const name of ['open', 'close', 'message', 'error'])
                chat.addEventListener(name, (event) => heard.push([name, event.detail])); }"""
    )
    demo.page.evaluate(
        "document.querySelector('practice-chat').ask('should I stop eating gluten?')"
    )
    demo.find(".sources").wait_for()
    assert demo.page.evaluate("document.querySelector('practice-chat').isOpen")
    demo.page.evaluate("document.querySelector('practice-chat').close()")
    heard = demo.page.evaluate("window.heard")
    assert heard[0] == ["open", None]
    assert heard[1] == ["message", {"from": "visitor"}]
    assert ["message", {"from": "assistant", "topic": "diet/gluten"}] in heard
    assert heard[-1] == ["close", None]
    assert "eating" not in json.dumps(heard)
    demo.page.evaluate("document.querySelector('practice-chat').open()")
    demo.page.evaluate("document.querySelector('practice-chat').erase()")
    expect(demo.find(".visitor")).to_have_count(0)
