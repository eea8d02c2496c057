"""A Hugging Face Hub of one machine: as much of its HTTP interface as pushing and pulling needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "1" * 40


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        self._send_file(with_content=True)

    def do_HEAD(self) -> None:
        self._send_file(with_content=False)

    def do_PUT(self) -> None:
        self.files[self.path.removeprefix("/upload/")] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        body, host = self._body(), f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self._answer({"url": f"{host}/{asked['organization']}/{asked['name']}"})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith("safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in asked
            ]
            self._answer({"files": modes})
        elif self.path.endswith("/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{host}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.files.pop(value["oid"])
            url = f"{host}/{'/'.join(self.path.split('/')[3:5])}/commit/{COMMIT}"
            self._answer({"commitUrl": url, "commitOid": COMMIT, "hookOutput": ""})
        else:
            self._answer({})

    def _send_file(self, with_content: bool) -> None:
        match = re.fullmatch(r"/[^/]+/[^/]+/resolve/[^/]+/(.+)", self.path.split("?")[0])
        if match is None or match[1] not in self.files:
            missing = {"X-Error-Code": "EntryNotFound"} if match else {}
            self._respond(404, b"{}", missing, with_content)
            return
        content = self.files[match[1]]
        digest = hashlib.sha256(content).hexdigest()
        self._respond(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'}, with_content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: object) -> None:
        self._respond(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, True)

    def _respond(
        self, status: int, content: bytes, headers: dict[str, str], with_content: bool
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(monkeypatch, cache: Path) -> Iterator[dict[str, bytes]]:
    """Runs it while the block does, with ``huggingface_hub`` pointed at it; gives its files."""
    from huggingface_hub import constants

    handler = type("Handler", (_Handler,), {"files": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler.files
        server.shutdown()
