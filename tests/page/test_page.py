"""The page in a real Chromium: nothing fails, nothing leaves it, every chart is drawn, sorting and switching work."""

import re
import shutil
import time

import pandas as pd
import pytest
from made_study import TRANSFORMERS, make_study

from levelfield.study.config import Study
from levelfield.tell.collect import collect
from levelfield.tell.report.render import page as rendered
from levelfield.tell.report.render import write_report
from levelfield.tell.results import Results
from levelfield.tell.site.render import write_site

pytestmark = pytest.mark.long
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"desk": (1200, 900), "phone": (390, 844)}
EVIL = "<script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.fail("no chromium found: type `apt-get install chromium`, or leave this folder out with -m 'not long'")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `pip install playwright`")
    with sync_api.sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as started:
        yield started


class Visit:
    """An opened page, and all that it said or asked for."""

    def __init__(self, browser, file, size="desk", theme="light"):
        width, height = SIZES[size]
        self.page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        started = time.monotonic()
        self.page.goto(file.as_uri())
        self.open_seconds = time.monotonic() - started
        self.page.wait_for_selector("html[data-drawn=true]", timeout=60_000)
        self.drawn_seconds = time.monotonic() - started

    def until(self, true) -> None:
        """Waits for what a click changes: nothing says when the charts are drawn anew."""
        deadline = time.monotonic() + 30
        while not true():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(50)

    def column(self, table: int, column: int) -> list[str]:
        cells = self.page.locator("table.sortable").nth(table).locator(f"tbody tr > :nth-child({column + 1})")
        return [text.strip() for text in cells.all_text_contents()]

    def marks(self, chart: str) -> int:
        """Lines, bars and dots that can be seen."""
        return self.page.locator(
            f"#{chart} svg .mark-line path, #{chart} svg .mark-rect path, #{chart} svg .mark-symbol path"
        ).count()


def made(folder, **options):
    collect(make_study(folder, **options))
    return write_report(folder)


STUDIES = {
    "article": {},
    "frameworks": {
        "cases": ["keras-tensorflow", "keras-jax", "keras-torch", "torch", "torch-compile", "jax"], "steps": 100,
        "gpus": {"torch": "Tesla V100", "jax": "Tesla V100"},
        "failures": {("jax", 1): "failed", "torch-compile": "failed-parity", ("keras-jax", 0): "missing"},
    },
    "ablation": {
        "cases": ["torch", *({"backend": "torch", "departures": [name]} for name in ("extra-tanh", "naive-init", "clip-norm"))],
        "seeds": [0, 1, 2, 3, 4], "steps": 100,
    },
    "scaling": {"cases": ["torch", "jax"], "vary": {"length": [100, 200, 400]}, "steps": 50},
    "models": {"cases": ["keras-tensorflow", "torch", "jax", "flax"], "vary": {"model": ["bilstm", "transformer", "cnn"]}, "steps": 50},
    "reproduction-transformer": {"cases": TRANSFORMERS, "protocol": {"model": "transformer"}, "steps": 100},
    "one-run": {"cases": ["torch"], "seeds": [3], "epochs": 1, "steps": 20},
    "nothing": {"cases": ["torch"], "seeds": [0], "steps": 20, "failures": {("torch", 0): "failed"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    return {name: made(root / name, **options) for name, options in STUDIES.items()}


LOOKS = [("article", size, theme) for size in SIZES for theme in ("light", "dark")]
LOOKS += [(study, *look) for study in STUDIES if study != "article" for look in (("desk", "light"), ("phone", "dark"))]


@pytest.mark.parametrize(("study", "size", "theme"), LOOKS)
def test_every_chart_is_drawn_and_nothing_leaves_the_page(browser, pages, tmp_path, study, size, theme):
    visit = Visit(browser, pages[study], size, theme)
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith(("data:", "blob:"))] == [pages[study].as_uri()]
    charts = visit.page.locator(".drawing").count()
    assert charts >= 6 and visit.page.locator(".drawing > svg, .drawing svg.marks").count() == charts
    for drawing in visit.page.locator(".drawing").all():
        assert drawing.get_attribute("aria-label")
        box = drawing.locator("svg.marks").bounding_box()
        assert box["width"] > 100 and box["height"] > 40
    if study != "nothing":
        assert visit.marks("loss-0" if study == "models" else "loss") >= 1 and visit.marks("throughput") >= 1
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], "the page scrolls sideways"
    visit.page.screenshot(path=tmp_path / f"{study}-{size}-{theme}.png", full_page=True)
    visit.page.close()


def test_headings_sort_by_figures_and_empty_cells_stay_last(browser, pages):
    visit = Visit(browser, pages["frameworks"])
    table = visit.page.locator("table.sortable").first
    heading = table.locator("th[scope=col]").filter(has_text="sequences/s")
    place = heading.evaluate("cell => cell.cellIndex")
    heading.locator("button").focus()
    visit.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    found = visit.column(0, place)
    figures = [float(text.replace(",", "")) for text in found if text]
    assert figures == sorted(figures) and found == [*(text for text in found if text), *("" for text in found if not text)]
    visit.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    again = visit.column(0, place)
    assert [text for text in again if text] == [text for text in found if text][::-1] and again[-1] == found[-1]
    visit.page.close()


def test_switches_take_cases_out_of_every_chart(browser, pages):
    visit = Visit(browser, pages["article"])
    before = {chart: visit.marks(chart) for chart in ("loss", "validation-accuracy", "throughput", "time-chart")}
    visit.page.locator("#switches input").first.focus()
    visit.page.keyboard.press("Space")
    visit.until(lambda: all(0 < visit.marks(chart) < marks for chart, marks in before.items()))
    visit.page.locator("#switches input").first.check()
    visit.until(lambda: all(visit.marks(chart) == marks for chart, marks in before.items()))
    visit.page.close()


def test_pointing_at_a_line_tells_its_values(browser, pages):
    visit = Visit(browser, pages["article"])
    drawing = visit.page.locator("#loss svg.marks")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tooltip = visit.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for(timeout=5_000)
    told = tooltip.text_content()
    assert re.search(r"case(keras-tensorflow|torch)training step\d+loss, nats, mean0\.\d{4}lowest seed0\.\d{4}", told), told
    visit.page.close()


def test_the_theme_can_be_switched_and_charts_follow(browser, pages):
    visit = Visit(browser, pages["article"], theme="light")
    colour = "getComputedStyle(document.querySelector('#loss .role-axis-title text')).fill"
    light = visit.page.evaluate(colour)
    visit.page.locator("#theme").click()
    assert visit.page.locator("html").get_attribute("data-theme") == "dark"
    assert visit.page.evaluate(colour) != light
    visit.page.close()


def test_every_table_tells_what_its_headings_belong_to(browser, pages):
    visit = Visit(browser, pages["frameworks"])
    unnamed = "[...document.querySelectorAll('table')].filter(t => !t.caption || [...t.querySelectorAll('th')].some(h => !h.scope)).length"
    assert visit.page.evaluate(unnamed) == 0
    assert visit.page.evaluate("document.querySelectorAll('h1').length") == 1
    visit.page.close()


def test_it_prints_with_every_chart(browser, pages):
    visit = Visit(browser, pages["article"], theme="dark")
    assert len(visit.page.pdf()) > 20_000
    visit.page.emulate_media(media="print")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    visit.page.close()


def test_text_of_configs_and_logs_is_text(browser, tmp_path):
    folder = tmp_path / "evil"
    make_study(folder, steps=20)
    collect(folder)
    results = Results.read(folder)
    runs = results.runs.assign(error=EVIL, backend=EVIL).replace({"case": {"keras-tensorflow": EVIL}})
    steps = pd.read_parquet(folder / "steps.parquet").astype({"case": str})
    steps.replace({"case": {"keras-tensorflow": EVIL}}).to_parquet(folder / "steps.parquet")
    epochs = results.epochs.replace({"case": {"keras-tensorflow": EVIL}})
    data = {**results.data, "title": EVIL, "corpus": EVIL, "why": EVIL}
    named = results.study.cases[0].model_copy(update={"name": EVIL})
    study = Study.model_construct(**{**dict(results.study), "cases": [named, *results.study.cases[1:]]})
    hostile = Results(folder, study, data, runs, epochs)
    file = folder / "report.html"
    file.write_text(rendered(hostile))
    assert EVIL in hostile.cases and EVIL not in file.read_text()
    visit = Visit(browser, file)
    assert visit.page.title() != "taken" and visit.said == []
    assert EVIL in visit.page.locator("#switches").text_content()
    visit.page.close()


def test_the_page_of_the_article_is_small_and_names_its_data(pages):
    text = pages["article"].read_text()
    assert len(text.encode()) < 5_000_000
    assert "IMDB" in re.search("<title>(.*?)</title>", text)[1]
    for cited in ("Maas", "not part of this project"):
        assert cited in text
    assert "Hutto" not in text  # whose texts were not used


def test_a_thousand_runs_open_in_three_seconds(browser, tmp_path):
    cases = [{"backend": "torch", "name": f"case-{number}"} for number in range(100)]
    file = made(tmp_path / "thousand", cases=cases, seeds=list(range(10)), steps=20)
    assert file.stat().st_size < 5_000_000
    seconds = []
    for _ in range(3):  # the shortest: the machine may be busy
        visit = Visit(browser, file)
        assert visit.said == []
        seconds.append(visit.open_seconds)
        visit.page.close()
    assert min(seconds) < 3, seconds


@pytest.mark.parametrize(("size", "theme"), [("desk", "light"), ("phone", "dark")])
def test_the_page_over_all_studies_draws_sorts_and_links(browser, pages, size, theme):
    root = pages["article"].parents[1]
    file = root / "index.html"
    write_site(root, file, refuse=lambda folder: None)
    visit = Visit(browser, file, size, theme)
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert visit.page.locator(".drawing").count() == visit.page.locator(".drawing > svg, .drawing svg.marks").count() >= 3
    visit.page.locator("#records th button", has_text="cases").click()
    cases = [int(text) for text in visit.page.locator("#records tbody tr > :nth-child(6)").all_text_contents()]
    assert cases == sorted(cases) and len(cases) == len(STUDIES) - 1  # of one no run has finished
    visit.page.locator('article a[href="article/report.html"]').click()
    visit.page.wait_for_selector("html[data-drawn=true]", timeout=60_000)
    assert visit.page.url == pages["article"].as_uri()
    visit.page.close()
