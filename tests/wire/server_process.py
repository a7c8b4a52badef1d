"""`chunkstore serve` as a process that can be killed, and started again at the same address."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chunkstore.testing.servers import ACCESS_KEY, SECRET_KEY, free_ports

_COMMAND = [sys.executable, "-c", "from chunkstore_cli.main import main; main()", "serve"]


@dataclass
class ServerProcess:
    """A server of one store."""

    store: str
    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        command = [*_COMMAND, "--json", "-s", self.store, "--port", str(self.port), *self.options]
        environment = {
            **os.environ,
            "CHUNKSTORE_CACHE": str(self.folder / "server-cache"),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / "server.log").read_text()
        assert json.loads(line)["type"] == "listening"

    def kill(self) -> None:
        """Kill it by SIGKILL, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None


@contextlib.contextmanager
def server_process(store: str, folder: Path, *options: str) -> Iterator[ServerProcess]:
    """Run a server of a store; `folder` is for its log and cache."""
    server = ServerProcess(store, folder, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
