"""An HTTP proxy before an S3 server that loses, delays, cuts and refuses some of what passes.

Which requests suffer is decided by a seeded generator. Stands on `line`.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from chunkstore.testing.line import Answer, Line, Request, running

FAULTS: Final = ("drop", "delay", "truncate", "refuse", "lose answer")
"""The connection ends before the request is forwarded; the answer comes late; half of it comes;
503 instead of forwarding; the request takes effect and the connection ends without an answer."""


class FaultProxy(Line):
    """A running proxy. `share` of the requests suffer one of `faults`; all wait `delay` seconds."""

    def __init__(
        self,
        port: int,
        *,
        share: float = 0.0,
        faults: tuple[str, ...] = FAULTS,
        delay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(port)
        self.share = share
        self.faults = faults
        self.delay = delay
        self.requests: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def handle(self, request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
        """Forward the request, or let it suffer."""
        fault = self._choose(request.method)
        if self.delay:
            time.sleep(self.delay)
        if fault == "drop":
            return None
        if fault == "refuse":
            return Answer(503)
        if fault == "delay":
            time.sleep(0.3)
        answer = forward(request)
        if fault == "lose answer":
            return None
        length = len(answer.body)
        if fault == "truncate" and length > 1:
            return replace(answer, body=answer.body[: length // 2], declared=length)
        return answer

    def _choose(self, method: str) -> str | None:
        """Count a request; return the fault that it suffers, or None."""
        with self._lock:
            self.requests[method] += 1
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(self.faults)
            self.injected[fault] += 1
            return fault


@contextlib.contextmanager
def fault_proxy(
    port: int,
    *,
    share: float = 0.0,
    faults: tuple[str, ...] = FAULTS,
    delay: float = 0.0,
    seed: int = 0,
) -> Iterator[FaultProxy]:
    """Run a proxy before the server on `port` of 127.0.0.1."""
    with running(FaultProxy(port, share=share, faults=faults, delay=delay, seed=seed)) as proxy:
        yield proxy
