"""A backend in a bucket of MinIO or any S3 server, through the `minio` SDK.

One PUT an object, conditional writes by `If-None-Match` and `If-Match`, exact ranges, checked
pages. Retrying is left to `retry`. Implements section "S3" of docs/design/consistency.md.

The SDK offers no conditional PUT and only whole `bytes` as a body, so requests go through the
method that all its own calls use; it signs and sends, and turns answers into S3Error.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

import certifi
import urllib3
from minio import Minio
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    Provider,
    StaticProvider,
)
from minio.datatypes import parse_list_objects
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from chunkstore.backends.base import (
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
from chunkstore.backends.location import S3Location, S3Options
from chunkstore.backends.probe import race
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)

_CONNECTIONS: Final = 32
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_PAGE: Final = 1000

_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_CONDITION_FAILED: Final = frozenset(
    {"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"}
)
_FULL: Final = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded"})
_DENIED_HINT: Final = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, what that key may do, and this "
    "machine's clock"
)
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_BUSY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class MinioBackend(Backend):
    """Objects below a prefix of one bucket. Makes no request before the first call."""

    def __init__(self, location: S3Location) -> None:
        """Prepare connections to the server of `location`.

        Raises:
            InvalidInputError: no credentials are to be found, or the CA file is none.
        """
        self._location = location
        self._client = _client(location.options)

    @property
    def url(self) -> str:
        return str(self._location)

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        headers = {}
        if byte_range is not None:
            start, end = byte_range
            if not 0 <= start < end:
                raise InvalidInputError(f"not a range: {start}-{end}")
            headers["Range"] = f"bytes={start}-{end - 1}"
        response = self._request("get", "GET", key, headers=headers)
        data: bytes = response.data
        if byte_range is not None and not _is_range(response, *byte_range):
            raise UnavailableError(
                f"get of {key} at {self.url}: asked for {end - start} bytes from {start}, got "
                f"{len(data)} with status {response.status}",
                operation="get",
                key=key,
                retryable=response.status == 206,
            )
        return Fetched(data, _etag(response.headers))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(mode, CreateOnly):
            headers["If-None-Match"] = "*"
        elif isinstance(mode, ReplaceIf):
            headers["If-Match"] = f'"{mode.version}"'
        try:
            response = self._request("put", "PUT", key, body=_Body(data), headers=headers)
        except KeyAbsentError as error:
            raise ConditionFailedError(f"{key} is not there", operation="put", key=key) from error
        return _etag(response.headers)

    def head(self, key: str) -> ObjectInfo:
        headers = self._request("head", "HEAD", key).headers
        modified = datetime.strptime(headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S %Z")
        return ObjectInfo(
            key,
            int(headers["Content-Length"]),
            _etag(headers),
            (modified - datetime(1970, 1, 1)).total_seconds(),
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        root = self._location.prefix
        token, last = None, ""
        while True:
            query = {"list-type": "2", "max-keys": str(_PAGE), "prefix": root + prefix}
            query |= {"encoding-type": "url", "delimiter": ""}
            if token:
                query["continuation-token"] = token
            with _Translated("list", prefix, self.url):
                response = self._client.send("GET", self._location.bucket, None, query=query)
                found, truncated, following, _ = parse_list_objects(response)
            for item in found:
                key = (item.object_name or "")[len(root) :]
                if not key.startswith(prefix) or key <= last:
                    self._bad_listing(prefix, f"{key!r} after {last!r}")
                last = key
                modified = item.last_modified.timestamp() if item.last_modified else 0.0
                yield ObjectInfo(key, item.size or 0, (item.etag or "").strip('"'), modified)
            if not truncated:
                return
            if not following or following == token:
                self._bad_listing(prefix, "a page that goes on, without a way to the next")
            token = following

    def _bad_listing(self, prefix: str, what: str) -> NoReturn:
        raise UnavailableError(
            f"list of {prefix!r} at {self.url}: {what}", operation="list", key=prefix
        )

    def delete(self, keys: Sequence[str]) -> None:
        names = [DeleteObject(self._location.prefix + check_key(key)) for key in keys]
        with _Translated("delete", f"{len(keys)} keys", self.url):
            errors = [
                error
                for error in self._client.remove_objects(self._location.bucket, names)
                if error.code != "NoSuchKey"
            ]
        if errors:
            raise UnavailableError(
                f"delete of {errors[0].name} at {self.url}: {errors[0].code}: {errors[0].message}"
                f" ({len(errors)} in all)",
                operation="delete",
                key=errors[0].name,
                retryable=errors[0].code in ("SlowDown", "InternalError", "ServiceUnavailable"),
            )

    def probe(self) -> Capabilities:
        create_only, replace_if = race(self)
        with _Translated("probe", "", self.url):
            query = {"list-type": "2", "max-keys": "1"}
            answer = self._client.send("GET", self._location.bucket, None, query=query)
        server = answer.headers.get("Server") or "S3 server"
        return Capabilities(server, create_only=create_only, replace_if=replace_if)

    def close(self) -> None:
        self._client.pool.clear()

    def _request(
        self,
        operation: str,
        method: str,
        key: str,
        *,
        body: _Body | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        name = self._location.prefix + check_key(key)
        with _Translated(operation, key, self.url):
            return self._client.send(method, self._location.bucket, name, body, headers)


class _Body:
    """Buffers that are sent one after the other without being joined."""

    def __init__(self, data: Sequence[Buffer]) -> None:
        self._buffers = [memoryview(buffer).cast("B") for buffer in data]

    def __iter__(self) -> Iterator[memoryview]:
        return (buffer for buffer in self._buffers if len(buffer))

    def __len__(self) -> int:
        return sum(len(buffer) for buffer in self._buffers)

    def digest(self, name: str) -> Any:
        """Return the hash object `name` (of hashlib) of all bytes."""
        hasher = hashlib.new(name, usedforsecurity=False)
        for buffer in self._buffers:
            hasher.update(buffer)
        return hasher


class _Client(Minio):
    """The SDK's client, with requests that take buffers as their body."""

    pool: urllib3.PoolManager

    def send(
        self,
        method: str,
        bucket: str,
        name: str | None,
        body: _Body | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        """Send one signed request and return the whole answer.

        Raises:
            MinioException, urllib3.exceptions.HTTPError: whatever went wrong.
        """
        return self._execute(
            method,
            bucket,
            name,
            body=body,  # type: ignore[arg-type]  # bytes, says the SDK; it only passes it on
            headers=dict(headers or {}),
            query_params=query,  # type: ignore[arg-type]  # a dict of other value types too
            no_body_trace=True,
        )

    def _build_headers(
        self, host: str, headers: Any = None, body: Any = None, creds: Any = None
    ) -> Any:
        """Sign the payload's SHA-256 over http; over https send its MD5, as the SDK does.

        Either way the server refuses bytes that changed on their way.
        """
        if not isinstance(body, _Body):
            return super()._build_headers(host, headers, body, creds)
        built, date = super()._build_headers(host, headers, None, creds)
        built["Content-Length"] = str(len(body))
        if creds and not self._base_url.is_https:
            built["x-amz-content-sha256"] = body.digest("sha256").hexdigest()
        else:
            built["Content-MD5"] = base64.b64encode(body.digest("md5").digest()).decode()
        return built, date


def _client(options: S3Options) -> _Client:
    endpoint = options.endpoint or "https://s3.amazonaws.com"
    scheme, _, host = endpoint.partition("://")
    try:
        pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            retries=False,
            ssl_context=ssl.create_default_context(cafile=options.ca_file or certifi.where()),
        )
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"cannot use the CA file {options.ca_file!r}: {error}", hint="give a PEM file"
        ) from error
    client = _Client(
        host,
        secure=scheme == "https",
        region=options.region,
        http_client=pool,
        credentials=None if options.anonymous else _provider(options),
    )
    client.pool = pool
    if options.style == "virtual":
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # the SDK's gap
    elif options.style == "path":
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # the SDK's gap
    return client


def _provider(options: S3Options) -> Provider:
    given = options.credentials
    if given is not None:
        return StaticProvider(given.access_key, given.secret_key, given.session_token)
    chain = ChainedProvider([EnvAWSProvider(), EnvMinioProvider(), AWSConfigProvider()])
    try:
        chain.retrieve()
    except ValueError as error:
        raise InvalidInputError(
            "no credentials for S3 were found",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or make a profile in "
            "~/.aws/credentials",
        ) from error
    return chain


def _is_range(response: Any, start: int, end: int) -> bool:
    """Whether an answer is the range that was asked for; some servers send it with status 200."""
    stated = response.headers.get("Content-Range")
    if stated is None:
        return response.status == 206 and len(response.data) == end - start
    right = str(stated).startswith(f"bytes {start}-{end - 1}/")
    return right and len(response.data) == end - start


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag", "").strip('"')


class _Translated:
    """Turns what the SDK and urllib3 raise into BackendErrors, once and for all calls."""

    def __init__(self, operation: str, key: str, url: str) -> None:
        self._operation = operation
        self._key = key
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, S3Error):
            self._raise(error, error.response.status, error.code or "", error.message or "")
        elif isinstance(error, InvalidResponseError):  # XML of another media type, or none at all
            body = getattr(error, "_body", None) or ""
            code = _CODE.search(body)
            self._raise(error, int(getattr(error, "_code", 0)), code[1] if code else "", body[:200])
        elif isinstance(error, ServerError):
            self._raise(error, error.status_code, "", str(error))
        elif isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError):
            raise BackendError(
                f"{self._what}: {error}",
                operation=self._operation,
                key=self._key,
                hint="if the server has a certificate of its own, name the authority by ?ca=FILE",
            ) from error
        elif isinstance(error, urllib3.exceptions.HTTPError | MinioException | OSError):
            raise UnavailableError(
                f"{self._what}: {error}", operation=self._operation, key=self._key, retryable=True
            ) from error

    @property
    def _what(self) -> str:
        return f"{self._operation} of {self._key or 'the bucket'} at {self._url}"

    def _raise(self, error: Exception, status: int, code: str, message: str) -> NoReturn:
        what = f"{self._what}: {code or status}: {message}"
        found: BackendError
        operation, key = self._operation, self._key
        if code == "NoSuchBucket":
            hint = "make it first, for instance with 'aws s3 mb' or 'mc mb'"
            found = BackendError(what, operation=operation, key=key, hint=hint)
        elif code == "NoSuchKey" or status == 404:
            found = KeyAbsentError(f"no object {key} at {self._url}", operation=operation, key=key)
        elif code in _CONDITION_FAILED or status == 412:
            found = ConditionFailedError(what, operation=operation, key=key)
        elif code in _FULL or status == 507:
            hint = "free some room there, then run the command again"
            found = StorageFullError(what, operation=operation, key=key, hint=hint)
        elif code in _DENIED or status in (401, 403):
            found = PermissionDeniedError(what, operation=operation, key=key, hint=_DENIED_HINT)
        elif status in _BUSY_STATUS:
            found = UnavailableError(what, operation=operation, key=key, retryable=True)
        else:
            found = BackendError(what, operation=operation, key=key)
        raise found from error
