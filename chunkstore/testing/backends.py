"""Backends around backends that count, fail, lose answers and die, all deterministically."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

from chunkstore.backends.base import (
    Access,
    Backend,
    Buffer,
    Capabilities,
    Fetched,
    ObjectInfo,
    Overwrite,
    PutMode,
)
from chunkstore.errors import UnavailableError

Result = TypeVar("Result")

METHODS: Final = ("get", "put", "head", "list", "delete")

FaultKind: TypeAlias = Literal["before", "after", "torn"]
"""`before`: the call has no effect; `after`: it has, and its answer is lost; `torn`: of a put
half the bytes land, of a delete half the keys go (what no backend may do, and bad storage does);
a torn read is one that fails."""


class CrashError(BaseException):
    """The process "died" here; no `except Exception` of the code under test can go on."""


class _Around(Backend):
    """What all of them have in common."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        return self.inner.url

    def probe(self) -> Capabilities:
        return self.inner.probe()

    def access(self) -> Access:
        return self.inner.access()

    def close(self) -> None:
        self.inner.close()


class CountingBackend(_Around):
    """Counts requests by method, and bytes.

    A listing counts once for each 1,000 objects begun, as an S3 server's pages do.

    Attributes:
        requests: how often each method was called.
        bytes_in: bytes that were put, successfully or not.
        bytes_out: bytes that were got.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin again at zero."""
        with self._lock:
            self.requests: Counter[str] = Counter()
            self.bytes_in = self.bytes_out = 0

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        self._count("get")
        fetched = self.inner.get(key, byte_range)
        self._count(bytes_out=len(fetched.data))
        return fetched

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        self._count("put", bytes_in=sum(memoryview(buffer).nbytes for buffer in data))
        return self.inner.put(key, data, mode)

    def head(self, key: str) -> ObjectInfo:
        self._count("head")
        return self.inner.head(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self._count("list")
        for number, info in enumerate(self.inner.list(prefix, after=after)):
            if number and number % 1000 == 0:
                self._count("list")
            yield info

    def delete(self, keys: Sequence[str]) -> None:
        self._count("delete")
        self.inner.delete(keys)

    def _count(self, method: str | None = None, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        with self._lock:
            if method:
                self.requests[method] += 1
            self.bytes_in += bytes_in
            self.bytes_out += bytes_out


def _unavailable(method: str, key: str) -> BaseException:
    return UnavailableError(
        f"{method} of {key}: failed on purpose", operation=method, key=key, retryable=True
    )


class FaultBackend(_Around):
    """Fails the calls whose numbers (from 1) are in `at`.

    Only calls of `methods` are numbered, in the order in which they begin. With `dies`, every
    call after the first fault fails too: the process has lost its storage, or its life.

    Attributes:
        calls: the (method, key) of every numbered call so far.
        faults: how many of them failed.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        at: Collection[int] = (),
        kind: FaultKind = "before",
        methods: Collection[str] = METHODS,
        dies: bool = False,
        error: Callable[[str, str], BaseException] = _unavailable,
    ) -> None:
        super().__init__(inner)
        self._at = frozenset(at)
        self._kind = kind
        self._methods = frozenset(methods)
        self._dies = dies
        self._error = error
        self._dead = False
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str]] = []
        self.faults = 0

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        if self._faulty("get", key):
            raise self._error("get", key)
        return self.inner.get(key, byte_range)

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        if not self._faulty("put", key):
            return self.inner.put(key, data, mode)
        if self._kind == "torn":
            joined = b"".join(data)
            self.inner.put(key, [joined[: len(joined) // 2]], Overwrite())
        elif self._kind == "after":
            self.inner.put(key, data, mode)
        raise self._error("put", key)

    def head(self, key: str) -> ObjectInfo:
        if self._faulty("head", key):
            raise self._error("head", key)
        return self.inner.head(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        if not self._faulty("list", prefix):
            return self.inner.list(prefix, after=after)
        return self._cut_listing(prefix, after)

    def _cut_listing(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        found = [*self.inner.list(prefix, after=after)] if self._kind != "before" else []
        yield from found[: len(found) // 2]
        raise self._error("list", prefix)

    def delete(self, keys: Sequence[str]) -> None:
        first = keys[0] if keys else ""
        if not self._faulty("delete", first):
            self.inner.delete(keys)
            return
        if self._kind != "before":
            self.inner.delete(keys if self._kind == "after" else keys[: len(keys) // 2])
        raise self._error("delete", first)

    def _faulty(self, method: str, key: str) -> bool:
        with self._lock:
            if self._dead:
                raise self._error(method, key)
            if method not in self._methods:
                return False
            self.calls.append((method, key))
            if len(self.calls) not in self._at:
                return False
            self.faults += 1
            self._dead = self._dies
            return True


class MeddlingBackend(_Around):
    """Lets others act on the storage at chosen moments of a caller's work.

    `before` and `after` are called with (number of the call, method, key), before the call takes
    effect and after it, when its answer is not yet given. Listings are taken whole.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        before: Callable[[int, str, str], object] = lambda *_: None,
        after: Callable[[int, str, str], object] = lambda *_: None,
    ) -> None:
        super().__init__(inner)
        self._before = before
        self._after = after
        self._lock = threading.Lock()
        self.calls = 0

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        return self._call("get", key, lambda: self.inner.get(key, byte_range))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        return self._call("put", key, lambda: self.inner.put(key, data, mode))

    def head(self, key: str) -> ObjectInfo:
        return self._call("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return iter(self._call("list", prefix, lambda: [*self.inner.list(prefix, after=after)]))

    def delete(self, keys: Sequence[str]) -> None:
        self._call("delete", keys[0] if keys else "", lambda: self.inner.delete(keys))

    def _call(self, method: str, key: str, call: Callable[[], Result]) -> Result:
        with self._lock:
            self.calls += 1
            number = self.calls
        self._before(number, method, key)
        result = call()
        self._after(number, method, key)
        return result


def crash(method: str, key: str) -> BaseException:
    """Return the error to give to FaultBackend, with `dies`, to simulate a killed process."""
    return CrashError(f"died in {method} of {key}")
