"""A stand-in for the model hub on this machine: it keeps what is sent to it, and hands it out again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What was sent: files by model and path, and the settings of each model."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.refuses = False


def chunks(file: Any) -> bytes:
    """A body of unknown length."""
    parts = []
    while size := int(file.readline(), 16):
        parts.append(file.read(size))
        file.readline()
    file.readline()
    return b"".join(parts)


@contextmanager
def hub() -> Iterator[tuple[Hub, str]]:
    """A running hub and its address."""
    store = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

        def answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size) if size else chunks(self.rfile)
            store.asked.append(f"POST {self.path}")
            if store.refuses:
                self.answer(403, {"error": "no write access"})
            elif self.path == "/api/repos/create":
                store.created.append(json.loads(body))
                self.answer(200, {"url": f"{address}/{json.loads(body).get('organization', 'me')}/{json.loads(body)['name']}"})
            elif "/preupload/" in self.path:
                listed = json.loads(body)["files"]
                self.answer(200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in listed]})
            elif "/commit/" in self.path:
                model = "/".join(self.path.split("/")[3:5])
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        store.files.setdefault(model, {})[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self.answer(200, {"success": True, "commitOid": SHA, "commitUrl": f"{address}/{model}/commit/{SHA}"})
            else:
                self.answer(200, {"errors": [], "warnings": []})

        def do_GET(self) -> None:
            store.asked.append(f"{self.command} {self.path}")
            words = self.path.partition("?")[0].strip("/").split("/")
            if words[:2] == ["api", "models"]:
                model = "/".join(words[2:4])
                if model in store.files and "tree" in words:
                    listed = store.files[model].items()
                    self.answer(200, [{"type": "file", "path": n, "size": len(c), "oid": f"{hash(c):x}"} for n, c in listed])
                elif model in store.files:
                    self.answer(200, {"id": model, "sha": SHA, "siblings": [{"rfilename": name} for name in store.files[model]]})
                else:
                    self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif "/".join(words[:2]) not in store.files:
                self.answer(404, {"error": "nothing here"})
            else:
                content = store.files["/".join(words[:2])]["/".join(words[4:])]
                self.answer(200, content, {"ETag": f'"{hash(content)}"', "X-Repo-Commit": SHA})

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store, address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
