"""One request to a chunkstore server, one answer: sent, bounded, and understood.

What a server says is held against bounds and types before anybody uses it, and a failure becomes a
BackendError here, once and for all requests. The token goes to this server and nowhere else.
Neighbours: `http` asks; `wire` has what S3 clients need too. Implements "Errors" of
docs/reference/protocol.md.
"""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import urllib3

from chunkstore.backends import http_pool
from chunkstore.backends.credentials import check_token, read_token
from chunkstore.backends.location import HttpLocation
from chunkstore.backends.wire import Buffers, connections, is_tls_for_ever
from chunkstore.errors import (
    BackendError,
    ChunkstoreError,
    ConditionFailedError,
    KeyAbsentError,
    MissingObjectError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)
from chunkstore.limits import KIB, MIB

LONGEST_DOCUMENT: Final = 4 * MIB
"""Bytes of a JSON answer; a page of 1,000 objects has at most about 1.3 MiB."""

WILLING: Final = "Chunkstore-Direct"
"""The header of a request whose answer may be a redirect."""

_LONGEST_PROBLEM: Final = 64 * KIB
_LONGEST_SAID: Final = 500
_LAST_SECONDS: Final = 5.0
_PIECE: Final = MIB
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_FOR_EVER: Final = frozenset(
    {
        "bucket_absent",
        "bug",
        "corrupt_object",
        "integrity",
        "missing_object",
        "permission_denied",
        "unsupported_format",
    }
)
"""What is wrong behind a server and does not pass by waiting."""

_NO_SERVER_HINT: Final = (
    "check that a chunkstore server answers there; for an S3 server write "
    "s3://bucket/prefix?endpoint=..."
)
_GIVE: Final = (
    "set CHUNKSTORE_TOKEN or CHUNKSTORE_TOKEN_FILE, or keep it with the remote, by remote add with "
    "--token-file FILE"
)
_OTHER: Final = "ask who runs the server for another token"
_TLS_HINT: Final = (
    "if the server has a certificate of its own, name the authority by ?ca=FILE; if it speaks "
    "plain http, write http://..."
)


@dataclass(frozen=True, slots=True)
class Call:
    """What a request is for: the method of the backend and the key, for errors."""

    operation: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; the body wholly there, as long as it was said to be."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Sends requests to one server. Thread-safe; makes none before the first call."""

    def __init__(self, location: HttpLocation, patience: float) -> None:
        """Prepare connections; `patience` is that of `wire.connections`.

        Raises:
            InvalidInputError: the token or the CA file is none.
            ChunkstoreError: the file of the token cannot be used; as `read_token`.
        """
        options = location.options
        self.url = location.root
        self.secure = location.root.startswith("https:")
        self.near = _is_loopback(location.root)
        self._root = location.root
        self._pool = connections(patience, secure=self.secure, ca_file=options.ca_file)
        http_pool.use(self._pool)
        token = options.token and check_token(options.token, "the token that was given")
        if token is None and options.token_file is not None:
            token = read_token(options.token_file)
        self.has_token = token is not None
        self._limit: dict[str, Any] = {}  # beside the pool's own
        self._headers = {"User-Agent": "chunkstore", "Accept-Encoding": "identity"}
        self._token = {"Authorization": f"Bearer {token}"} if token else {}

    def send(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        longest: int = LONGEST_DOCUMENT,
        headers: Mapping[str, str] | None = None,
        body: Buffers | bytes | None = None,
    ) -> Answer:
        """Send one request to the server and return its answer.

        A redirect is one only where the headers say that the caller takes it.

        Args:
            call: what it is for.
            method: of HTTP.
            path: below the server's address, with the query.
            longest: bytes that the answer may have.
            headers: beside those of every request.
            body: what is sent.

        Raises:
            BackendError: the server refused, or its answer cannot be used.
            MissingObjectError: a commit needs what is not there, or no longer.
        """
        sent = {**self._headers, **self._token, **(headers or {})}
        answer = self._exchange(call, method, self._root + path, longest, sent, body)
        if answer.status < 300 or (answer.status == 307 and WILLING in sent):
            return answer
        raise self._refusal(call, answer)

    def send_elsewhere(
        self,
        call: Call,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        longest: int = _LONGEST_PROBLEM,
        body: Buffers | None = None,
    ) -> Answer:
        """Send one request to where the server pointed, without the token.

        Raises:
            BackendError: there was no whole answer; none of these errors has the URL, which is a
                secret.
        """
        try:
            return self._exchange(call, method, url, longest, {**self._headers, **headers}, body)
        except (BackendError, ValueError) as error:  # a header or URL that is none
            raise self.unusable(call, f"a direct transfer failed: {type(error).__name__}") from None

    def json(self, call: Call, answer: Answer) -> dict[str, Any]:
        """Return the document that an answer is.

        Raises:
            UnavailableError: it is none.
        """
        document = _document(answer.body)
        if document is None:
            self.raise_unusable(call, "the answer is no JSON document")
        return document

    def unusable(self, call: Call, why: str, *, retryable: bool = True) -> UnavailableError:
        """Return the error of an answer that cannot be used."""
        what = f"{_what(call, self.url)}: {why}"
        return UnavailableError(what, operation=call.operation, key=call.key, retryable=retryable)

    def raise_unusable(self, call: Call, why: str) -> NoReturn:
        """Raise the error of an answer that asking again would not mend."""
        raise self.unusable(call, why, retryable=False)

    def denied(self, call: Call, why: str) -> BackendError:
        """Return the error of what the server would refuse."""
        return self._error(PermissionDeniedError, call, why, _OTHER if self.has_token else _GIVE)

    def close(self) -> None:
        """Give back connections; requests that are under way in other threads end with an error.

        Others may follow, by which a push that was ended saves what is durable; these are not
        waited for as long.
        """
        self._limit = {"timeout": urllib3.Timeout(_LAST_SECONDS)}
        http_pool.hang_up(self._pool)
        self._pool.clear()

    def _exchange(
        self,
        call: Call,
        method: str,
        url: str,
        longest: int,
        headers: Mapping[str, str],
        body: Buffers | bytes | None,
    ) -> Answer:
        if body is not None:
            headers = {**headers, "Content-Length": str(len(body))}
        try:
            response = self._pool.request(
                method,
                url,
                body=body,  # type: ignore[arg-type]  # views of memory are bytes too
                headers=headers,
                redirect=False,
                preload_content=False,
                **self._limit,
            )
            try:
                bound = longest if response.status < 300 else _LONGEST_PROBLEM
                data = self._read(call, method, response, bound)
            except BaseException:
                response.close()  # what is left of it will not be read
                raise
            response.release_conn()
        except urllib3.exceptions.LocationValueError as error:
            raise self._error(BackendError, call, "the address is none", _NO_SERVER_HINT) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if is_tls_for_ever(error):
                raise self._error(BackendError, call, str(error), _TLS_HINT) from error
            raise self.unusable(call, _reason(error)) from error
        return Answer(response.status, response.headers, data)

    def _read(
        self, call: Call, method: str, response: urllib3.BaseHTTPResponse, longest: int
    ) -> bytes:
        """Return the body: as long as stated, or in chunks that end in good order."""
        if method == "HEAD" or response.status == 204:
            response.drain_conn()
            return b""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            self.raise_unusable(call, "an encoded answer, which was not asked for")
        stated = response.headers.get("Content-Length")
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if stated is None and not chunked:
            raise self.unusable(call, "an answer of unknown length")
        if stated is not None and not (stated.isascii() and stated.isdigit() and len(stated) < 19):
            self.raise_unusable(call, "an answer whose length is no number")
        if stated is not None and int(stated) > longest:
            self.raise_unusable(call, f"an answer of {int(stated)} bytes, at most {longest} fit")
        if stated is not None and not chunked:
            return response.read(decode_content=False)  # urllib3 holds it against the length
        parts: list[bytes] = []
        length = 0
        while part := response.read(_PIECE, decode_content=False):
            parts.append(part)
            length += len(part)
            if length > longest:
                self.raise_unusable(call, f"an answer of more than {longest} bytes")
        return b"".join(parts)

    def _refusal(self, call: Call, answer: Answer) -> ChunkstoreError:
        """Return what a status that is no success means."""
        status = answer.status
        is_problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
        said = (_document(answer.body) if is_problem else None) or {}
        code, detail, hint = (_text(said.get(name)) for name in ("code", "detail", "hint"))
        why = ": ".join(part for part in (code or str(status), detail) if part)
        # the answer to a HEAD has no body to say more
        if status == 404 and is_problem and code in ("", "key_absent"):
            return self._error(KeyAbsentError, call, "no object has that key", None)
        if status == 409 and code == MissingObjectError.code:
            what = f"{_what(call, self.url)}: {why}"
            return MissingObjectError(what, key=call.key, hint=hint or None)
        if status == 412:
            return self._error(ConditionFailedError, call, why, None)
        if status == 507:
            return self._error(StorageFullError, call, why, hint or "ask who runs the server")
        if status == 401:
            return self.denied(call, why)
        if status == 403 and is_problem:
            return self._error(PermissionDeniedError, call, why, hint or _OTHER)
        if status in _PASSING and code not in _FOR_EVER:
            error = self.unusable(call, why)
            error.hint, error.wait = hint or None, _seconds(answer.headers.get("Retry-After"))
            return error
        if status == 416:
            return self.unusable(call, why, retryable=False)
        if not said or status == 404:
            return self._error(BackendError, call, why, hint or _NO_SERVER_HINT)
        return self._error(BackendError, call, why, hint or None)

    def _error(
        self, kind: type[BackendError], call: Call, why: str, hint: str | None
    ) -> BackendError:
        what = f"{_what(call, self.url)}: {why}"
        return kind(what, operation=call.operation, key=call.key, hint=hint)


def _is_loopback(root: str) -> bool:
    """Whether only this machine hears what is said to that address."""
    name = urllib.parse.urlsplit(root).hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Return in words why there was no answer."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "nobody knows that host name"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return f"no connection: {getattr(error.__cause__, 'strerror', None) or 'refused'}"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection was cut"
    return _printable(str(error))


def _what(call: Call, url: str) -> str:
    of = f" of {call.key}" if call.key else ""
    return f"{call.operation}{of} at {url}"


def _document(data: bytes) -> dict[str, Any] | None:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    try:
        found = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: object) -> str:
    """Return what a server says in words, fit to be printed."""
    return _printable(value) if isinstance(value, str) else ""


def _printable(text: str) -> str:
    cut = text[:_LONGEST_SAID]
    return "".join(char if char.isprintable() else " " for char in cut)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None
