"""A backend in a bucket of MinIO or any S3 server, through the `minio` SDK.

One PUT an object, conditional writes by `If-None-Match` and `If-Match`, exact ranges, checked
pages. Retrying is left to `retry`, signing and sending to `s3_client`, the meaning of failures
to `s3_errors`. Implements section "S3" of docs/design/consistency.md.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

from minio.datatypes import parse_list_objects
from minio.deleteobjects import DeleteObject

from chunkstore.backends.base import (
    Backend,
    Buffer,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    Presigned,
    PutMode,
    ReplaceIf,
    check_key,
)
from chunkstore.backends.location import S3Location
from chunkstore.backends.presigning import UNSIGNED, presigned
from chunkstore.backends.probe import race
from chunkstore.backends.retry import DEFAULT_DEADLINE
from chunkstore.backends.s3_client import Body, S3Client, connect
from chunkstore.backends.s3_errors import Translated, meaning
from chunkstore.backends.wire import Listing, is_range, may_be_longer
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    UnavailableError,
)

_PAGE: Final = 1000


class MinioBackend(Backend):
    """Objects below a prefix of one bucket. Makes no request before the first call."""

    def __init__(self, location: S3Location, *, patience: float = DEFAULT_DEADLINE) -> None:
        """Prepare connections to the server of `location`.

        Args:
            location: bucket, prefix and settings.
            patience: seconds of silence after which a request has failed, at most a minute.

        Raises:
            InvalidInputError: no credentials are to be found, or the CA file is none.
        """
        self._location = location
        self._client = connect(location.options, patience)
        self._bucket_seen = False

    @property
    def url(self) -> str:
        return str(self._location)

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        if byte_range is None:
            response = self._request("get", "GET", key)
            return Fetched(response.data, self._etag(response, "get", key))
        start, end = byte_range
        if not 0 <= start < end:
            raise InvalidInputError(f"not a range: {start}-{end}")
        response = self._request("get", "GET", key, headers={"Range": f"bytes={start}-{end - 1}"})
        data: bytes = response.data
        if not is_range(response.status, response.headers, len(data), byte_range):
            raise UnavailableError(
                f"get of {key} at {self.url}: asked for {end - start} bytes from {start}, got "
                f"{len(data)} with status {response.status}",
                operation="get",
                key=key,
                retryable=may_be_longer(response.status, response.headers, end),
            )
        return Fetched(data, self._etag(response, "get", key))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(mode, CreateOnly):
            headers["If-None-Match"] = "*"
        elif isinstance(mode, ReplaceIf):
            headers["If-Match"] = f'"{mode.version}"'
        try:
            response = self._request("put", "PUT", key, body=Body(data), headers=headers)
        except KeyAbsentError as error:
            if not isinstance(mode, ReplaceIf):
                raise
            raise ConditionFailedError(f"{key} is not there", operation="put", key=key) from error
        return self._etag(response, "put", key)

    def head(self, key: str) -> ObjectInfo:
        try:
            response = self._request("head", "HEAD", key)
        except KeyAbsentError:
            self._require_bucket(key)
            raise
        try:
            length = int(response.headers["Content-Length"])
            modified = parsedate_to_datetime(response.headers["Last-Modified"]).timestamp()
        except (KeyError, ValueError) as error:
            raise self._unusable("head", key) from error
        return ObjectInfo(key, length, self._etag(response, "head", key), modified)

    def _require_bucket(self, key: str) -> None:
        """Ask once for the bucket: a HEAD that finds no key looks like one that finds no bucket."""
        if not self._bucket_seen:
            with Translated("head", key, self.url):
                self._client.send("HEAD", self._location.bucket, None)
            self._bucket_seen = True

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return _Listing(self._client, self._location, prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        names = [DeleteObject(self._location.prefix + check_key(key)) for key in keys]
        with Translated("delete", keys[0] if len(keys) == 1 else None, self.url):
            errors = [
                error
                for error in self._client.remove_objects(self._location.bucket, names)
                if error.code != "NoSuchKey"
            ]
        if errors:
            meanings = [meaning(0, error.code or "") for error in errors]
            retryable = all(kind is UnavailableError for kind, _ in meanings)
            worst = next((n for n, m in enumerate(meanings) if m[0] is not UnavailableError), 0)
            error, (kind, hint) = errors[worst], meanings[worst]
            key = (error.name or "").removeprefix(self._location.prefix)
            raise kind(
                f"delete of {key} at {self.url}: {error.code}: {error.message}"
                f" ({len(errors)} keys in all)",
                operation="delete",
                key=key,
                retryable=retryable,
                hint=hint,
            )

    def probe(self) -> Capabilities:
        create_only, replace_if = race(self)
        with Translated("probe", None, self.url):
            query = {"list-type": "2", "max-keys": "1"}
            answer = self._client.send("GET", self._location.bucket, None, query=query)
        server = answer.headers.get("Server") or "S3 server"
        return Capabilities(server, create_only=create_only, replace_if=replace_if)

    def presigned_get(
        self, key: str, byte_range: tuple[int, int], seconds: int
    ) -> Presigned | None:
        start, end = byte_range
        return self._presigned("GET", key, {"range": f"bytes={start}-{end - 1}"}, seconds)

    def presigned_put(self, key: str, length: int, sha256: str, seconds: int) -> Presigned | None:
        headers = {
            "content-length": str(length),
            "if-none-match": "*",
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(sha256)).decode(),
        }
        return self._presigned("PUT", key, headers, seconds, payload=sha256)

    def _presigned(
        self,
        method: str,
        key: str,
        headers: dict[str, str],
        seconds: int,
        *,
        payload: str = UNSIGNED,
    ) -> Presigned | None:
        with Translated(f"presigned {method}", key, self.url):
            place = self._client.place(
                self._location.bucket, self._location.prefix + check_key(key)
            )
        if place is None:
            return None
        url, region, credentials = place
        now = datetime.now(UTC)
        signed = presigned(
            method,
            url,
            headers,
            credentials=credentials,
            region=region,
            now=now,
            seconds=seconds,
            payload=payload,
        )
        return Presigned(signed, headers, int(now.timestamp()) + seconds)

    def close(self) -> None:
        self._client.pool.clear()

    def _request(
        self,
        operation: str,
        method: str,
        key: str,
        *,
        body: Body | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        name = self._location.prefix + check_key(key)
        with Translated(operation, key, self.url):
            response = self._client.send(method, self._location.bucket, name, body, headers)
        self._bucket_seen = True
        return response

    def _etag(self, response: Any, operation: str, key: str) -> str:
        etag = str(response.headers.get("ETag", "")).strip('"')
        if not etag:
            raise self._unusable(operation, key)
        return etag

    def _unusable(self, operation: str, key: str) -> BackendError:
        what = f"{operation} of {key} at {self.url}: the answer lacks a header that S3 promises"
        return BackendError(what, operation=operation, key=key, hint="use another server")


class _Listing(Listing):
    """A listing by a bucket's pages, each one checked."""

    def __init__(self, client: S3Client, location: S3Location, prefix: str, after: str) -> None:
        super().__init__(prefix, after)
        self._client = client
        self._location = location
        self._token: str | None = None

    def _fetch(self) -> tuple[deque[ObjectInfo], str, bool]:
        root = self._location.prefix
        query = {"list-type": "2", "max-keys": str(_PAGE), "prefix": root + self._prefix}
        query |= {"encoding-type": "url", "delimiter": ""}
        if self._token:
            query["continuation-token"] = self._token
        elif self._last:
            query["start-after"] = root + self._last
        with Translated("list", self._prefix, str(self._location)):
            response = self._client.send("GET", self._location.bucket, None, query=query)
            found, truncated, following, _ = parse_list_objects(response)
        page: deque[ObjectInfo] = deque()
        last = self._last
        for item in found:
            name = item.object_name or ""
            key = name.removeprefix(root)
            if not name.startswith(root + self._prefix) or key <= last:
                self._bad(f"the server sent {name!r} after {root + last!r}")
            last = key
            modified = item.last_modified.timestamp() if item.last_modified else 0.0
            page.append(ObjectInfo(key, item.size or 0, (item.etag or "").strip('"'), modified))
        if truncated and (not following or following == self._token):
            self._bad("a page that goes on, without a way to the next")
        self._token = following
        return page, last, not truncated

    def _bad(self, what: str) -> NoReturn:
        raise UnavailableError(
            f"list of {self._prefix!r} at {self._location}: {what}",
            operation="list",
            key=self._prefix,
        )
