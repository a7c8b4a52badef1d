"""A backend around a backend that tries again what may succeed later.

Waits grow and are jittered, and are no shorter than the server asked for; each call has a
deadline. A conditional write that is tried again may meet its own success and then raises
ConditionFailedError: deciding is the caller's, who reads back (see `refs` and `objects`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from chunkstore.backends.base import (
    Access,
    Backend,
    Buffer,
    Capabilities,
    Fetched,
    ObjectInfo,
    Presigned,
    PutMode,
)
from chunkstore.errors import BackendError, UnavailableError

log = logging.getLogger(__name__)

DEFAULT_DEADLINE: Final = 300.0
FIRST_DEADLINE: Final = 20.0
"""Until the storage has answered once, the address may be wrong: no sense in waiting long."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LONGEST_WAIT: Final = 30.0
"""However long a server asks to be left alone."""

Result = TypeVar("Result")


class RetryBackend(Backend):
    """Tries again what may succeed later, for at most `deadline` seconds a call.

    `on_retry` is told of each error that is tried again, from the calling thread. `clock`,
    `sleep` and `jitter` (the random share of a pause, 0 to 1) serve tests.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        deadline: float = DEFAULT_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
        on_retry: Callable[[BackendError], object] | None = None,
    ) -> None:
        self._inner = inner
        self._deadline = deadline
        self._first_deadline = min(deadline, FIRST_DEADLINE)
        self._clock = clock
        self._answered = False
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._jitter = jitter
        self._on_retry = on_retry

    @property
    def url(self) -> str:
        return self._inner.url

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        return self._try(lambda: self._inner.get(key, byte_range))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        return self._try(lambda: self._inner.put(key, data, mode))

    def head(self, key: str) -> ObjectInfo:
        return self._try(lambda: self._inner.head(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield as the inner backend; after a failure the listing goes on behind the last key.

        A listing that says it is `resumable` is asked again; any other is begun anew behind that
        key, because a generator that has raised would seem to have ended.
        """
        last = after
        listing = self._inner.list(prefix, after=last)

        def following() -> ObjectInfo | None:
            nonlocal listing
            try:
                return next(listing, None)
            except BackendError as error:
                if error.retryable and not getattr(listing, "resumable", False):
                    listing = self._inner.list(prefix, after=last)
                raise

        while (info := self._try(following)) is not None:
            last = info.key
            yield info

    def delete(self, keys: Sequence[str]) -> None:
        self._try(lambda: self._inner.delete(keys))

    def probe(self) -> Capabilities:
        return self._inner.probe()

    def access(self) -> Access:
        return self._try(self._inner.access)

    def presigned_get(
        self, key: str, byte_range: tuple[int, int], seconds: int
    ) -> Presigned | None:
        return self._try(lambda: self._inner.presigned_get(key, byte_range, seconds))

    def presigned_put(self, key: str, length: int, sha256: str, seconds: int) -> Presigned | None:
        return self._try(lambda: self._inner.presigned_put(key, length, sha256, seconds))

    def close(self) -> None:
        self._closed.set()  # ends pauses of other threads
        self._inner.close()

    def _try(self, call: Callable[[], Result]) -> Result:
        started = self._clock()
        pause = _FIRST_PAUSE
        while True:
            try:
                result = call()
                self._answered = True
                return result
            except BackendError as error:
                self._answered = self._answered or not error.retryable
                deadline = self._deadline if self._answered else self._first_deadline
                left = deadline - (self._clock() - started)
                if not error.retryable or self._closed.is_set():
                    raise
                if left <= 0:
                    raise self._given_up(error, deadline) from error
                log.warning("%s; trying again for %.0f s", error.message, left)
                if self._on_retry is not None:
                    self._on_retry(error)
                wait = min(error.wait or 0.0, _LONGEST_WAIT)
            self._sleep(min(left, wait + pause / 2 * (1 + self._jitter())))
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _given_up(self, error: BackendError, deadline: float) -> BackendError:
        return UnavailableError(
            f"{error.message}; given up after {deadline:.0f} s",
            operation=error.operation,
            key=error.key,
            hint="check that the storage is up and the address is right, then run the same "
            "command again: it goes on from what is stored",
        )
