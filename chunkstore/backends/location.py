"""Store URL to Backend: `./folder`, `s3://bucket/prefix?endpoint=...`, `https://server`."""

from __future__ import annotations

import difflib
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from chunkstore.backends.base import Backend, check_key
from chunkstore.backends.credentials import Credentials
from chunkstore.backends.local import LocalBackend
from chunkstore.backends.retry import DEFAULT_DEADLINE, RetryBackend
from chunkstore.errors import InvalidInputError

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SERVER_PATH: Final = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9_.~-]+)*")
_S3_PARAMETERS: Final = ("endpoint", "region", "style", "ca")
_HTTP_PARAMETERS: Final = ("ca", "token_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Settings of an S3 server; what the URL says goes first.

    Attributes:
        endpoint: `http://host:port` or `https://...`; None is AWS.
        region: None asks the server, or takes us-east-1.
        style: how buckets are addressed: in the path or the host name; None chooses.
        ca_file: PEM file of the certificate authorities to trust.
        credentials: None looks at what the environment of the process has, as AWS tools do.
        anonymous: use no credentials at all.
    """

    endpoint: str | None = None
    region: str | None = None
    style: Literal["path", "virtual"] | None = None
    ca_file: str | None = None
    credentials: Credentials | None = None
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, a prefix in it ("" or ending in a slash) and the server's settings."""

    bucket: str
    prefix: str
    options: S3Options

    def __str__(self) -> str:
        options = self.options
        pairs = zip(
            _S3_PARAMETERS,
            (options.endpoint, options.region, options.style, options.ca_file),
            strict=True,
        )
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + _query(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Settings of a chunkstore server; what the URL says goes first.

    Attributes:
        token: what the server lets in; never printed.
        token_file: a file that holds the token, for where `token` is None.
        ca_file: PEM file of the certificate authorities to trust.
    """

    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class HttpLocation:
    """A chunkstore server: `http(s)://host[:port][/path]` without a slash at the end."""

    root: str
    options: HttpOptions

    def __str__(self) -> str:
        values = (self.options.ca_file, self.options.token_file)
        return self.root + _query(zip(_HTTP_PARAMETERS, values, strict=True))


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """A folder."""

    path: str

    def __str__(self) -> str:
        return self.path


def parse_location(
    url: str, s3: S3Options | None = None, http: HttpOptions | None = None
) -> LocalLocation | S3Location | HttpLocation:
    """Return what a store URL names.

    Raises:
        InvalidInputError: an unknown scheme or parameter, credentials in the URL, a bucket name
            that is none.
    """
    match = _SCHEME.match(url)
    if not match:
        if not url:
            raise InvalidInputError("the store's address is empty")
        return LocalLocation(url)
    scheme = match[1].lower()
    shown = url.partition("?")[0]  # whoever writes a secret into a URL must not read it in a log
    try:
        parsed = urllib.parse.urlsplit(url)
    except ValueError as error:  # brackets that hold no IPv6 address
        raise InvalidInputError("not an address of a store: its host name is none") from error
    if "@" in parsed.netloc:
        raise InvalidInputError(
            "a store URL must not hold credentials",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead, CHUNKSTORE_TOKEN for a "
            "chunkstore server",
        )
    if parsed.fragment or (scheme == "file" and parsed.query):
        raise InvalidInputError(
            f"{'#' if parsed.fragment else '?'} means nothing in {shown!r}",
            hint="in a path write %23 for # and %3F for ?",
        )
    if scheme == "file":
        if parsed.netloc not in ("", "localhost") or not parsed.path:
            raise InvalidInputError(f"not a file URL: {shown!r}", hint="write file:///path")
        return LocalLocation(urllib.parse.unquote(parsed.path))
    if scheme == "s3":
        return _s3_location(shown, parsed, s3 or S3Options())
    if scheme in ("http", "https"):
        return _http_location(shown, parsed, http or HttpOptions())
    raise InvalidInputError(
        f"unknown kind of store {scheme!r} in {shown!r}",
        hint="known: a folder, file://, s3:// and https://",
    )


def _s3_location(shown: str, parsed: urllib.parse.SplitResult, given: S3Options) -> S3Location:
    if not _BUCKET.fullmatch(parsed.netloc):
        raise InvalidInputError(
            f"not a bucket name: {parsed.netloc!r} in {shown!r}", hint="write s3://bucket/prefix"
        )
    prefix = urllib.parse.unquote(parsed.path).strip("/")
    if prefix:
        check_key(prefix)
    said = _parameters(shown, parsed.query, _S3_PARAMETERS)
    endpoint = said.get("endpoint", given.endpoint)
    if endpoint is not None:
        endpoint = _checked_endpoint(endpoint)
    encrypted = endpoint is None or endpoint.startswith("https://")
    style = said.get("style", given.style)
    if style not in (None, "path", "virtual"):
        raise InvalidInputError(f"unknown style {style!r}", hint="'path' or 'virtual'")
    options = S3Options(
        endpoint=endpoint,
        region=said.get("region", given.region),
        style=style,  # type: ignore[arg-type]  # narrowed by the check above
        ca_file=said.get("ca", given.ca_file if encrypted else None),
        credentials=given.credentials,
        anonymous=given.anonymous,
    )
    return S3Location(parsed.netloc, f"{prefix}/" if prefix else "", options)


def _http_location(
    shown: str, parsed: urllib.parse.SplitResult, given: HttpOptions
) -> HttpLocation:
    try:
        usable = parsed.hostname and parsed.port != 0 and parsed.netloc.isascii()
    except ValueError:
        usable = False
    path = parsed.path.rstrip("/")
    if not usable or not _SERVER_PATH.fullmatch(path):
        raise InvalidInputError(
            f"not the address of a server: {shown!r}",
            hint="write https://host or http://host:port",
        )
    said = _parameters(shown, parsed.query, _HTTP_PARAMETERS)
    ca_file = said.get("ca", given.ca_file if parsed.scheme == "https" else None)
    options = replace(given, ca_file=ca_file)
    if "token_file" in said:
        options = replace(options, token=None, token_file=said["token_file"])
    return HttpLocation(f"{parsed.scheme}://{parsed.netloc}{path}", options)


def _parameters(shown: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    said = dict(pairs)
    if len(said) < len(pairs):
        raise InvalidInputError(f"a parameter stands twice in {shown!r}")
    for name in said:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise InvalidInputError(
                f"unknown parameter {name!r} in {shown!r}",
                hint=f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}",
            )
    return said


def _query(pairs: Iterable[tuple[str, str | None]]) -> str:
    query = urllib.parse.urlencode([(k, v) for k, v in pairs if v], safe=":/")
    return f"?{query}" if query else ""


def _checked_endpoint(endpoint: str) -> str:
    if "@" in endpoint:
        raise InvalidInputError("an endpoint must not hold credentials")
    try:
        parsed = urllib.parse.urlsplit(endpoint)
        usable = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:
        usable = False
    if not usable or parsed.path.strip("/") or parsed.query:
        raise InvalidInputError(
            f"not an endpoint: {endpoint!r}", hint="write http://host:port or https://host"
        )
    return f"{parsed.scheme}://{parsed.netloc}"


def open_backend(
    url: str,
    *,
    s3: S3Options | None = None,
    http: HttpOptions | None = None,
    deadline: float = DEFAULT_DEADLINE,
) -> Backend:
    """Return the backend that a store URL names, with retries; nothing is asked of it yet.

    Raises:
        InvalidInputError: not a store URL, no credentials for S3, a token that is none.
        NotFoundError, RefusedError, FilesystemError: the file of the token is not there, everybody
            may read it, or it cannot be read.
    """
    location = parse_location(url, s3, http)
    if isinstance(location, LocalLocation):
        return LocalBackend(location.path)
    inner: Backend
    if isinstance(location, HttpLocation):
        from chunkstore.backends.http import HttpBackend  # noqa: PLC0415  # 60 ms, only for HTTP

        inner = HttpBackend(location, patience=deadline)
    else:
        from chunkstore.backends.minio import MinioBackend  # noqa: PLC0415  # 240 ms, only for S3

        inner = MinioBackend(location, patience=deadline)
    return RetryBackend(inner, deadline=deadline)
