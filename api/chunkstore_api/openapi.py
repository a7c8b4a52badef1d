"""What OpenAPI says of all routes alike, and what FastAPI would say otherwise than they answer.

Neighbours: `problems` has the errors that are described here; `app` serves the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from chunkstore_api import problems

_PROBLEM: Final = "#/components/schemas/Problem"

BYTES: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
"""The content of a body that is no document."""


def install(app: FastAPI) -> None:
    """Have an application describe itself, and name every method of a path that it refuses."""
    describe = app.openapi

    def document() -> dict[str, Any]:
        found = app.openapi_schema
        if found is None:
            found = describe()
            for response in _responses(found):
                _mend(response)
        return found

    async def refuse(request: Request, error: Exception) -> Response:
        answer = problems.problem_of(error)
        answer.headers["Allow"] = ", ".join(sorted(_methods(app.routes, request.scope)))
        return answer

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI advises
    app.add_exception_handler(405, refuse)


def _responses(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            yield from operation["responses"].values()


def _mend(response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref") == _PROBLEM:
        content[problems.MEDIA_TYPE] = content.pop("application/json")


def _methods(routes: Iterable[BaseRoute], scope: Any) -> set[str]:
    found: set[str] = set()
    for route in routes:
        router = getattr(route, "original_router", None)  # FastAPI keeps routers whole
        if router is not None:
            found |= _methods(router.routes, scope)
        elif route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
