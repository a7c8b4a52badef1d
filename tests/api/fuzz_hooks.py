"""What schemathesis is told of bodies that are not JSON."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-tar")
def tar(context: Any, value: Any) -> bytes:
    """An archive is bytes; other values stand for what is none."""
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode(errors="ignore")


@schemathesis.deserializer("text/plain")
def text(context: Any, response: Any) -> str:
    """A file may have other bytes than its name suggests."""
    return bytes(response.content).decode("utf-8", "replace")
