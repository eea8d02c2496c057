"""The page in a real browser: what a person does with it, and what the server refuses."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from se_resnet import explain
from se_resnet.errors import UserError
from se_resnet.images.resize import resize
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.inference import NOTICE
from se_resnet.runs.workdir import load_best
from tests.helpers.browser import FAULTS
from tests.helpers.image_trees import random_image
from tests.helpers.marks import NEEDS_APP
from tests.helpers.run_folders import make_ensemble_folder
from tests.helpers.serving import send

pytestmark = NEEDS_APP

MAX_UPLOADS = 8
DONE = "document.getElementById('result').getAttribute('aria-busy') === 'false'"


@pytest.fixture(scope="module")
def address(run):
    process = start(run)
    yield re.search(r"http://\S+", process.stdout.readline())[0]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, "Ctrl-C is how the page is ended"
    assert rest == "" and "Traceback" not in errors


def start(run, port=0):
    return subprocess.Popen(
        [sys.executable, "-m", "se_resnet.app", f"--workdir={run}", f"--port={port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "tissue.png"
    cv2.imwrite(str(path), random_image((46, 70)))
    return path


def text(browser, name):
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def upload(browser, path, answered):
    browser.choose_file("#file", path)
    browser.wait(f"{DONE} && document.getElementById('status').textContent.includes('{answered}')")


def request(address, method="GET", path="/", body=b"", headers=None):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer, answer.read()


def screenshot(browser, name):
    """Where a person asks for the pictures, to look at them."""
    if folder := os.environ.get("SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_an_image_gets_the_answer_of_the_command(browser, address, run, image, tmp_path, width):
    browser.open(address, width)
    assert browser.evaluate("document.getElementById('shown').hidden")
    assert browser.messages + browser.evaluate(FAULTS) == []
    screenshot(browser, f"before-{width}")
    upload(browser, image, "called")
    (one,) = predict_folder(run, image, tmp_path / "out", overlays=False)
    assert text(browser, "probability") == f"{one.probability:.3f}"
    assert text(browser, "calibrated") == f"{one.calibrated_probability:.3f}"
    assert text(browser, "call") == f"Called {one.call}"
    assert browser.evaluate("document.getElementById('uncertain').hidden") != one.uncertain
    assert text(browser, "caption") == "tissue.png, 46 × 70 pixels"
    assert browser.messages + browser.evaluate(FAULTS) == []
    screenshot(browser, f"after-{width}")


def test_an_ensemble_shows_the_votes_of_its_members(browser, run, image, tmp_path):
    process = start(make_ensemble_folder(tmp_path / "ensemble", run))
    try:
        browser.open(re.search(r"http://\S+", process.stdout.readline())[0], 1280)
        upload(browser, image, "called")
        votes = text(browser, "votes")
        assert re.fullmatch(r"[02] of 2 call malignant, standard deviation .* 0\.000", votes)
        assert browser.evaluate("document.getElementById('uncertain').hidden")
        assert browser.messages + browser.evaluate(FAULTS) == []
        screenshot(browser, "ensemble")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.parametrize("target", ["#drop", "body"])
def test_an_image_may_be_dropped_anywhere(browser, address, image, target):
    browser.open(address, 1280)
    content = base64.b64encode(image.read_bytes()).decode()
    browser.evaluate(
        "(() => { const data = new DataTransfer();"
        f"const bytes = Uint8Array.from(atob('{content}'), (c) => c.charCodeAt(0));"
        "data.items.add(new File([bytes], 'dropped.png', {type: 'image/png'}));"
        f"const target = document.querySelector('{target}');"
        "const options = {dataTransfer: data, bubbles: true, cancelable: true};"
        "for (const kind of ['dragover', 'drop']) {"
        "  const event = new DragEvent(kind, options); target.dispatchEvent(event);"
        "  if (!event.defaultPrevented) throw Error('the browser would open the file'); } })()"
    )
    browser.wait(f"{DONE} && document.getElementById('status').textContent.includes('called')")
    assert text(browser, "caption") == "dropped.png, 46 × 70 pixels"
    assert not browser.evaluate("document.getElementById('drop').classList.contains('over')")
    assert browser.messages == []


def test_a_second_dropped_file_is_refused_aloud(browser, address):
    browser.open(address, 1280)
    browser.evaluate(
        "(() => { const data = new DataTransfer();"
        "for (const name of ['a.png', 'b.png']) data.items.add(new File(['x'], name));"
        "document.body.dispatchEvent(new DragEvent('drop',"
        " {dataTransfer: data, bubbles: true, cancelable: true})); })()"
    )
    assert text(browser, "status").startswith("2 files were dropped")
    assert browser.evaluate("document.getElementById('status').classList.contains('refused')")
    assert browser.messages == []


def test_the_colours_of_the_scale_change_at_the_threshold(browser, address, run):
    browser.open(address, 1280)
    threshold = json.loads((run / "eval/test/metrics.json").read_text())["decision"]["threshold"]
    drawn = browser.evaluate("getComputedStyle(document.getElementById('scale')).backgroundImage")
    assert drawn.count(f" {100 * threshold:g}%") == 2, drawn


def test_the_marks_of_the_scale_lie_where_the_figures_say(browser, address, run, image):
    browser.open(address, 1280)
    upload(browser, image, "called")
    threshold = json.loads((run / "eval/test/metrics.json").read_text())["decision"]["threshold"]
    share = "(x => (x - s.left) / s.width)"
    at = browser.evaluate(
        "(() => { const box = (id) => document.getElementById(id).getBoundingClientRect();"
        f"const s = box('scale'), share = {share}, m = box('marker'), r = box('range');"
        "return [m.left + m.width / 2, box('threshold').left, r.left, r.right].map(share); })()"
    )
    assert at[0] == pytest.approx(float(text(browser, "probability")), abs=0.01)
    assert at[1] == pytest.approx(threshold, abs=0.01)
    assert at[2] < at[1] < at[3]
    uncertain = not browser.evaluate("document.getElementById('uncertain').hidden")
    assert uncertain == (at[2] < at[0] < at[3])


def test_the_slider_changes_the_overlay_by_keyboard(browser, address, image):
    browser.open(address, 1280)
    upload(browser, image, "called")
    opacity = "Number(getComputedStyle(document.getElementById('heat')).opacity)"
    assert browser.evaluate(opacity) == pytest.approx(0.6)
    browser.evaluate("document.getElementById('opacity').focus()")
    for _ in range(5):
        browser.press("ArrowRight")
    assert browser.evaluate(opacity) == pytest.approx(0.65)
    assert text(browser, "percent") == "65 %"


def test_the_overlay_is_the_heat_of_the_call(address, run):
    loaded = load_best(run)
    classifier = loaded.classifier
    last = classifier.model.stage_names[-1]
    heats = []
    for seed in range(12):
        image = random_image(seed=seed)
        content = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        told = json.loads(request(address, "POST", "/analyse", content)[1])
        tile = resize(image, classifier.size, classifier.resize)[None]
        target = int(told["call"] == "malignant")
        heat = explain.grad_cam(classifier, loaded.variables, tile, stage=last, target=target)[0]
        png = np.frombuffer(base64.b64decode(told["heat"].split(",")[1]), np.uint8)
        shown = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(shown[..., 3] / 255, heat, atol=0.003)
        assert told["hottest"] == pytest.approx(heat.max(), abs=1e-6)
        hot = heat > 0.9  # bright yellow in BGR, as inferno ends
        assert (shown[hot][:, 2] > 230).all() and (shown[hot][:, 1] > 180).all()
        heats.append(heat.max())
    assert max(heats) > 0, "no image shows anything"


@pytest.mark.parametrize("content", [b"no image at all", b"", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image_is_refused_kindly(browser, address, image, tmp_path, content):
    browser.open(address, 390)
    upload(browser, image, "called")
    (tmp_path / "letter.png").write_bytes(content)
    upload(browser, tmp_path / "letter.png", "cannot be used")
    reason = "truncated" if content.startswith(b"\x89PNG") else "not an image, or is broken"
    assert text(browser, "status") == f"letter.png cannot be used: it is {reason}."
    assert browser.evaluate("document.getElementById('shown').hidden")
    assert browser.messages + browser.evaluate(FAULTS) == []
    screenshot(browser, "refused-390")
    upload(browser, image, "called")


def test_too_large_a_file_is_refused_by_page_and_server(browser, address, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(20_000_001))
    browser.open(address, 1280)
    upload(browser, large, "cannot be used: it is larger than 20 MB")
    assert browser.messages == []
    answer, body = request(address, "POST", "/analyse", large.read_bytes())
    assert answer.status == 413 and json.loads(body) == {"refused": "the file is larger than 20 MB"}
    chunks = iter([bytes(1_000_000)] * 21)  # without saying how much
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("POST", "/analyse", chunks, encode_chunked=True)
    assert connection.getresponse().status == 413


def test_a_file_that_leaves_doubt_is_refused_with_the_reason(address):
    answer, body = request(address, "POST", "/analyse", b"GIF89a" + bytes(40))
    assert answer.status == 200
    assert json.loads(body)["refused"].startswith("is a GIF, which is not read: save it as PNG")


def test_a_small_file_with_a_huge_image_is_refused(address):
    _, bomb = cv2.imencode(".png", np.zeros((8200, 8200), np.uint8))
    answer, body = request(address, "POST", "/analyse", bomb.tobytes())
    assert answer.status == 200 and "pixels" in json.loads(body)["refused"]


def test_samples_are_test_images_that_a_key_chooses(browser, address, run):
    browser.open(address, 1280)
    label = "document.activeElement.dataset.name"
    for _ in range(3):
        browser.press("Tab")
        if name := browser.evaluate(label):
            break
    split = (run / "split.csv").read_text().splitlines()
    (line,) = [line for line in split if line.startswith(f"{name},")]
    assert line.endswith(",test")
    told = browser.evaluate("document.activeElement.innerText")
    assert ("benign" if name.startswith("SOB_B") else "malignant") in told
    browser.press("Enter")
    browser.wait(f"{DONE} && !document.getElementById('shown').hidden")
    assert name in text(browser, "caption")
    assert browser.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert browser.evaluate("document.querySelectorAll('[data-sample]').length") == 6
    assert browser.messages == []


def test_the_page_says_what_must_be_known(browser, address, run):
    browser.open(address, 1280)
    said = browser.evaluate("document.body.innerText")
    assert NOTICE in said
    trained = [
        line.split(",")[3]
        for line in (run / "split.csv").read_text().splitlines()
        if line.endswith(",train")
    ]
    for magnification in {*trained}:
        assert f"{magnification}× ({trained.count(magnification)} images)" in said
    assert "20 MB" in said and "no test patient was in training or validation" in said
    unlabelled = (
        "[...document.querySelectorAll('input')].filter((one) => !one.labels.length).length"
    )
    assert browser.evaluate(unlabelled) == 0
    loaded = "performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)"
    assert {*browser.evaluate(loaded)} == {address}


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "localhost.example", "[::1]", "", "127.0.0.1@example", "0.0.0.0"]
)
def test_other_names_of_this_machine_are_not_served(address, host):
    answer, _ = request(address, headers={"Host": host})
    assert (
        answer.status == 400 and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    )


@pytest.mark.parametrize(
    "path",
    [
        "/samples/99",
        "/samples/" + "9" * 5000,
        "/samples/-1",
        "/samples/%D9%A1",  # an Arabic digit
        "/samples/0%00",
        "/samples/0/..%2f..%2fsplit.csv",
        "/samples/../split.csv",
        "/samples/%2e%2e/%2e%2e/etc/passwd",
        "/config.json",
        "//",
    ],
)
def test_other_paths_are_not_served(address, path):
    answer, _ = request(address, path=path)
    assert answer.status == 404
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_another_site_gets_no_answer(address, image):
    for headers in ({"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"}):
        answer, _ = request(address, "POST", "/analyse", image.read_bytes(), headers)
        assert answer.status == 403


def test_the_page_says_that_it_is_busy(browser, address, image):
    browser.open(address, 390)
    half = b"POST /analyse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
    others = [send(urlsplit(address).port, half) for _ in range(MAX_UPLOADS)]
    upload(browser, image, "busy with other images: try again")
    assert browser.evaluate("document.getElementById('shown').hidden")
    for other in others:
        other.close()
    browser.evaluate("document.getElementById('file').click()")  # the same file once more
    upload(browser, image, "called")


def test_a_sample_whose_file_is_gone_is_told(browser, address, run):
    browser.open(address, 390)
    script = "document.querySelector('[data-sample]').dataset.sample = 'samples/99'"
    browser.evaluate(script)
    browser.evaluate("document.querySelector('[data-sample]').click()")
    browser.wait("document.getElementById('status').textContent.includes('cannot be loaded')")


def test_two_processes_started_at_once_do_not_share_a_port(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start(run, port), start(run, port)]
    while all(process.poll() is None for process in both):
        time.sleep(0.1)
    (refused,) = [process for process in both if process.poll() is not None]
    (serving,) = [process for process in both if process is not refused]
    assert refused.returncode == 2 and "choose another by --port" in refused.stderr.read()
    assert str(port) in serving.stdout.readline()
    with send(port, b"POST /analyse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"):
        time.sleep(0.2)
        serving.send_signal(signal.SIGTERM)
        _, errors = serving.communicate(timeout=10)
    assert serving.returncode == 0 and errors == "", "half a request is no reason to go on"


@pytest.mark.parametrize("missing", ["h11", "uvicorn"])
def test_a_missing_extra_is_told(monkeypatch, tmp_path, missing):
    from se_resnet.app.serve import serve

    monkeypatch.delitem(sys.modules, "se_resnet.app.connections", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f"needs {missing}, which is not installed"):
        serve(tmp_path, 0)


def test_a_taken_port_and_a_folder_without_a_run_are_mistakes(address, run, tmp_path):
    for workdir, port, words in [
        (run, urlsplit(address).port, "choose another by --port"),
        (tmp_path, 0, "must be the folder of a run"),
    ]:
        process = start(workdir, port)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2 and words in errors and "Traceback" not in errors
