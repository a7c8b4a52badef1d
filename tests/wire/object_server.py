"""A small faithful server of objects: the wire of the chunk protocol over any backend.

It takes every key and checks nothing of what it is given: no substitute for chunkstore's own
server, which guards its store, but good to try what a client makes of the wire.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chunkstore.backends.base import Backend, CreateOnly, Overwrite, PutMode, ReplaceIf
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    UnavailableError,
)

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class ObjectServer(ThreadingHTTPServer):
    """A running server.

    Attributes:
        backend: what it serves.
        token: what it asks for, if anything.
        info: what it says of itself.
        elsewhere: an address to which direct transfers are sent; None does not offer any.
        seen: method, path and headers of every request.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, backend: Backend) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend = backend
        self.token: str | None = None
        self.info: dict[str, Any] = {
            "protocol": 1,
            "server": "objects 1",
            "right": "admin",
            "everywhere": True,
            "datasets": ["*"],
            "direct": False,
        }
        self.elsewhere: str | None = None
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients of tests break off."""


@contextlib.contextmanager
def object_server(backend: Backend) -> Iterator[ObjectServer]:
    """Run a server of a backend's objects."""
    server = ObjectServer(backend)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ObjectServer

    def _serve(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        path, _, query = self.path.partition("?")
        elsewhere = path.startswith("/elsewhere/")
        token = self.server.token
        if token and not elsewhere and self.headers.get("Authorization") != f"Bearer {token}":
            self._problem(401, "unauthorized")
            return
        try:
            if path == "/v1/objects":
                self._list(dict(urllib.parse.parse_qsl(query)))
            elif path == "/v1/server":
                self._json(self.server.info)
            elif path == "/v1/objects:delete":
                self.server.backend.delete(json.loads(self._body)["keys"])
                self._answer(204)
            elif path == "/v1/uploads":
                self._upload(json.loads(self._body))
            else:
                key = path.removeprefix("/elsewhere/").removeprefix("/v1/objects/")
                getattr(self, f"_{self.command.lower()}")(key, elsewhere)
        except KeyAbsentError:
            self._problem(404, "key_absent")
        except ConditionFailedError:
            self._problem(412, "condition_failed")
        except InvalidInputError:
            self._problem(400, "invalid_input")
        except UnavailableError as error:
            self._problem(503 if error.retryable else 416, "unavailable")
        except BackendError:
            self._problem(409, "backend")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815  # names of http.server

    def _get(self, key: str, elsewhere: bool) -> None:
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        info = self.server.backend.head(key)
        tag = {"ETag": f'"{info.version}"'}
        if not found:
            fetched = self.server.backend.get(key)
            self._answer(200, fetched.data, {"ETag": f'"{fetched.version}"'})
            return
        if self.headers.get("Chunkstore-Direct") and self.server.elsewhere and not elsewhere:
            self._answer(307, b"", tag | {"Location": f"{self.server.elsewhere}/elsewhere/{key}"})
            return
        start, end = int(found[1]), min(int(found[2]) + 1, info.length)
        if start >= info.length:
            raise UnavailableError("no such range", operation="get", key=key)
        fetched = self.server.backend.get(key, (start, end))
        tag = {"ETag": f'"{fetched.version}"'}
        stated = {"Content-Range": f"bytes {start}-{end - 1}/*"}
        self._answer(206, fetched.data, tag | stated)

    def _head(self, key: str, elsewhere: bool) -> None:
        del elsewhere
        info = self.server.backend.head(key)
        headers = {"ETag": f'"{info.version}"', "Content-Length": str(info.length)}
        headers["Chunkstore-Modified"] = f"{info.modified:.6f}"
        self._answer(200, None, headers)

    def _put(self, key: str, elsewhere: bool) -> None:
        if elsewhere and self.headers.get("X-Sha256") != hashlib.sha256(self._body).hexdigest():
            self._problem(400, "digest_mismatch")
            return
        mode: PutMode = Overwrite()
        if self.headers.get("If-None-Match") == "*":
            mode = CreateOnly()
        elif self.headers.get("If-Match"):
            mode = ReplaceIf(self.headers["If-Match"].strip('"'))
        version = self.server.backend.put(key, [self._body], mode)
        self._answer(200, b"", {"ETag": f'"{version}"'})

    def _upload(self, asked: dict[str, Any]) -> None:
        url = f"{self.server.elsewhere}/elsewhere/{asked['key']}"
        headers = {"If-None-Match": "*", "X-Sha256": asked["sha256"]}
        self._json({"url": url, "headers": headers, "expires": 900})

    def _list(self, asked: dict[str, str]) -> None:
        after, limit = asked.get("after", ""), int(asked["limit"])
        objects = []
        following = None
        for info in self.server.backend.list(asked.get("prefix", ""), after=after):
            if len(objects) == limit:
                following = objects[-1]["key"]
                break
            item = {"key": info.key, "length": info.length, "version": info.version}
            objects.append(item | {"modified": info.modified})
        self._json({"objects": objects, "next": following})

    def _json(self, document: dict[str, Any]) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _problem(self, status: int, code: str) -> None:
        document = {"status": status, "code": code, "detail": "on purpose", "hint": None}
        headers = {"Content-Type": "application/problem+json"}
        self._answer(status, json.dumps(document).encode(), headers)

    def _answer(
        self, status: int, body: bytes | None = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204 and body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
