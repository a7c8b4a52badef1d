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
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import ParseError

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
# One send must end within the connect timeout, which counts for the whole of it: pieces of this
# size let a line of 26 KB/s through.
_PIECE: Final = 256 * 1024

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
_DAMAGED_ON_THE_WAY: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "RequestTimeout",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_FULL: Final = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded"})
_DENIED_HINT: Final = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, what that key may do, and this "
    "machine's clock"
)
_TOTAL: Final = re.compile(r"/([0-9]+)$")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_TLS_FOR_EVER: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")
_TLS_HINT: Final = (
    "if the server has a certificate of its own, name the authority by ?ca=FILE; if it speaks "
    "plain http, write endpoint=http://..."
)
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
        if not _is_range(response, start, end):
            raise UnavailableError(
                f"get of {key} at {self.url}: asked for {end - start} bytes from {start}, got "
                f"{len(data)} with status {response.status}",
                operation="get",
                key=key,
                retryable=_may_be_longer(response, end),
            )
        return Fetched(data, self._etag(response, "get", key))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(mode, CreateOnly):
            headers["If-None-Match"] = "*"
        elif isinstance(mode, ReplaceIf):
            headers["If-Match"] = f'"{mode.version}"'
        try:
            response = self._request("put", "PUT", key, body=_Body(data), headers=headers)
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
            with _Translated("head", key, self.url):
                self._client.send("HEAD", self._location.bucket, None)
            self._bucket_seen = True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return _Listing(self._client, self._location, prefix)

    def delete(self, keys: Sequence[str]) -> None:
        names = [DeleteObject(self._location.prefix + check_key(key)) for key in keys]
        with _Translated("delete", keys[0] if len(keys) == 1 else None, self.url):
            errors = [
                error
                for error in self._client.remove_objects(self._location.bucket, names)
                if error.code != "NoSuchKey"
            ]
        if errors:
            first = errors[0]
            key = (first.name or "").removeprefix(self._location.prefix)
            codes = {error.code for error in errors}
            raise UnavailableError(
                f"delete of {key} at {self.url}: {first.code}: {first.message}"
                f" ({len(errors)} keys in all)",
                operation="delete",
                key=key,
                retryable=codes <= {"SlowDown", "InternalError", "ServiceUnavailable"},
            )

    def probe(self) -> Capabilities:
        create_only, replace_if = race(self)
        with _Translated("probe", None, self.url):
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


class _Listing(Iterator[ObjectInfo]):
    """The pages of a listing, each one checked.

    After an error the same page is asked for when the next item is: `resumable`, so that one
    failing page of many does not cost all those before it again.
    """

    resumable: Final = True

    def __init__(self, client: _Client, location: S3Location, prefix: str) -> None:
        self._client = client
        self._location = location
        self._prefix = prefix
        self._page: deque[ObjectInfo] = deque()
        self._token: str | None = None
        self._last = ""
        self._ended = False

    def __next__(self) -> ObjectInfo:
        while not self._page:
            if self._ended:
                raise StopIteration
            self._fetch()
        return self._page.popleft()

    def _fetch(self) -> None:
        root = self._location.prefix
        query = {"list-type": "2", "max-keys": str(_PAGE), "prefix": root + self._prefix}
        query |= {"encoding-type": "url", "delimiter": ""}
        if self._token:
            query["continuation-token"] = self._token
        with _Translated("list", self._prefix, str(self._location)):
            response = self._client.send("GET", self._location.bucket, None, query=query)
            found, truncated, following, _ = parse_list_objects(response)
        page: deque[ObjectInfo] = deque()
        last = self._last
        for item in found:
            key = (item.object_name or "")[len(root) :]
            if not key.startswith(self._prefix) or key <= last:
                self._bad(f"the server sent {key!r} after {last!r}")
            last = key
            modified = item.last_modified.timestamp() if item.last_modified else 0.0
            page.append(ObjectInfo(key, item.size or 0, (item.etag or "").strip('"'), modified))
        if truncated and (not following or following == self._token):
            self._bad("a page that goes on, without a way to the next")
        self._page, self._last, self._token = page, last, following
        self._ended = not truncated

    def _bad(self, what: str) -> NoReturn:
        raise UnavailableError(
            f"list of {self._prefix!r} at {self._location}: {what}",
            operation="list",
            key=self._prefix,
        )


class _Body:
    """Buffers that are sent one after the other without being joined."""

    def __init__(self, data: Sequence[Buffer]) -> None:
        self._buffers = [memoryview(buffer).cast("B") for buffer in data]

    def __iter__(self) -> Iterator[memoryview]:
        for buffer in self._buffers:
            for start in range(0, len(buffer), _PIECE):
                yield buffer[start : start + _PIECE]

    def __len__(self) -> int:
        return sum(len(buffer) for buffer in self._buffers)

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes in hex."""
        hasher = hashlib.sha256()
        for buffer in self._buffers:
            hasher.update(buffer)
        return hasher.hexdigest()

    def crc32(self) -> str:
        """Return the CRC-32 of all bytes, as `x-amz-checksum-crc32` has it."""
        value = 0
        for buffer in self._buffers:
            value = zlib.crc32(buffer, value)
        return base64.b64encode(value.to_bytes(4, "big")).decode()


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
        """Send the body's CRC-32, and over http sign its SHA-256 too.

        A server must refuse bytes that changed on their way. SeaweedFS 4.48 checks the CRC-32 and
        MD5 but not the signed SHA-256, MinIO all three; over https the line itself is protected.
        Both together cost 34 ms of CPU for 32 MiB; the MD5 that the SDK sends costs 54.
        """
        if not isinstance(body, _Body):
            return super()._build_headers(host, headers, body, creds)
        built, date = super()._build_headers(host, headers, None, creds)
        built["Content-Length"] = str(len(body))
        built["x-amz-checksum-crc32"] = body.crc32()
        if creds and not self._base_url.is_https:
            built["x-amz-content-sha256"] = body.sha256()
        return built, date


def _client(options: S3Options) -> _Client:
    endpoint = options.endpoint or "https://s3.amazonaws.com"
    scheme, _, host = endpoint.partition("://")
    secure = scheme == "https"
    pool = urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        retries=False,
        ssl_context=_ssl_context(options) if secure else None,
    )
    provider = None if options.anonymous else _provider(options)
    try:
        client = _Client(
            host, secure=secure, region=options.region, http_client=pool, credentials=provider
        )
    except ValueError as error:  # the SDK's word for a host or region that is none
        raise InvalidInputError(f"not a usable endpoint {endpoint!r}: {error}") from error
    client.pool = pool
    if options.style == "virtual":
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # the SDK's gap
    elif options.style == "path":
        client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # the SDK's gap
    return client


def _ssl_context(options: S3Options) -> ssl.SSLContext:
    """Trust the file of `options`, else what the system trusts and what comes with certifi."""
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise InvalidInputError(
            f"cannot use the CA file {options.ca_file!r}: {error}", hint="give a PEM file"
        ) from error
    if options.ca_file is None:
        context.load_verify_locations(certifi.where())
    return context


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


def _may_be_longer(response: Any, end: int) -> bool:
    """Whether another answer may hold the range: not where the object is known to end before."""
    if response.status != 206:
        return False  # a server that ignores Range
    total = _TOTAL.search(str(response.headers.get("Content-Range")))
    return total is None or int(total[1]) >= end


def _kind(status: int, code: str) -> tuple[type[BackendError], str | None]:
    """Return what an answer of the server means, and the remedy."""
    table: tuple[tuple[bool, type[BackendError], str | None], ...] = (
        (code == "NoSuchBucket", BackendError, "make it with 'aws s3 mb' or 'mc mb'"),
        (code == "NoSuchKey", KeyAbsentError, None),
        (status == 404, BackendError, "check that the endpoint is that of an S3 server"),
        (code in _CONDITION_FAILED or status == 412, ConditionFailedError, None),
        (code in _FULL or status == 507, StorageFullError, "free some room, then run it again"),
        (code in _DENIED or status in (401, 403), PermissionDeniedError, _DENIED_HINT),
        (code in _DAMAGED_ON_THE_WAY or status in _BUSY_STATUS, UnavailableError, None),
        (status == 416, UnavailableError, None),
        (code == "AuthorizationHeaderMalformed", BackendError, "set the bucket's region"),
    )
    return next(((kind, hint) for met, kind, hint in table if met), (BackendError, None))


class _Translated:
    """Turns what the SDK and urllib3 raise into BackendErrors, once and for all calls."""

    def __init__(self, operation: str, key: str | None, url: str) -> None:
        self._operation = operation
        self._key = key
        self._what = f"{operation} of {key or 'the bucket'} at {url}"

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
        elif isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError) and any(
            reason in str(error) for reason in _TLS_FOR_EVER
        ):
            raise self._error(BackendError, str(error), _TLS_HINT) from error
        elif isinstance(error, urllib3.exceptions.LocationValueError):
            raise self._error(BackendError, str(error), "check the endpoint") from error
        elif isinstance(error, ParseError | UnicodeDecodeError):
            raise self._unavailable(f"an answer that is no XML: {error}") from error
        elif isinstance(error, urllib3.exceptions.HTTPError | MinioException | OSError):
            raise self._unavailable(str(error)) from error

    def _raise(self, error: Exception, status: int, code: str, message: str) -> NoReturn:
        kind, hint = _kind(status, code)
        why = f"{code or status}: {message}"
        if kind is UnavailableError and status != 416:
            raise self._unavailable(why) from error
        raise self._error(kind, why, hint) from error

    def _error(self, kind: type[BackendError], why: str, hint: str | None) -> BackendError:
        return kind(f"{self._what}: {why}", operation=self._operation, key=self._key, hint=hint)

    def _unavailable(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"{self._what}: {why}", operation=self._operation, key=self._key, retryable=True
        )
