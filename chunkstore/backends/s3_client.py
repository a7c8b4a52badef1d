"""The signed client of an S3 server: the `minio` SDK's, with bodies that are never joined.

The SDK offers no conditional PUT and only whole `bytes` as a body, so requests go through the
method that all its own calls use; it signs and sends, and turns answers into S3Error. Neighbours:
`minio`, which asks, and `s3_errors`, which says what went wrong.
"""

from __future__ import annotations

import base64
import contextlib
import urllib.parse
import zlib
from collections.abc import Sequence
from typing import Any, Final

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
from chunkstore.backends.wire import Buffers, connections
from chunkstore.errors import InvalidInputError

_CRC32: Final = "x-amz-checksum-crc32"
_SIGNED_BELOW: Final = 1024 * 1024
_GIVE_KEYS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or make a profile in ~/.aws/credentials"
)


class Body(Buffers):
    """A body and the CRC-32 of all its bytes, as `x-amz-checksum-crc32` has it.

    Attributes:
        crc32: that sum.
    """

    def __init__(self, data: Sequence[Buffer]) -> None:
        super().__init__(data)
        value = 0
        for piece in self:
            value = zlib.crc32(piece, value)
        self.crc32 = base64.b64encode(value.to_bytes(4, "big")).decode()


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

    def place(
        self, bucket: str, name: str
    ) -> tuple[urllib.parse.SplitResult, str, Credentials] | None:
        """Return where an object is, its region and the credentials, None where there are none.

        Raises:
            MinioException, urllib3.exceptions.HTTPError: the server does not tell the region.
        """
        if self._provider is None:
            return None
        found = self._provider.retrieve()
        region = self._get_region(bucket)
        url = self._base_url.build(
            method="GET", region=region, bucket_name=bucket, object_name=name
        )
        credentials = Credentials(found.access_key, found.secret_key, found.session_token)
        return url, region, credentials

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

    `patience` is that of `wire.connections`.

    Raises:
        InvalidInputError: no credentials are to be found, the CA file or the endpoint is none.
    """
    endpoint = options.endpoint or "https://s3.amazonaws.com"
    scheme, _, host = endpoint.partition("://")
    secure = scheme == "https"
    pool = connections(patience, secure=secure, ca_file=options.ca_file)
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
