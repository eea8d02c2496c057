"""The page for a person: both colour schemes, a known diagnosis, an unfinished training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.browser import FAULTS, LEGIBILITY, SCHEMES, WIDTHS
from tests.helpers.marks import NEEDS_APP
from tests.helpers.run_folders import make_run_folder
from tests.helpers.serving import request, serving

pytestmark = NEEDS_APP
DONE = "document.getElementById('result').getAttribute('aria-busy') === 'false'"
SHOWN = f"{DONE} && !document.getElementById('shown').hidden"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("answers") / "run")


@pytest.fixture(scope="module")
def port(run):
    from se_resnet.app.server import create_page

    with serving(create_page(run, 2**26), answer_seconds=60.0) as port:
        yield port


def choose(browser, diagnosis):
    browser.evaluate(f"document.querySelector('[data-diagnosis=\"{diagnosis}\"]').click()")
    browser.wait(f"{SHOWN} && document.getElementById('truth').textContent.includes('{diagnosis}')")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_can_be_read_in_both_schemes(browser, port, width, scheme):
    browser.prefer(scheme)
    browser.open(f"http://127.0.0.1:{port}", width)
    choose(browser, "benign")
    assert browser.messages + browser.evaluate(FAULTS) + browser.evaluate(LEGIBILITY) == []
    colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
    browser.prefer("light")


def test_the_call_for_a_known_diagnosis_is_judged(browser, port):
    browser.open(f"http://127.0.0.1:{port}", 1280)
    verdicts = {}
    for diagnosis in ("benign", "malignant"):
        choose(browser, diagnosis)
        call = browser.evaluate("document.getElementById('call').textContent")
        verdict = browser.evaluate("document.getElementById('verdict').textContent")
        status = browser.evaluate("document.getElementById('status').textContent")
        assert browser.evaluate("document.getElementById('verdict').checkVisibility()")
        assert verdict == ("✓ right" if call == f"Called {diagnosis}" else "✗ wrong")
        assert status.endswith(f", {verdict[2:]}.")
        verdicts[diagnosis] = verdict
    assert {*verdicts.values()} == {"✓ right", "✗ wrong"}, "the network calls all images alike"


def test_an_image_of_unknown_diagnosis_is_not_judged(browser, port, tmp_path):
    browser.open(f"http://127.0.0.1:{port}", 1280)
    choose(browser, "benign")
    address = browser.evaluate("document.querySelector('[data-sample]').dataset.sample")
    (tmp_path / "mine.png").write_bytes(request(port, path=f"/{address}")[1])
    browser.choose_file("#file", tmp_path / "mine.png")
    browser.wait(f"{SHOWN} && document.getElementById('caption').textContent.includes('mine.png')")
    for name in ("verdict", "truth"):
        assert not browser.evaluate(f"document.getElementById('{name}').checkVisibility()")


def test_a_withheld_call_is_not_judged(browser, port):
    browser.open(f"http://127.0.0.1:{port}", 1280)
    browser.evaluate("judge('benign', 'withheld', true)")
    assert browser.evaluate("document.getElementById('verdict').hidden")
    assert not browser.evaluate("document.getElementById('truth').hidden")


@pytest.mark.parametrize("width", WIDTHS)
def test_image_and_overlay_stand_side_by_side(browser, port, width):
    browser.open(f"http://127.0.0.1:{port}", width)
    choose(browser, "benign")
    image, below, heat = browser.evaluate(
        "['image', 'image-below', 'heat'].map((id) => {"
        "const box = document.getElementById(id).getBoundingClientRect();"
        "return [box.left, box.top, box.width, box.height].map(Math.round); })"
    )
    assert below == heat, "the heat covers the image below it"
    assert image[1:] == below[1:] and image[0] + image[2] < below[0]
    natural = browser.evaluate(
        "(() => { const i = document.getElementById('image');"
        "return i.naturalWidth / i.naturalHeight; })()"
    )
    assert image[2] / image[3] == pytest.approx(natural, rel=0.02)
    evidence = browser.evaluate("document.getElementById('evidence').textContent")
    call = browser.evaluate("document.getElementById('call').textContent")
    assert evidence == f"evidence for {call.removeprefix('Called ')}"


@pytest.fixture
def unfinished(tmp_path) -> Path:
    folder = make_run_folder(tmp_path / "unfinished")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"epochs": 75}))
    return folder


def test_the_command_warns_of_an_unfinished_training(run, unfinished, monkeypatch, capsys):
    from se_resnet.app.serve import serve

    server = SimpleNamespace(run=lambda sockets: None)
    monkeypatch.setattr("se_resnet.app.server.create_page", lambda *_: None)
    monkeypatch.setattr("se_resnet.app.connections.server_of", lambda _: server)
    serve(unfinished, 0)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("WARNING: The training in unfinished has not finished: it is at step 2")
    assert second.startswith("open http://127.0.0.1:")
    serve(run, 0)
    assert "WARNING" not in capsys.readouterr().out


def test_the_page_says_that_the_training_has_not_finished(unfinished, port):
    from se_resnet.app.server import create_page

    assert 'id="unfinished"' not in request(port)[1].decode()
    with serving(create_page(unfinished, 2**26), answer_seconds=60.0) as other:
        html = request(other)[1].decode()
    assert "The training in unfinished has not finished: it is at step 2 of 75." in html
