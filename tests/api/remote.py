"""A store behind a server, seen through the chunk protocol by the simplest client there can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import httpx

from chunkstore import Store
from chunkstore.backends.base import (
    Backend,
    Buffer,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    PutMode,
    ReplaceIf,
)
from chunkstore.errors import BackendError, ConditionFailedError, KeyAbsentError
from chunkstore.objects import Objects


class Remote(Backend):
    """The objects that a server shows to whoever has the headers of `client`."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.sent: list[str] = []

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        headers = {}
        if byte_range:
            headers["Range"] = f"bytes={byte_range[0]}-{byte_range[1] - 1}"
        answer = self._send("get", key, headers=headers)
        if byte_range and len(answer.content) != byte_range[1] - byte_range[0]:
            raise BackendError("short", operation="get", key=key)
        return Fetched(answer.content, answer.headers["etag"].strip('"'))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        headers = {}
        if isinstance(mode, CreateOnly):
            headers["If-None-Match"] = "*"
        elif isinstance(mode, ReplaceIf):
            headers["If-Match"] = f'"{mode.version}"'
        self.sent.append(key)
        answer = self._send("put", key, content=b"".join(data), headers=headers)
        return str(answer.headers["etag"].strip('"'))

    def head(self, key: str) -> ObjectInfo:
        headers = self._send("head", key).headers
        return ObjectInfo(
            key,
            int(headers["content-length"]),
            headers["etag"].strip('"'),
            float(headers["chunkstore-modified"]),
        )

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        following: str | None = after
        while following is not None:
            asked = {"prefix": prefix, "after": following, "limit": 5}
            page = self.client.get("/v1/objects", params=asked).raise_for_status().json()
            for found in page["objects"]:
                yield ObjectInfo(**found)
            following = page["next"]

    def delete(self, keys: Sequence[str]) -> None:
        self._check(self.client.post("/v1/objects:delete", json={"keys": list(keys)}), "", "delete")

    def probe(self) -> Capabilities:
        raise NotImplementedError

    def _send(self, method: str, key: str, **more: object) -> httpx.Response:
        answer = self.client.request(method.upper(), f"/v1/objects/{key}", **more)  # type: ignore[arg-type]  # as given
        return self._check(answer, key, method)

    def _check(self, answer: httpx.Response, key: str, method: str) -> httpx.Response:
        if answer.status_code == 404:
            raise KeyAbsentError(f"no {key}", operation=method, key=key)
        if answer.status_code == 412:
            raise ConditionFailedError(f"{key} is another", operation=method, key=key)
        if answer.is_error:
            raise BackendError(answer.text, operation=method, key=key)
        return answer


def remote_store(client: httpx.Client) -> Store:
    """Open the store that a server shows to `client`, without a cache."""
    backend = Remote(client)
    return Store(backend, Objects(backend).read_config(), None)
