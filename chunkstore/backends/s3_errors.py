"""What the SDK and urllib3 raise, said as a BackendError with its remedy.

The one place where answers of an S3 server become kinds of errors. Neighbours: `minio` and
`s3_client`.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn
from xml.etree.ElementTree import ParseError

import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from chunkstore.backends.wire import is_tls_for_ever
from chunkstore.errors import (
    BackendError,
    BucketAbsentError,
    ConditionFailedError,
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)

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
_BUSY: Final = frozenset({"InternalError", "ServiceUnavailable", "SlowDown"})
_OTHER_REGION: Final = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect"})
_FULL: Final = frozenset({"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded"})
_DENIED_HINT: Final = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, what that key may do, and this "
    "machine's clock"
)
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>")
_NO_S3_HINT: Final = (
    "check that the endpoint is that of an S3 server, and whether it speaks http or https"
)
_TLS_HINT: Final = (
    "if the server has a certificate of its own, name the authority by ?ca=FILE; if it speaks "
    "plain http, write endpoint=http://..."
)
_BUSY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def meaning(status: int, code: str) -> tuple[type[BackendError], str | None]:
    """Return what a failure of the server means, and the remedy; status 0 where it has none."""
    table: tuple[tuple[bool, type[BackendError], str | None], ...] = (
        (code == "NoSuchBucket", BucketAbsentError, "make it with 'aws s3 mb' or 'mc mb'"),
        (code == "NoSuchKey", KeyAbsentError, None),
        (status == 404, BackendError, _NO_S3_HINT),
        (code in _CONDITION_FAILED or status == 412, ConditionFailedError, None),
        (code in _FULL or status == 507, StorageFullError, "free some room, then run it again"),
        (code in _DENIED or status in (401, 403), PermissionDeniedError, _DENIED_HINT),
        (code in _DAMAGED_ON_THE_WAY or code in _BUSY, UnavailableError, None),
        (status in _BUSY_STATUS or status == 416, UnavailableError, None),
        (code in _OTHER_REGION, BackendError, "set the bucket's region, and its endpoint"),
        (status == 400 and not code, BackendError, _NO_S3_HINT),
    )
    return next(((kind, hint) for met, kind, hint in table if met), (BackendError, None))


class Translated:
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
            code, message = _CODE.search(body), _MESSAGE.search(body)
            said = message[1] if message else " ".join(body[:200].split())
            self._raise(error, int(getattr(error, "_code", 0)), code[1] if code else "", said)
        elif isinstance(error, ServerError):
            self._raise(error, error.status_code, "", str(error))
        elif error is not None and is_tls_for_ever(error):
            raise self._error(BackendError, str(error), _TLS_HINT) from error
        elif isinstance(error, urllib3.exceptions.LocationValueError):
            raise self._error(BackendError, str(error), "check the endpoint") from error
        elif isinstance(error, ParseError | UnicodeDecodeError):
            raise self._unavailable(f"an answer that is no XML: {error}") from error
        elif isinstance(error, ValueError):  # XML of something else, such as a page to log in
            why = f"an answer that cannot be used: {error}"
            raise self._error(BackendError, why, _NO_S3_HINT) from error
        elif isinstance(error, urllib3.exceptions.HTTPError | MinioException | OSError):
            raise self._unavailable(str(error)) from error

    def _raise(self, error: Exception, status: int, code: str, message: str) -> NoReturn:
        kind, hint = meaning(status, code)
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
