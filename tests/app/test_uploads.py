"""Who may send an image to the page, and how many at once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.marks import NEEDS_APP
from tests.helpers.serving import request, send, serving

pytestmark = NEEDS_APP


def application(analyse):
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    from se_resnet.app.uploads import upload_route

    def page(_):
        return Response(b"page")

    return Starlette(routes=[Route("/", page), upload_route("/analyse", analyse)])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # curl
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://HOST"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),  # what the user typed
        ({"Origin": "http://HOST"}, 200),  # a browser without Sec-Fetch-Site
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),  # through a tunnel
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://HOST"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://HOST"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://HOST.evil.example"}, 403),
        ({"Origin": "http://evil.example@HOST"}, 403),
        ({"Origin": "http://[::1]:80"}, 403),
    ],
)
def test_only_the_page_itself_and_programs_are_answered(headers, status):
    seen = []
    with serving(application(lambda content: seen.append(content) or {})) as port:
        own = f"127.0.0.1:{port}"
        headers = {name: value.replace("HOST", own) for name, value in headers.items()}
        answer, body = request(port, "POST", "/analyse", b"image", headers)
    assert answer.status == status
    assert seen == ([b"image"] if status == 200 else [])
    if status == 403:
        assert json.loads(body) == {"refused": "was sent by another site"}


def test_one_upload_at_a_time_few_wait_the_others_come_again():
    from se_resnet.app.uploads import MAX_UPLOADS

    proceed, working, most = threading.Event(), [], []

    def analyse(content):
        working.append(content)
        most.append(len(working))
        assert proceed.wait(20)
        working.remove(content)
        return {"size": len(content)}

    with serving(application(analyse)) as port, ThreadPoolExecutor(24) as pool:
        content = bytes(500_000)
        asked = [pool.submit(request, port, "POST", "/analyse", content) for _ in range(24)]
        while sum(one.done() for one in asked) < 24 - MAX_UPLOADS:
            time.sleep(0.01)
        assert request(port)[1] == b"page", "the page waits for nobody"
        proceed.set()
        answers = [one.result() for one in asked]
    statuses = sorted(answer.status for answer, _ in answers)
    assert statuses == [200] * MAX_UPLOADS + [503] * (24 - MAX_UPLOADS)
    for answer, body in answers:
        if answer.status == 200:
            assert json.loads(body) == {"size": 500_000}
        else:
            assert int(answer.headers["Retry-After"]) > 0
            assert json.loads(body) == {"refused": "has to wait for other images"}
    assert max(most) == 1


def test_who_has_left_is_not_worked_for(capfd):
    proceed, seen = threading.Event(), []

    def analyse(content):
        seen.append(content)
        assert proceed.wait(20)
        return {}

    head = b"POST /analyse HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with serving(application(analyse)) as port:
        first = send(port, head % 5 + b"first")
        while not seen:
            time.sleep(0.01)
        gone = [send(port, head % 4 + b"gone"), send(port, head % 900 + b"half")]
        time.sleep(0.1)
        for connection in (first, *gone):
            connection.close()
        time.sleep(0.1)
        proceed.set()
        assert request(port, "POST", "/analyse", b"next")[0].status == 200
    assert seen == [b"first", b"next"]
    assert capfd.readouterr().err == ""


def test_too_large_a_body_is_refused_with_and_without_its_length(monkeypatch):
    from se_resnet.app import uploads

    monkeypatch.setattr(uploads, "LARGEST_UPLOAD", 1_000_000)
    with serving(application(lambda content: {"size": len(content)})) as port:
        answer, body = request(port, "POST", "/analyse", bytes(1_000_001))
        assert answer.status == 413
        assert json.loads(body) == {"refused": "the file is larger than 1 MB"}
        answer, _ = request(port, "POST", "/analyse", iter([bytes(100_000)] * 11))
        assert answer.status == 413
        answer, body = request(port, "POST", "/analyse", iter([bytes(100_000)] * 10))
        assert json.loads(body) == {"size": 1_000_000}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/analyse", 405), ("OPTIONS", "/analyse", 405), ("GET", "/analyse", 405)],
)
def test_other_methods_are_refused_with_the_headers(method, path, status):
    with serving(application(lambda content: {})) as port:
        answer, _ = request(port, method, path)
    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_reason_is_told_and_a_bug_is_a_failure(capfd):
    def analyse(content):
        raise (ValueError("is no image") if content == b"text" else RuntimeError("a bug"))

    with serving(application(analyse)) as port:
        answer, body = request(port, "POST", "/analyse", b"text")
        assert answer.status == 200 and json.loads(body) == {"refused": "is no image"}
        answer, _ = request(port, "POST", "/analyse", b"bug")
        assert answer.status == 500 and "Content-Security-Policy" in answer.headers
        assert request(port)[0].status == 200
    assert "a bug" in capfd.readouterr().err
