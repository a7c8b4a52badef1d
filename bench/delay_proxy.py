"""A TCP proxy that lets each request wait: a server at a distance, on one machine. Linux only.

    python -m bench.delay_proxy PORT SECONDS [BYTES_A_SECOND]

Runs before the server on PORT of 127.0.0.1 and prints its own port. A request begins with the first
bytes that come from a client after an answer; those wait, and all that follows passes as it comes,
so only round trips cost time. Where a rate is given, all connections share it, each way. Bytes stay
in the kernel (`splice`): about 0.3 s of CPU a GB. Each line on stdin is answered by the counts so
far as JSON; the end of stdin ends the proxy. `delayed` runs it in a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Final

_PIPE: Final = 1 << 20


@dataclass
class Counts:
    """What has passed: connections, requests, bytes towards the server and back."""

    connections: int = 0
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def since(self, before: Counts) -> Counts:
        """Return what was added after `before`."""
        return Counts(
            *(now - then for now, then in zip(astuple(self), astuple(before), strict=True))
        )


class Delayed:
    """A running proxy, seen from the process that started it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        """Take a process that has told its port."""
        self._process = process
        self.endpoint = f"http://127.0.0.1:{port}"

    def counts(self) -> Counts:
        """Return what has passed so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return Counts(**json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def delayed(port: int, seconds: float, rate: float = math.inf) -> Iterator[Delayed]:
    """Run the proxy before the server on `port` of 127.0.0.1."""
    command = [sys.executable, "-m", "bench.delay_proxy", str(port), str(seconds), str(rate)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Delayed(process, int(process.stdout.readline()))
        finally:
            process.stdin.close()


class _Way:
    """One direction of the line, which all connections share."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, length: int) -> None:
        """Wait until the line has carried `length` bytes more."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + length / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


@dataclass(frozen=True)
class _Line:
    port: int
    delay: float
    up: _Way
    down: _Way


def _pass_on(client: socket.socket, line: _Line, counts: Counts) -> None:
    """Move bytes both ways until one side ends."""
    inlet, outlet = os.pipe()
    fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, _PIPE)

    def move(source: socket.socket, sink: socket.socket, way: _Way) -> int:
        count = left = os.splice(source.fileno(), outlet, _PIPE)
        way.take(count)
        while left:
            left -= os.splice(inlet, sink.fileno(), left)
        return count

    try:
        with client, socket.create_connection(("127.0.0.1", line.port)) as server:
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll = select.poll()
            poll.register(client, select.POLLIN)
            poll.register(server, select.POLLIN)
            answered = moved = True
            while moved:
                for ready, _ in poll.poll():
                    if ready == server.fileno():
                        moved = bool(count := move(server, client, line.down))
                        answered, counts.bytes_down = True, counts.bytes_down + count
                        continue
                    if answered and client.recv(1, socket.MSG_PEEK):
                        time.sleep(line.delay)
                        answered, counts.requests = False, counts.requests + 1
                    moved = bool(count := move(client, server, line.up))
                    counts.bytes_up += count
    except OSError:
        pass  # one side hung up
    finally:
        os.close(inlet)
        os.close(outlet)


def _serve(listener: socket.socket, line: _Line, all_counts: list[Counts]) -> None:
    while True:
        client, _ = listener.accept()
        counts = Counts(connections=1)
        all_counts.append(counts)
        threading.Thread(target=_pass_on, args=(client, line, counts), daemon=True).start()


def main() -> int:
    """Run until stdin ends."""
    port, delay, rate = int(sys.argv[1]), float(sys.argv[2]), float([*sys.argv, math.inf][3])
    line = _Line(port, delay, _Way(rate), _Way(rate))
    all_counts: list[Counts] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_serve, args=(listener, line, all_counts), daemon=True).start()
        for _ in sys.stdin:
            total = Counts(*map(sum, zip(*map(astuple, [Counts(), *all_counts]), strict=True)))
            print(json.dumps(asdict(total)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
