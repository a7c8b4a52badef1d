"""A backend in memory, for tests and for trying things out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from chunkstore.backends.base import (
    Backend,
    Buffer,
    Capabilities,
    CreateOnly,
    Fetched,
    ObjectInfo,
    PutMode,
    ReplaceIf,
    check_key,
)
from chunkstore.errors import (
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    UnavailableError,
)


class MemoryBackend(Backend):
    """Objects in a dict. `clock` gives the time of the storage in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self._writes = 0

    @property
    def url(self) -> str:
        return "memory:"

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        data, info = self._object("get", key)
        if byte_range is None:
            return Fetched(data, info.version)
        start, end = byte_range
        if not 0 <= start < end:
            raise InvalidInputError(f"not a range: {start}-{end}")
        if end > len(data):
            raise UnavailableError(
                f"{key} has {len(data)} bytes, not the range {start}-{end}",
                operation="get",
                key=key,
            )
        return Fetched(data[start:end], info.version)

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        joined = b"".join(data)
        check_key(key)
        with self._lock:
            found = self._objects.get(key)
            if isinstance(mode, CreateOnly) and found is not None:
                raise ConditionFailedError(f"{key} is already there", operation="put", key=key)
            if isinstance(mode, ReplaceIf) and (found is None or found[1].version != mode.version):
                raise ConditionFailedError(f"{key} has changed", operation="put", key=key)
            self._writes += 1
            info = ObjectInfo(key, len(joined), str(self._writes), self._clock())
            self._objects[key] = (joined, info)
            return info.version

    def head(self, key: str) -> ObjectInfo:
        return self._object("head", key)[1]

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            found = [
                info
                for key, (_, info) in self._objects.items()
                if key.startswith(prefix) and key > after
            ]
        yield from sorted(found, key=lambda info: info.key)

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._objects.pop(check_key(key), None)

    def probe(self) -> Capabilities:
        # Every put holds the one lock from its look to its write: no race is needed to know.
        return Capabilities("memory", create_only=True, replace_if=True)

    def _object(self, operation: str, key: str) -> tuple[bytes, ObjectInfo]:
        with self._lock:
            found = self._objects.get(check_key(key))
        if found is None:
            raise KeyAbsentError(f"no object {key}", operation=operation, key=key)
        return found
