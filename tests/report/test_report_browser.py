"""The report in a real browser: everything is drawn, fits, and nothing hostile runs."""

from __future__ import annotations

import json
import re
import shutil

import pytest

import eval as evaluation
from tests.helpers.browser import CHROMIUM, FAULTS, LEGIBILITY, SCHEMES, WIDTHS, Browser
from tests.helpers.marks import compiled
from tests.helpers.reports import make_predictions, write_full_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

HOSTILE = "\"><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_full_report(path, make_predictions(name="SOB_M_PC-14-15190LM-400-{:03d}.png"))
    return path


def faults(browser, page, width):
    browser.open(page, width)
    found = browser.evaluate(FAULTS)
    return browser.messages + found


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_is_drawn_and_fits(browser, report, width):
    assert faults(browser, report, width) == []
    # Curves 3, calibration 2, gates, training 2, the strips and the 4 marks of their legend.
    assert browser.evaluate("document.querySelectorAll('svg').length") == 8 + 8 + 4
    assert browser.evaluate("document.querySelectorAll('.case img').length") > 12


@pytest.mark.parametrize("width", WIDTHS)
def test_seventy_patients_fit(browser, tmp_path, width):
    write_full_report(tmp_path / "many.html", make_predictions(70, 1400))
    assert faults(browser, tmp_path / "many.html", width) == []
    assert browser.evaluate("document.querySelectorAll('.strip').length") == 70


@pytest.mark.parametrize("width", WIDTHS)
def test_what_evaluation_writes_is_drawn_and_fits(browser, run, width):
    assert faults(browser, run / "eval" / "test" / "report.html", width) == []
    assert browser.evaluate("document.querySelectorAll('.case img').length") > 0
    assert browser.evaluate("document.getElementById('gates-figure_1') !== null")


@pytest.fixture(scope="module")
def pages(report, run):
    folder = run / "eval" / "test"
    names = ("report.html", "reporting/reporting.html", "reporting/claim.html")
    return [report, *(folder / name for name in names)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_can_be_read_in_both_schemes(browser, pages, width, scheme):
    browser.prefer(scheme)
    for page in pages:
        assert faults(browser, page, width) == [], page
        assert browser.evaluate(LEGIBILITY) == [], page
        colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
    browser.prefer("light")


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ('<p style="color: #888">pale</p>', "contrast 3.5: pale"),
        ('<svg width="99" height="20"><text y="15" fill="#fff">white</text></svg>', ": white"),
        (f"<p style='max-width: none'>{'word ' * 80}</p>", "lines of 1"),
    ],
)
def test_what_cannot_be_read_is_found(browser, report, tmp_path, planted, fault):
    html = report.read_text().replace("<main>", f"<main>{planted}")
    (tmp_path / "page.html").write_text(html)
    browser.open(tmp_path / "page.html", 1280)
    (found,) = browser.evaluate(LEGIBILITY)
    assert fault in found


@pytest.mark.parametrize("width", WIDTHS)
def test_the_navigation_stays_and_hides_no_heading(browser, report, width):
    browser.open(report, width)
    for section in browser.evaluate(
        "[...document.querySelectorAll('.contents a[href^=\"#\"]')].map((a) => a.hash.slice(1))"
    ):
        browser.evaluate(f"document.querySelector('.contents a[href=\"#{section}\"]').click()")
        gap, top = browser.evaluate(
            "(() => { const box = (one) => one.getBoundingClientRect();"
            "const bar = box(document.querySelector('.contents'));"
            f"return [box(document.getElementById('{section}')).top - bar.bottom, bar.top]; }})()"
        )
        assert gap >= 0, f"#{section} is hidden below the navigation"
        assert top == 0 or section == "warnings", "the navigation scrolls away"
    # The last link can be reached: the bar scrolls by itself where it is wider than the window.
    browser.evaluate("document.querySelector('.contents a:last-child').focus()")
    right = "document.querySelector('.contents a:last-child').getBoundingClientRect().right"
    assert browser.evaluate(right) <= width


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ('<div style="width: 2000px">wide</div>', "wide in a window"),
        ('<img alt="torn" src="data:image/png;base64,AAAA">', "broken image: torn"),
        ('<img alt="outside" src="https://127.0.0.1:9/a.png">', "Content Security Policy"),
        ('<svg style="width: 0" aria-label="empty"></svg>', "not drawn: empty"),
        ('<p>one</p><p style="margin-top: -2.2em">two</p>', "overlap: two | one"),
        ('<svg width="50" height="20"><text x="40" y="15">long</text></svg>', "cut off"),
        ("<script>console.error(1)</script>", "Content Security Policy"),
    ],
)
def test_a_planted_fault_is_found(browser, report, tmp_path, planted, fault, width):
    html = report.read_text()
    (tmp_path / "page.html").write_text(html.replace("<main>", f"<main>{planted}"))
    assert fault in " ".join(faults(browser, tmp_path / "page.html", width))


@pytest.mark.parametrize("policy", [True, False])
def test_hostile_text_stays_text(browser, tmp_path, policy):
    page = tmp_path / "page.html"
    write_full_report(
        page,
        make_predictions(name=HOSTILE.replace("{", "{{") + "{}"),
        config={HOSTILE: HOSTILE},
        command=HOSTILE,
        warnings=[HOSTILE],
        notes=[HOSTILE],
        data_notes=[HOSTILE],
    )
    if not policy:
        html, count = re.subn(r"<meta http-equiv=.*?>\n", "", page.read_text(), count=1)
        assert count == 1
        page.write_text(html)
    assert faults(browser, page, 1280) == []
    assert browser.evaluate("document.title") == "breakhis: test images"
    assert browser.evaluate("document.querySelectorAll('script, [onerror]').length") == 0
    assert browser.evaluate("document.body.innerText.split('onerror').length") > 10


@pytest.mark.parametrize("policy", [True, compiled(False)])
def test_a_hostile_run_becomes_a_page_that_runs_nothing(browser, run, tmp_path, policy):
    """File names follow a grammar; the folder, the configuration and a split's roles need not."""
    hostile = "\"'><img src=x onerror=\"document.title='owned'\"><!--"
    workdir = tmp_path / hostile
    shutil.copytree(run, workdir, ignore=shutil.ignore_patterns("eval", "latest"))
    script = "</title></style></pre></script><script>document.title='owned'</script>"
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["cache_dir"], config[script] = config["data"]["cache_dir"], script
    (workdir / "config.json").write_text(json.dumps(config))
    data = json.loads((workdir / "data.json").read_text())
    data["split"][0]["role"], data["split"][1]["class"] = script, hostile
    (workdir / "data.json").write_text(json.dumps(data))
    evaluation.evaluate_run(workdir)
    html = (workdir / "eval" / "test" / "report.html").read_text()
    page = tmp_path / "page.html"
    page.write_text(html if policy else re.sub(r"<meta http-equiv=.*?>\n", "", html, count=1))
    browser.open(page, 1280)
    assert browser.messages == []
    assert browser.evaluate("document.title") == f"{hostile}: test images"
    injected = "document.querySelectorAll('script, [onerror], img[src=x]').length"
    assert browser.evaluate(injected) == 0
    assert browser.evaluate("document.body.innerText.split('</script>').length") > 2


def test_prints_on_paper(browser, report, tmp_path):
    browser.open(report, 1280)
    browser.print(tmp_path / "report.pdf")
    pages = len(re.findall(rb"/Type /Page\b", (tmp_path / "report.pdf").read_bytes()))
    assert 4 <= pages <= 15
