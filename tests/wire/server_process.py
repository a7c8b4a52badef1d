"""`chunkstore serve` as a process that can be killed, and started again at the same address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chunkstore.testing.servers import ACCESS_KEY, SECRET_KEY, free_ports
from tests.api.processes import Process, process


@dataclass
class ServerProcess:
    """A server of one store."""

    store: str
    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _running: Process | None = field(default=None, init=False)
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        started = process(
            self.folder,
            *("--port", str(self.port), *self.options),
            store=self.store,
            CHUNKSTORE_CACHE=str(self.folder / "server-cache"),
            AWS_ACCESS_KEY_ID=ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        )
        self._running = self._ends.enter_context(started)

    def kill(self) -> None:
        """Kill it by SIGKILL, whatever it does."""
        if self._running is not None:
            self._running.kill()
            self._running = None
            self._ends.close()


@contextlib.contextmanager
def server_process(store: str, folder: Path, *options: str) -> Iterator[ServerProcess]:
    """Run a server of a store; `folder` is for its log and cache."""
    server = ServerProcess(store, folder, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
