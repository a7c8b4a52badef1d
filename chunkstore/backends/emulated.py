"""Conditional writes by looking first, for storages that ignore the conditions.

Between the look and the write another writer may come: safe for one writer at a time only,
threads of one process included. Everything else is as the inner backend does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chunkstore.backends.base import (
    Access,
    Backend,
    Buffer,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    Overwrite,
    Presigned,
    PutMode,
    ReplaceIf,
)
from chunkstore.errors import ConditionFailedError, KeyAbsentError


class CheckThenPutBackend(Backend):
    """A backend around a backend that only overwrites."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def url(self) -> str:
        return self._inner.url

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        return self._inner.get(key, byte_range)

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        if not isinstance(mode, Overwrite):
            try:
                current: str | None = self._inner.head(key).version
            except KeyAbsentError:
                current = None
            if isinstance(mode, CreateOnly) and current is not None:
                raise ConditionFailedError(f"{key} is already there", operation="put", key=key)
            if isinstance(mode, ReplaceIf) and current != mode.version:
                raise ConditionFailedError(f"{key} has changed", operation="put", key=key)
        return self._inner.put(key, data, Overwrite())

    def head(self, key: str) -> ObjectInfo:
        return self._inner.head(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(prefix, after=after)

    def delete(self, keys: Sequence[str]) -> None:
        self._inner.delete(keys)

    def probe(self) -> Capabilities:
        return self._inner.probe()

    def access(self) -> Access:
        return self._inner.access()

    def presigned_get(
        self, key: str, byte_range: tuple[int, int], seconds: int
    ) -> Presigned | None:
        return self._inner.presigned_get(key, byte_range, seconds)  # no PUT: it has a condition

    def close(self) -> None:
        self._inner.close()
