"""The signed client of an S3 server: the `minio` SDK's, with bodies that are never joined.

The SDK offers no conditional PUT and only whole `bytes` as a body, so requests go through the
method that all its own calls use; it signs and sends, and turns answers into S3Error. Neighbours:
`minio`, which asks, and `s3_errors`, which says what went wrong.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import certifi
import urllib3
from minio import Minio
from minio.credentials.providers import (
    AWSConfigProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    Provider,
    StaticProvider,
)

from chunkstore.backends.base import Buffer
from chunkstore.backends.credentials import Credentials, read_profile
from chunkstore.backends.location import S3Options
from chunkstore.errors import InvalidInputError

_CONNECTIONS: Final = 32
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_LEAST_SECONDS: Final = 5.0
# One send must end within the connect timeout, which counts for the whole of it: pieces of this
# size let a line of 26 KB/s through.
_PIECE: Final = 256 * 1024
_CRC32: Final = "x-amz-checksum-crc32"
_SIGNED_BELOW: Final = 1024 * 1024
_GIVE_KEYS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or make a profile in ~/.aws/credentials"
)


class Body:
    """Buffers that are sent one after the other without being joined.

    Attributes:
        crc32: the CRC-32 of all bytes, as `x-amz-checksum-crc32` has it.
    """

    def __init__(self, data: Sequence[Buffer]) -> None:
        self._buffers = [memoryview(buffer).cast("B") for buffer in data]
        value = 0
        for buffer in self._buffers:
            value = zlib.crc32(buffer, value)
        self.crc32 = base64.b64encode(value.to_bytes(4, "big")).decode()

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


class S3Client(Minio):
    """The SDK's client, with requests that take buffers as their body."""

    pool: urllib3.PoolManager
    _checks_crc32 = False  # whether the server has told a CRC-32 of its own making

    def send(
        self,
        method: str,
        bucket: str,
        name: str | None,
        body: Body | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        """Send one signed request and return the whole answer.

        Raises:
            MinioException, urllib3.exceptions.HTTPError: whatever went wrong.
        """
        response = self._execute(
            method,
            bucket,
            name,
            body=body,  # type: ignore[arg-type]  # bytes, says the SDK; it only passes it on
            headers=dict(headers or {}),
            query_params=query,  # type: ignore[arg-type]  # a dict of other value types too
            no_body_trace=True,
        )
        if body is not None and response.headers.get(_CRC32) == body.crc32:
            self._checks_crc32 = True
        return response

    def _build_headers(
        self, host: str, headers: Any = None, body: Any = None, creds: Any = None
    ) -> Any:
        """Send the body's CRC-32, and over http sign its SHA-256 too where that adds anything.

        A server must refuse bytes that changed on their way. SeaweedFS 4.48 checks the CRC-32 and
        MD5 but not the signed SHA-256, MinIO all three; over https the line itself is protected.
        A server that answers with the CRC-32 has computed it. From then on long bodies that
        replace nothing go unsigned over http too: what stands in the way can spoil them no more
        than by refusing them, since readers hold them against the hash in their key, which is
        signed. For 32 MiB the CRC-32 costs 8 ms of CPU, the SHA-256 19 here and as much in the
        server, the MD5 that the SDK sends 44.
        """
        if not isinstance(body, Body):
            return super()._build_headers(host, headers, body, creds)
        built, date = super()._build_headers(host, headers, None, creds)
        built["Content-Length"] = str(len(body))
        built[_CRC32] = body.crc32
        if creds and not self._base_url.is_https:
            new = built.get("If-None-Match") == "*" and len(body) >= _SIGNED_BELOW
            unsigned = new and self._checks_crc32
            built["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD" if unsigned else body.sha256()
        return built, date


def connect(options: S3Options, patience: float) -> S3Client:
    """Return a client with a pool of connections of its own; nothing is sent yet.

    A server that is silent for `patience` seconds has failed, within bounds: who will not wait
    long for a storage must not be held by one time-out, yet slow answers are no failures.

    Raises:
        InvalidInputError: no credentials are to be found, the CA file or the endpoint is none.
    """
    patience = max(patience, _LEAST_SECONDS)
    endpoint = options.endpoint or "https://s3.amazonaws.com"
    scheme, _, host = endpoint.partition("://")
    secure = scheme == "https"
    pool = urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        timeout=urllib3.Timeout(
            connect=min(_CONNECT_SECONDS, patience), read=min(_READ_SECONDS, patience)
        ),
        retries=False,
        ssl_context=_ssl_context(options) if secure else None,
    )
    provider = None if options.anonymous else _provider(options)
    try:
        client = S3Client(
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
    given = options.credentials or _found()
    try:
        return StaticProvider(given.access_key, given.secret_key, given.session_token)
    except ValueError as error:
        raise InvalidInputError("an access key or its secret is empty", hint=_GIVE_KEYS) from error


def _found() -> Credentials:
    """Return what the environment of the process has; the SDK looks at the variables.

    The profile file is read here: the SDK takes a `%` in a secret for a substitution.
    """
    for provider in (EnvAWSProvider(), EnvMinioProvider()):
        with contextlib.suppress(ValueError):
            found = provider.retrieve()
            return Credentials(found.access_key, found.secret_key, found.session_token)
    place = AWSConfigProvider()
    profile = read_profile(place._filename, place._profile, required=place._profile != "default")
    if profile is None:
        raise InvalidInputError("no credentials for S3 were found", hint=_GIVE_KEYS)
    return profile
