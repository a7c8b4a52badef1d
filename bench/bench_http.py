"""How fast one server process streams a file out and takes one in, beside a bare stream of FastAPI.

Both are asked by curl, in turns, in the same run. Then 64 downloads and 16 uploads come at once.

    python -m bench.bench_http [--megabytes 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chunkstore import Store
from chunkstore.testing.servers import free_ports
from chunkstore.testing.trees import write_mixture

BARE = """
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app, block = FastAPI(), bytes(1 << 20)

@app.get("/{count}")
async def out(count: int):
    async def blocks():
        for _ in range(count):
            yield block
    return StreamingResponse(blocks())

@app.put("/{count}")
async def take(count: int, request: Request):
    taken = 0
    async for part in request.stream():
        taken += len(part)
    return taken

uvicorn.run(app, port=PORT, log_level="warning")
"""


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, once it answers."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait = ["curl", "-s", "--retry", "60", "--retry-delay", "1", "--retry-connrefused"]
            subprocess.run([*wait, "-o", "/dev/null", f"http://127.0.0.1:{port}/"], check=True)
            yield server
        finally:
            server.terminate()


def curl(*arguments: str) -> float:
    """Run curl; return its seconds."""
    started = time.monotonic()
    command = ["curl", "-sS", "--fail", "-o", "/dev/null", *arguments]
    subprocess.run(command, check=True)
    return time.monotonic() - started


def peak(server: subprocess.Popen[bytes]) -> int:
    """Return the most memory that a process ever had, in MiB."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def rates(ways: dict[str, Callable[[int], float]], megabytes: int, rounds: int) -> dict[str, float]:
    """Return the median MB/s of each way, in rounds in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(megabytes / way(number))
    for name, each in found.items():
        print(
            f"{name:24} {statistics.median(each):7.0f} MB/s  ({min(each):.0f} to {max(each):.0f})"
        )
    return {name: statistics.median(each) for name, each in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    size = given.megabytes * 1_000_000
    ports = free_ports(2)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources = [folder / f"source{number}" for number in range(given.rounds)]
        for number, source in enumerate(sources):
            write_mixture(source, size, number)
        with Store.create(str(folder / "store"), cache_folder=folder / "cache") as store:
            store.push(str(sources[0]), "bench", name="large")
        serve = [sys.executable, "-c", "from chunkstore_cli.main import main; main()", "serve"]
        serve += ["--store", str(folder / "store"), "--quiet", "--port", str(ports[0])]
        server = stack.enter_context(running(serve, ports[0]))
        stack.enter_context(
            running([sys.executable, "-c", BARE.replace("PORT", str(ports[1]))], ports[1])
        )
        bare = f"http://127.0.0.1:{ports[1]}/{size >> 20}"
        files = f"http://127.0.0.1:{ports[0]}/v1/datasets/{{}}/versions/latest/files/large"
        found = rates(
            {
                "out, chunkstore": lambda _: curl(files.format("bench")),
                "out, bare zeros": lambda _: curl(bare),
                "in, chunkstore, new": lambda n: curl("-T", str(sources[n]), files.format(f"r{n}")),
                "in, chunkstore, again": lambda n: curl(
                    "-T", str(sources[n]), files.format(f"a{n}")
                ),
                "in, bare": lambda n: curl("-T", str(sources[n]), bare),
            },
            given.megabytes,
            given.rounds,
        )
        print(f"out: {found['out, chunkstore'] / found['out, bare zeros']:.2f} of the bare stream")
        print(f"in, new: {found['in, chunkstore, new'] / found['in, bare']:.2f} of the bare one")
        many(files, sources[-1], server)


def many(files: str, source: Path, server: subprocess.Popen[bytes]) -> None:
    """Have 64 downloads and 16 uploads of 100 MB at once; print how long each took."""
    small = source.with_name("small")
    with source.open("rb") as file:
        small.write_bytes(file.read(100_000_000))
    curl("-T", str(small), files.format("small"))
    with ThreadPoolExecutor(80) as pool:
        ups = [pool.submit(curl, "-T", str(small), files.format(f"up{n}")) for n in range(16)]
        downs = [pool.submit(curl, files.format("small")) for _ in range(64)]
        for what, all_of_them in (("64 downloads", downs), ("16 uploads", ups)):
            took = [each.result() for each in all_of_them]
            middle = statistics.median(took)
            print(f"{what}: {min(took):.1f} to {max(took):.1f} s, median {middle:.1f}")
    print(f"most memory of the server: {peak(server)} MiB")


if __name__ == "__main__":
    main()
