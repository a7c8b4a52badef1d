"""A backend behind a chunkstore server: its guarded objects, by docs/reference/protocol.md.

The same six methods as for a folder or a bucket, so all that is built on them works on a server
unchanged. The server checks whatever it is given; here whatever it answers is checked. Retrying is
left to `retry`; sending, bounds and the meaning of failures to `http_client`.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chunkstore.backends.base import (
    Access,
    Backend,
    Buffer,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    PutMode,
    ReplaceIf,
    check_key,
)
from chunkstore.backends.direct import Direct
from chunkstore.backends.http_client import Answer, Call, HttpClient
from chunkstore.backends.location import HttpLocation
from chunkstore.backends.retry import DEFAULT_DEADLINE
from chunkstore.backends.server_info import ServerInfo, server_info
from chunkstore.backends.wire import Buffers, Listing, is_range
from chunkstore.errors import (
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
)
from chunkstore.limits import MIB, NAME

LONGEST_OBJECT: Final = 1024 * MIB
"""Bytes of an object that is asked for whole; what may be longer is read by ranges."""

_PAGE: Final = 1000
_BATCH: Final = 1000
_DATASETS: Final = 8
_REFS: Final = "refs/"
_VERSION: Final = re.compile(r"[!#-~]{1,256}")
_YEARS: Final = 1e12  # seconds


class HttpBackend(Backend):
    """Objects of the store that a server serves. Makes no request before the first call."""

    def __init__(self, location: HttpLocation, *, patience: float = DEFAULT_DEADLINE) -> None:
        """Prepare connections to a server.

        Args:
            location: its address and settings.
            patience: seconds of silence after which a request has failed, at most a minute.

        Raises:
            InvalidInputError: the token or the CA file is none.
            ChunkstoreError: the file of the token cannot be used; as `credentials.read_token`.
        """
        self._location = location
        self._client = HttpClient(location, patience)
        self._direct = Direct(self._client)
        self._lock = threading.Lock()
        self._datasets: deque[str] = deque(maxlen=_DATASETS)
        self._asking = threading.Lock()
        self._server: ServerInfo | None = None

    @property
    def url(self) -> str:
        return str(self._location)

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        call = Call("get", key)
        path, headers = self._path(key), self._because()
        if byte_range is None:
            answer = self._client.send(call, "GET", path, longest=LONGEST_OBJECT, headers=headers)
            return Fetched(answer.body, self._version(call, answer))
        start, end = byte_range
        if not 0 <= start < end:
            raise InvalidInputError(f"not a range: {start}-{end}")
        headers["Range"] = f"bytes={start}-{end - 1}"
        answer = self._client.send(
            call, "GET", path, longest=end - start, headers=headers | self._direct.offer(key)
        )
        if answer.status == 307:
            found = self._direct.follow(call, answer, byte_range)
            if found is not None:
                return Fetched(found, self._version(call, answer))  # the server's, which it knows
            answer = self._client.send(call, "GET", path, longest=end - start, headers=headers)
        if not is_range(answer.status, answer.headers, len(answer.body), byte_range):
            raise self._client.unusable(
                call,
                f"asked for {end - start} bytes from {start}, got {len(answer.body)} with status "
                f"{answer.status}",
                retryable=not _ends_there(answer, start),
            )
        return Fetched(answer.body, self._version(call, answer))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        call, body = Call("put", key), Buffers(data)
        path, headers = self._path(key), self._because()
        if isinstance(mode, CreateOnly):
            headers["If-None-Match"] = "*"
            if Direct.suits(key):
                self._check_right(call)
                version = self._put_directly(call, body)
                if version is not None:
                    return version
        elif isinstance(mode, ReplaceIf):
            headers["If-Match"] = f'"{mode.version}"'
        headers["Content-Type"] = "application/octet-stream"
        try:
            answer = self._client.send(call, "PUT", path, headers=headers, body=body)
        except KeyAbsentError as error:
            if not isinstance(mode, ReplaceIf):
                raise
            raise ConditionFailedError(f"{key} is not there", operation="put", key=key) from error
        return self._version(call, answer)

    def head(self, key: str) -> ObjectInfo:
        call = Call("head", key)
        answer = self._client.send(call, "HEAD", self._path(key), headers=self._because())
        try:
            length = int(answer.headers["Content-Length"])
            modified = float(answer.headers["Chunkstore-Modified"])
            if not -_YEARS < modified < _YEARS:
                raise ValueError("another time")
        except (KeyError, ValueError):
            self._client.raise_unusable(call, "the answer lacks a length or a time")
        return ObjectInfo(key, length, self._version(call, answer), modified)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return _Listing(self._client, prefix, after, self._because())

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        for start in range(0, len(keys), _BATCH):
            batch = list(keys[start : start + _BATCH])
            call = Call("delete", batch[0] if len(keys) == 1 else None)
            self._post(call, "/v1/objects:delete", {"keys": batch})

    def probe(self) -> Capabilities:
        server = self.server()
        shown = ", ".join(server.datasets[:20])[:500] or "no datasets"
        reach = "all datasets" if server.everywhere else shown
        by = "the token gives" if self._client.has_token else "without a token there is"
        access = f"{by} {server.right} on {reach}"
        if not self._client.secure and not self._client.near:
            access += "; data and token go there unencrypted"
        return Capabilities(server.name, create_only=True, replace_if=True, access=access)

    def access(self) -> Access:
        server = self.server()
        deletes = server.everywhere and server.right == "admin"
        return Access(deletes=deletes, narrow=not server.everywhere, guarded=True)

    def server(self) -> ServerInfo:
        """Return what the server says of itself; asks once.

        Raises:
            BackendError: it does not answer, or speaks another protocol.
        """
        with self._asking:
            if self._server is None:
                call = Call("ask", None)
                answer = self._client.send(call, "GET", "/v1/server")
                self._server = server_info(self._client, call, answer)
            return self._server

    def close(self) -> None:
        self._client.close()

    def _path(self, key: str) -> str:
        """Return the path of a key; a dataset whose ref is asked for is remembered."""
        check_key(key)
        name = key.removeprefix(_REFS)
        if name != key and NAME.fullmatch(name.replace("~", "/")):
            with self._lock:
                if name in self._datasets:
                    self._datasets.remove(name)
                self._datasets.appendleft(name)
        return f"/v1/objects/{key}"

    def _check_right(self, call: Call) -> None:
        """Refuse to send a pack in vain, before any of it is sent.

        Raises:
            PermissionDeniedError: the caller may not write, or to no dataset that it asked for.
        """
        server = self.server()
        with self._lock:
            names = [name.replace("~", "/") for name in self._datasets]
        if server.right == "read":
            raise self._client.denied(call, "reading is all that is allowed")
        if names and not any(map(server.reaches, names)):
            raise self._client.denied(call, f"the token does not reach the dataset {names[0]!r}")

    def _put_directly(self, call: Call, body: Buffers) -> str | None:
        """Store a new pack past the server and return its version; None where that did not work.

        Raises:
            ConditionFailedError: it is there already, and the caller may look at it.
        """
        server = self.server()
        if not server.direct:
            return None
        try:
            return self._direct.put(call, body)
        except ConditionFailedError:
            if server.everywhere:
                raise
            return None  # a narrow caller sees it not yet: the server says whether it is the same

    def _because(self) -> dict[str, str]:
        """Return the header that says by virtue of which datasets a narrow caller asks."""
        with self._lock:
            return {"Chunkstore-Dataset": ", ".join(self._datasets)} if self._datasets else {}

    def _post(self, call: Call, path: str, document: Mapping[str, Any]) -> Answer:
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        return self._client.send(call, "POST", path, headers=headers, body=body)

    def _version(self, call: Call, answer: Answer) -> str:
        return _checked_version(self._client, call, answer.headers.get("ETag", ""), quoted=True)


class _Listing(Listing):
    """A listing by a server's pages, each one checked."""

    def __init__(
        self, client: HttpClient, prefix: str, after: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(prefix, after)
        self._client = client
        self._headers = headers
        self._call = Call("list", prefix)

    def _fetch(self) -> tuple[deque[ObjectInfo], str, bool]:
        asked = {"prefix": self._prefix, "after": self._last, "limit": str(_PAGE)}
        query = urllib.parse.urlencode({name: text for name, text in asked.items() if text})
        answer = self._client.send(self._call, "GET", f"/v1/objects?{query}", headers=self._headers)
        document = self._client.json(self._call, answer)
        found, following = document.get("objects"), document.get("next")
        if not isinstance(found, list) or len(found) > _PAGE:
            self._client.raise_unusable(self._call, "a page without a list of objects")
        page: deque[ObjectInfo] = deque()
        last = self._last
        for item in found:
            info = self._info(item, last)
            last = info.key
            page.append(info)
        if following is not None and not (isinstance(following, str) and following >= last):
            self._client.raise_unusable(self._call, "a page that does not say where the next is")
        if following is not None and following <= self._last:
            self._client.raise_unusable(self._call, "a page that leads to itself")
        return page, following or last, following is None

    def _info(self, item: Any, last: str) -> ObjectInfo:
        """Return what one item of a page says, if it can be so."""
        try:
            key, length, modified = item["key"], item["length"], item["modified"]
            if not (key.startswith(self._prefix) and key > last and type(length) is int):
                raise ValueError("another key or length")
            if type(modified) not in (int, float) or not -_YEARS < modified < _YEARS:
                raise ValueError("another time")
            if not 0 <= length < 1 << 63:
                raise ValueError("another length")
            check_key(key)
            version = _checked_version(self._client, self._call, item["version"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            after = f"an item after {last!r} that can be none"
            raise self._client.unusable(self._call, after, retryable=False) from error
        return ObjectInfo(key, length, version, float(modified))


def _ends_there(answer: Answer, start: int) -> bool:
    """Whether a server says that the object has no more than it sent, or knows no ranges."""
    stated = f"bytes {start}-{start + len(answer.body) - 1}/"
    return answer.status != 206 or answer.headers.get("Content-Range", "").startswith(stated)


def _checked_version(client: HttpClient, call: Call, text: str, *, quoted: bool = False) -> str:
    """Return the version of an object, which can be sent back in a header.

    Raises:
        UnavailableError: it is none.
    """
    if quoted:
        text = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else ""
    if not _VERSION.fullmatch(text):
        client.raise_unusable(call, "the answer has no version that can be one")
    return text
