"""A TCP proxy that lets each request wait: a server at a distance, on one machine. Linux only.

    python -m bench.delay_proxy PORT SECONDS

Runs before the server on PORT of 127.0.0.1 and prints its own port. A request begins with the first
bytes that come from a client after an answer; those wait, and all that follows passes as it comes,
so only round trips cost time. Bytes stay in the kernel (`splice`): about 0.3 s of CPU a GB. Each
line on stdin is answered by the counts so far as JSON; the end of stdin ends the proxy. `delayed`
runs it in a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
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
def delayed(port: int, seconds: float) -> Iterator[Delayed]:
    """Run the proxy before the server on `port` of 127.0.0.1."""
    command = [sys.executable, "-m", "bench.delay_proxy", str(port), str(seconds)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Delayed(process, int(process.stdout.readline()))
        finally:
            process.stdin.close()


def _pass_on(client: socket.socket, port: int, delay: float, counts: Counts) -> None:
    """Move bytes both ways until one side ends."""
    inlet, outlet = os.pipe()
    fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, _PIPE)

    def move(source: socket.socket, sink: socket.socket) -> int:
        count = left = os.splice(source.fileno(), outlet, _PIPE)
        while left:
            left -= os.splice(inlet, sink.fileno(), left)
        return count

    try:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll = select.poll()
            poll.register(client, select.POLLIN)
            poll.register(server, select.POLLIN)
            answered = moved = True
            while moved:
                for ready, _ in poll.poll():
                    if ready == server.fileno():
                        moved = bool(count := move(server, client))
                        answered, counts.bytes_down = True, counts.bytes_down + count
                        continue
                    if answered and client.recv(1, socket.MSG_PEEK):
                        time.sleep(delay)
                        answered, counts.requests = False, counts.requests + 1
                    moved = bool(count := move(client, server))
                    counts.bytes_up += count
    except OSError:
        pass  # one side hung up
    finally:
        os.close(inlet)
        os.close(outlet)


def _serve(listener: socket.socket, port: int, delay: float, all_counts: list[Counts]) -> None:
    while True:
        client, _ = listener.accept()
        counts = Counts(connections=1)
        all_counts.append(counts)
        threading.Thread(target=_pass_on, args=(client, port, delay, counts), daemon=True).start()


def main() -> int:
    """Run until stdin ends."""
    port, delay = int(sys.argv[1]), float(sys.argv[2])
    all_counts: list[Counts] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        arguments = (listener, port, delay, all_counts)
        threading.Thread(target=_serve, args=arguments, daemon=True).start()
        for _ in sys.stdin:
            total = Counts(*map(sum, zip(*map(astuple, [Counts(), *all_counts]), strict=True)))
            print(json.dumps(asdict(total)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
