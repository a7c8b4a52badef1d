"""What OpenAPI says of all routes alike, where FastAPI would say otherwise than they answer.

Neighbours: `problems` has the errors that are described here; `app` serves the document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI

from chunkstore_api import problems

_PROBLEM: Final = "#/components/schemas/Problem"

BYTES: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
"""The content of a body that is no document."""


def install(app: FastAPI) -> None:
    """Have an application describe itself."""
    describe = app.openapi

    def document() -> dict[str, Any]:
        found = app.openapi_schema
        if found is None:
            found = describe()
            for response in _responses(found):
                _mend(response)
        return found

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI advises


def _responses(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            yield from operation["responses"].values()


def _mend(response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref") == _PROBLEM:
        content[problems.MEDIA_TYPE] = content.pop("application/json")
