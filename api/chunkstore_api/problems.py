"""Errors as RFC 9457 problem documents: the one place where exceptions become HTTP statuses.

`code` and `hint` are the same as on the command line. Documented in docs/reference/http.md; the
test of the table holds that every exception of the library has its own row.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from chunkstore import errors
from chunkstore_api.schemas import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

STATUS_OF_ERROR: Final[dict[type[errors.ChunkstoreError], int]] = {
    errors.ChunkstoreError: 500,
    errors.InvalidInputError: 400,
    errors.NotFoundError: 404,
    errors.AlreadyExistsError: 409,
    errors.RefusedError: 409,
    errors.ConflictError: 409,
    errors.FilesystemError: 500,
    errors.UnreadableFilesError: 500,
    errors.UnsupportedFormatError: 500,
    errors.IntegrityError: 500,  # what was promised and lost is never a 404
    errors.CorruptObjectError: 500,
    errors.MissingObjectError: 500,
    errors.BackendError: 502,
    errors.KeyAbsentError: 502,
    errors.BucketAbsentError: 502,
    errors.ConditionFailedError: 409,
    errors.PermissionDeniedError: 502,
    errors.StorageFullError: 507,
    errors.UnavailableError: 503,
}

DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": Problem, "description": "the request cannot be served as it is"},
    "5XX": {"model": Problem, "description": "the server or its storage failed"},
}
"""What OpenAPI says of the answers of every route."""

_RETRY_AFTER: Final = "5"  # seconds
_CODE_OF_STATUS: Final = {
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
}


class RequestError(Exception):
    """A request that HTTP itself has words for.

    Attributes:
        status: the HTTP status.
        code: a stable word for programs.
        message: what is wrong with the request.
        hint: what to do next.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})


def busy(what: str) -> RequestError:
    """Return the error of a server that has its hands full."""
    return RequestError(
        503,
        "busy",
        f"the server is at its bound of {what} at once",
        hint="try again",
        headers={"Retry-After": _RETRY_AFTER},
    )


def status_of(error: errors.ChunkstoreError) -> int:
    """Return the HTTP status of `error`: that of its class, else of the nearest class above."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF_ERROR:
            return STATUS_OF_ERROR[kind]
    return 500


def problem(
    status: int,
    code: str,
    detail: str,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a problem document."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
    }
    return JSONResponse(document, status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def problem_of(error: BaseException) -> JSONResponse:
    """Return what is said of any exception that ends a request."""
    if isinstance(error, RequestError):
        return problem(error.status, error.code, error.message, error.hint, error.headers)
    if isinstance(error, errors.ChunkstoreError):
        status = status_of(error)
        if status >= 500:
            log.error("%s: %s", error.code, error.message)
        headers = {"Retry-After": _RETRY_AFTER} if status == 503 else {}
        return problem(status, error.code, error.message, error.hint, headers)
    if isinstance(error, RequestValidationError):
        return problem(400, "invalid_input", _validation(error))
    if isinstance(error, HTTPException):
        code = _CODE_OF_STATUS.get(error.status_code, "error")
        return problem(error.status_code, code, str(error.detail), headers=error.headers)
    log.error("unexpected %s", type(error).__name__, exc_info=error)
    return problem(500, "bug", "unexpected error", "this is a bug: the server's log says more")


def _validation(error: RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"


async def _handle(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, errors.NotFoundError) and getattr(request.state, "narrow", False):
        error = type(error)(error.message)  # hints offer the nearest of all names
    return problem_of(error)


def install(app: FastAPI) -> None:
    """Have `app` answer every error by a problem document."""
    kinds = (errors.ChunkstoreError, RequestError, RequestValidationError, HTTPException, Exception)
    for kind in kinds:
        app.add_exception_handler(kind, _handle)
