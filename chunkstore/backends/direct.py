"""Packs straight from and to the storage behind a server, by URLs that the server has signed.

A shortcut, never needed: whatever fails here is asked of the server itself at once, and after
three failures in a row for good. The token does not go along, the URL is never printed, and what
comes is verified like everything else by whoever reads it. Neighbours: `http`, `http_client`.
Implements "Direct transfers" of docs/reference/protocol.md.
"""

from __future__ import annotations

import json
import logging
from typing import Final

from chunkstore.backends.http_client import WILLING, Answer, Call, HttpClient
from chunkstore.backends.wire import Buffers, is_range
from chunkstore.errors import BackendError, ConditionFailedError

log = logging.getLogger(__name__)

_PACKS: Final = "packs/"
_ENOUGH: Final = 3
_LONGEST_URL: Final = 8192
_MOST_HEADERS: Final = 20


class Direct:
    """Direct transfers of one server, as long as they work. Thread-safe."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._failures = 0  # in a row; a count that threads race for may be one off

    @staticmethod
    def suits(key: str) -> bool:
        """Whether objects of that key are worth the way."""
        return key.startswith(_PACKS)

    def offer(self, key: str) -> dict[str, str]:
        """Return the header by which a request for a range of `key` takes a redirect."""
        willing = self.suits(key) and self._failures < _ENOUGH
        return {WILLING: "1"} if willing else {}

    def follow(self, call: Call, answer: Answer, byte_range: tuple[int, int]) -> bytes | None:
        """Return the range to which a redirect leads; None where that did not work."""
        start, end = byte_range
        headers = {"Range": f"bytes={start}-{end - 1}"}
        url = answer.headers.get("Location", "")
        try:
            self._check(call, url)
            found = self._client.send_elsewhere(
                call, "GET", url, headers=headers, longest=end - start
            )
            if not is_range(found.status, found.headers, len(found.body), byte_range):
                raise self._client.unusable(call, f"a direct transfer ended with {found.status}")
        except BackendError as error:
            self._failed(error)
            return None
        self._failures = 0
        return found.body

    def put(self, call: Call, body: Buffers) -> str | None:
        """Store a new object and return its version; None where that did not work.

        Raises:
            ConditionFailedError: it is there already.
        """
        if self._failures >= _ENOUGH:
            return None
        try:
            url, headers = self._permission(call, body)
            found = self._client.send_elsewhere(call, "PUT", url, headers=headers, body=body)
            if found.status == 412:
                raise ConditionFailedError(
                    f"{call.key} is already there", operation="put", key=call.key
                )
            version = found.headers.get("ETag", "").strip('"')
            if found.status not in (200, 201) or not version:
                raise self._client.unusable(call, f"a direct transfer ended with {found.status}")
        except ConditionFailedError:
            raise
        except BackendError as error:
            self._failed(error)
            return None
        self._failures = 0
        return version

    def _permission(self, call: Call, body: Buffers) -> tuple[str, dict[str, str]]:
        """Return where to put a body, and with which headers."""
        asked = {"key": call.key, "length": len(body), "sha256": body.sha256()}
        answer = self._client.send(
            call,
            "POST",
            "/v1/uploads",
            headers={"Content-Type": "application/json"},
            body=json.dumps(asked).encode(),
        )
        found = self._client.json(call, answer)
        url, headers = found.get("url"), found.get("headers")
        if not isinstance(url, str) or not isinstance(headers, dict):
            self._client.raise_unusable(call, "no URL to send a pack to")
        if len(headers) > _MOST_HEADERS or not all(isinstance(v, str) for v in headers.values()):
            self._client.raise_unusable(call, "headers that are none")
        self._check(call, url)
        return url, headers

    def _check(self, call: Call, url: str) -> None:
        """Refuse a URL that leads from https to http, or is none."""
        schemes = ("https://",) if self._client.secure else ("http://", "https://")
        if not url.startswith(schemes) or len(url) > _LONGEST_URL or not url.isascii():
            self._client.raise_unusable(call, "a direct transfer to where nothing is encrypted")

    def _failed(self, error: BackendError) -> None:
        self._failures += 1
        further = "" if self._failures < _ENOUGH else "; from now on all goes through the server"
        log.info("%s%s", error.message, further)
