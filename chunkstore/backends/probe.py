"""The probe: racing writers find out whether a storage honours conditional writes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chunkstore.backends.base import Backend, CreateOnly, Overwrite, PutMode, ReplaceIf
from chunkstore.errors import BackendError, ConditionFailedError

# More writers find no more, and cost: on SeaweedFS 4.48, where a writer that meets another waits
# for whole seconds, a round of 8 took 1.7 s in the mean, a round of 4 took 0.3.
_WRITERS: Final = 4
_ROUNDS: Final = 3
_TRIES: Final = 5


def race(backend: Backend) -> tuple[bool, bool]:
    """Return whether of racing create-only and replace-if writes exactly one wins each time.

    Raises:
        BackendError: the storage cannot be written, or fails again and again.
    """
    with ThreadPoolExecutor(2) as both:
        create = both.submit(_honours, backend, lambda _: CreateOnly())
        replace = both.submit(
            _honours, backend, lambda key: ReplaceIf(backend.put(key, [b"first"], Overwrite()))
        )
    return create.result(), replace.result()


def _honours(backend: Backend, mode: Callable[[str], PutMode]) -> bool:
    rounds = failures = 0
    while rounds < _ROUNDS:
        key = f"probe/{secrets.token_hex(8)}"
        try:
            outcomes = _one_round(backend, key, mode(key))
        finally:
            backend.delete([key])
        winners = outcomes.count(True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BackendError)]
        if winners > 1:
            return False
        if errors:  # the round says nothing: the winner's answer may be the one that was lost
            failures += 1
            if failures == _TRIES or not errors[0].retryable:
                raise errors[0]
        elif winners == 0:
            return False
        else:
            rounds += 1
    return True


def _one_round(backend: Backend, key: str, mode: PutMode) -> list[bool | BackendError]:
    start = threading.Barrier(_WRITERS)

    def write(number: int) -> bool | BackendError:
        start.wait()
        try:
            backend.put(key, [b"%d" % number], mode)
        except ConditionFailedError:
            return False
        except BackendError as error:
            return error
        return True

    with ThreadPoolExecutor(_WRITERS) as pool:
        return list(pool.map(write, range(_WRITERS)))
