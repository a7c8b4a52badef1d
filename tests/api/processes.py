"""`chunkstore serve` as a process of its own, as users run it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cli.conftest import PROGRAM

MIB = 1024 * 1024


@dataclass
class Process:
    """A running server.

    Attributes:
        address: its URL.
        running: the process.
        log: the file of what it writes to stderr.
    """

    address: str
    running: subprocess.Popen[str]
    log: Path

    @property
    def files(self) -> str:
        """The URL of the files of the dataset `pets`."""
        return f"{self.address}/v1/datasets/pets/versions/latest/files"

    def peak(self) -> int:
        """Return the most memory that it ever had, in bytes."""
        lines = Path(f"/proc/{self.running.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.running.kill()
        self.running.wait()


@contextlib.contextmanager
def process(
    folder: Path, *options: str, store: str | None = None, **variables: str
) -> Iterator[Process]:
    """Run a server on a store that is there, by default `store` in a folder; end it in order.

    Args:
        folder: for its cache and log, and the default store.
        options: of `chunkstore serve`.
        store: where the store is.
        variables: more of the environment.
    """
    command = [PROGRAM, "serve", "-s", store or folder / "store", "--port", "0", "--quiet"]
    environment = {**os.environ, "CHUNKSTORE_CACHE": str(folder / "cache"), **variables}
    log = folder / "server.log"
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [*command, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as running,
    ):
        assert running.stdout is not None
        try:
            address = running.stdout.readline().strip()
            assert address, log.read_text()
            yield Process(address, running, log)
        finally:
            killed = running.returncode is not None
            running.terminate()
    assert killed or running.returncode == 0, log.read_text()
