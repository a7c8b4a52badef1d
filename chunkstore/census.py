"""How much there is to push, counted beside the push, so that its progress has a total.

A push reads its folder as a stream and does not know how much follows. Where it takes longer than
a second, a second walk counts: it looks at names and sizes only and is soon ahead. Neighbours:
`walk` finds the files, `ingest` tells.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from chunkstore.walk import Found, LeftOut, size_of

PATIENCE: Final = 1.0
"""Seconds before counting begins: a push that is over by then needs no total."""

Walk: TypeAlias = Callable[[], Iterable[Found | LeftOut] | None]


class Census:
    """Counts the files and bytes of a source in a thread of its own."""

    def __init__(self, walk: Walk, *, patience: float = PATIENCE) -> None:
        """`walk` goes through the source, called in the thread; None: that cannot be done."""
        self._walk = walk
        self._patience = patience
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._count, name="chunkstore-census", daemon=True)
        self.totals: tuple[int, int] | None = None
        """(files, bytes), None until all is counted."""

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _count(self) -> None:
        if self._stopped.wait(self._patience):
            return
        found = self._walk()
        if found is None:
            return
        files = size = 0
        for item in found:
            if self._stopped.is_set():
                return
            if isinstance(item, Found):
                files += 1
                size += size_of(item)
        self.totals = files, size
