"""The page in a real browser. Debian's chromium; elsewhere these tests are skipped."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kod_bench.reports.page import write_page
from tests.cli.processes import wait_for
from tests.reports.study import HOSTILE, make_study

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Where to keep screenshots to look at; nowhere by default.
SHOTS = os.environ.get("KOD_BENCH_SCREENSHOTS")
PATIENCE = 60_000  # milliseconds

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    found = make_study(folder, failures=(("ddpm-9", HOSTILE),), hostname=HOSTILE)
    return write_page(found.content, [folder], folder, paper=False)


class Visit:
    """A page opened with no network, and all that it complained about or asked for."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.context = browser.new_context(
            **{"offline": True, "viewport": {"width": 1280, "height": 900}} | options
        )
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=PATIENCE, state="attached")
        self.page.wait_for_selector(".plot .main-svg", timeout=PATIENCE)

    def keep(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def test_the_page_works_without_a_network_and_without_complaint(browser: Any, report: Path) -> None:
    with Visit(browser, report) as visit:
        page = visit.page
        visit.keep("desktop")

        # Sorted by click: real versus real stays on top.
        table = page.locator("table.sortable").first
        head = table.locator("th", has_text="KID")
        column = head.evaluate("th => th.cellIndex")

        def values() -> list[float]:
            texts = table.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()
            return [float(text.split()[0]) for text in texts]

        first, *unsorted = values()
        head.locator("button").click()
        assert values() == [first, *sorted(unsorted)]
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").click()
        assert values() == [first, *sorted(unsorted, reverse=True)]

        # Every figure can be switched to, and is drawn then.
        tabs = page.get_by_role("tab")
        assert tabs.count() >= 10
        for place in range(tabs.count()):
            tabs.nth(place).click()
            shown = page.locator('[role="tabpanel"]:visible')
            assert shown.count() == 1
            shown.locator(".main-svg").first.wait_for()
            assert tabs.nth(place).get_attribute("aria-selected") == "true"
            if SHOTS:
                shown.screenshot(path=f"{SHOTS}/desktop-figure-{place}.png")

        # A click on the legend hides a line.
        tabs.first.click()
        panel = page.locator('[role="tabpanel"]:visible')
        lines = panel.locator(".scatterlayer .trace")
        before = lines.count()
        panel.locator(".legendtoggle").first.click()
        wait_for(lambda: lines.count() == before - 1, "the line to go")

        assert page.evaluate("window.hacked") is None
        assert visit.complaints == []
        assert [url for url in visit.asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser: Any, report: Path, scheme: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "color_scheme": scheme}
    with Visit(browser, report, **phone) as visit:
        visit.keep(f"phone-{scheme}")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert visit.complaints == []


def test_dark_mode_darkens_the_page_and_its_figures_and_follows_a_change(
    browser: Any, report: Path
) -> None:
    lightness = """selector => {
        const style = getComputedStyle(document.querySelector(selector));
        const colour = selector === 'body' ? style.backgroundColor : style.fill;
        return colour.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
    }"""
    with Visit(browser, report, color_scheme="dark") as visit:
        visit.keep("dark")
        assert visit.page.evaluate(lightness, "body") < 150
        assert visit.page.evaluate(lightness, ".plot .xtitle") > 500
        visit.page.emulate_media(color_scheme="light")
        assert visit.page.evaluate(lightness, "body") > 700
        # Not the browser's own wait: it evaluates strings in the page, whose policy forbids it.
        wait_for(
            lambda: visit.page.evaluate(lightness, ".plot .xtitle") < 200,
            "the figures to follow",
        )
        assert visit.complaints == []
