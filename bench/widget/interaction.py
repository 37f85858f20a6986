"""How long the widget's slowest reaction takes on a processor four times slower.

python -m bench.widget.interaction [URL] [RUNS]
"""

from __future__ import annotations

import sys
from statistics import median

from playwright.sync_api import Browser

from tests.browser import chromium, new_page

WATCH = """
window.durations = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (entry.interactionId) durations.push([entry.duration, entry.name]);
}).observe({type: "event", durationThreshold: 16, buffered: true});
"""


def slowest(browser: Browser, url: str) -> tuple[float, str]:
    """Use the chat on a slow phone; return the longest event in milliseconds, and its name."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    chat = new_page(context, url)
    chat.page.add_init_script(WATCH)
    chat.visit()
    context.new_cdp_session(chat.page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    chat.launcher.tap()
    chat.find(".note button").first.tap()
    chat.find(".note button").first.wait_for(state="detached")
    chat.input.tap()
    chat.page.keyboard.type("what is sciatica?", delay=60)
    chat.find(".send").tap()
    chat.find(".sources").wait_for()
    chat.find(".choices .choice").first.tap()
    chat.find(".sources").nth(1).wait_for()
    chat.page.wait_for_timeout(1000)  # the last events are reported after they were painted
    durations = chat.page.evaluate("window.durations")
    context.close()
    worst, name = max(durations)
    return float(worst), str(name)


def main() -> None:
    """Print each run and the median."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:5005/webchat/"
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with chromium() as browser:
        found = [slowest(browser, url) for _ in range(runs)]
    print(found)
    print(f"slowest reaction, median of {runs}: {median(worst for worst, _ in found):.0f} ms")


if __name__ == "__main__":
    main()
