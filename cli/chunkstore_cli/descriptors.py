"""How many files this process may have open, and a process that it starts.

Neighbours: `main` raises the limit, `host` gives it back to the process that is run.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from typing import Final

_MOST: Final = 8192
"""A pull of files of several chunks fetches as many at a time as it may have open, up to this."""

_given: Final[list[int]] = []


def allow_many() -> None:
    """Raise the soft limit, often 1,024, as far as is of use and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(_MOST, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        _given.append(soft)
        _limit(most)


@contextlib.contextmanager
def as_given() -> Iterator[None]:
    """Within the block, have the limit that this process was started with.

    A program that calls `select` must not get numbers beyond 1,023 from open files.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _given:
        _limit(_given[0])
    try:
        yield
    finally:
        _limit(soft)


def _limit(soft: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
