"""Takes threads, clocks and chance out of the library, so that a run is decided by its seed alone.

Nothing of the library's behaviour is replaced: work that was given to a pool is done at once, by
who gave it; a pause takes none; the random bytes of nonces and the time come from the run.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

import chunkstore.store
from chunkstore import census


class InlineExecutor(Executor):
    """Does what it is given at once, in the caller's thread."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what a ThreadPoolExecutor takes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # a death too, as a pool does
            future.set_exception(error)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        return iter([fn(*args) for args in zip(*iterables, strict=False)])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: all is done."""


class Time:
    """Stands for the module `time`: it passes with the calls of the storage, and by pauses."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.tick = 0

    def time(self) -> float:
        return self.now

    monotonic = perf_counter = time

    def time_ns(self) -> int:
        self.tick += 1
        return int(self.now * 1e9) + self.tick

    perf_counter_ns = thread_time_ns = time_ns

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class _Secrets:
    """Stands for the module `secrets`."""

    compare_digest = staticmethod(secrets.compare_digest)

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_bytes(self, length: int = 32) -> bytes:
        return self._chance.randbytes(length)

    def token_hex(self, length: int = 32) -> str:
        return self.token_bytes(length).hex()


class _NoThread:
    """Stands for the thread that counts how much there is to push."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what a Census takes."""
        self.totals = None

    def __enter__(self) -> _NoThread:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


@contextlib.contextmanager
def deterministic(chance: random.Random) -> Iterator[Time]:
    """Let every module of the library work so, and give the time that it reads."""
    assert chunkstore.store
    clock, stand_in = Time(), _Secrets(chance)
    replaced: list[tuple[object, object]] = [
        (time, clock),
        (secrets, stand_in),
        (random, chance),
        (ThreadPoolExecutor, InlineExecutor),
        (census.Census, _NoThread),
    ]
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if not name.startswith("chunkstore") or name.startswith("chunkstore.testing"):
                continue
            for attribute, value in list(vars(module).items()):
                for old, new in replaced:
                    if value is old:
                        stack.enter_context(mock.patch.object(module, attribute, new))
        yield clock
