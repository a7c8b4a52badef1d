"""How many transfers run at once: a gate with so many places, and threads of its own.

Whoever comes when all places are taken waits for a turn, in the order of coming, and is turned away
after a while. So the memory of the server is bounded by the number of places, whatever comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from chunkstore_api.problems import busy

Result = TypeVar("Result")


class Gate:
    """Places for transfers of one direction."""

    def __init__(self, what: str, places: int, wait: float) -> None:
        """`what` is the plural noun of the transfers, `wait` in seconds."""
        self._what = f"{places} {what}"
        self._places = asyncio.Semaphore(places)
        self._wait = wait
        self._threads = ThreadPoolExecutor(places, f"chunkstore-{what}")
        self.active = 0
        self.waiting = 0

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place within the block.

        Raises:
            RequestError: none became free for too long.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except TimeoutError:
            raise busy(self._what) from None
        finally:
            self.waiting -= 1
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._places.release()

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call a function that blocks in one of the gate's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def close(self) -> None:
        """End the threads once they have nothing to do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
