"""The probe: racing writers find out whether a storage honours conditional writes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chunkstore.backends.base import Backend, CreateOnly, Overwrite, PutMode, ReplaceIf
from chunkstore.errors import BackendError, ConditionFailedError

_WRITERS: Final = 8
_ROUNDS: Final = 3
_TRIES: Final = 5


def race(backend: Backend) -> tuple[bool, bool]:
    """Return whether of racing create-only and replace-if writes exactly one wins each time.

    Raises:
        BackendError: the storage cannot be written, or fails again and again.
    """
    with ThreadPoolExecutor(_WRITERS) as pool:
        create = _honours(backend, pool, lambda _: CreateOnly())
        replace = _honours(
            backend, pool, lambda key: ReplaceIf(backend.put(key, [b"first"], Overwrite()))
        )
    return create, replace


def _honours(backend: Backend, pool: ThreadPoolExecutor, mode: Callable[[str], PutMode]) -> bool:
    rounds = failures = 0
    while rounds < _ROUNDS:
        key = f"probe/{secrets.token_hex(8)}"
        try:
            outcomes = _one_round(backend, pool, key, mode(key))
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


def _one_round(
    backend: Backend, pool: ThreadPoolExecutor, key: str, mode: PutMode
) -> list[bool | BackendError]:
    def write(number: int) -> bool | BackendError:
        try:
            backend.put(key, [b"%d" % number], mode)
        except ConditionFailedError:
            return False
        except BackendError as error:
            return error
        return True

    return list(pool.map(write, range(_WRITERS)))
