"""Push and pull on S3 beside plain parallel PUT and GET of the very same stored objects.

    python -m bench.bench_s3 [--on minio seaweedfs] [--of random packages] [--line near far ...]

A round is: push into a new store, PUT of that store's packs, pull, GET of the packs, one after the
other through one proxy, in processes of their own. Plain requests are made by the `minio` SDK from
memory and to nowhere, on as many connections as push and pull have, so they cost no more than S3
does; the start of their process does not count, that of push and pull does. Prints the medians; CPU
of the server and of the client apart, because on one machine they share the cores.

What a pull has to do besides is much where client and server share the cores. So for random data
the same work is timed as well: `GET+` hashes what it gets, by chunks and as a whole, and writes it
to files. No store, no order, nothing in common: what each thread does is its own.

`near` is the server itself, `far` waits 20 ms at each request; `gigabit` and `far-gigabit` carry
125 MB/s each way, so that the line is the limit and not the cores.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import urllib3
from blake3 import blake3
from minio import Minio

from bench.delay_proxy import Delayed, delayed
from bench.package_tree import LARGE, unpack_packages
from chunkstore.testing import servers
from chunkstore.testing.trees import BLOCK, random_bytes

BUCKET: Final = "bench"
DATA: Final = Path(__file__).parent / "data"
LINES: Final = {
    "near": (0.0, float("inf")),
    "far": (0.02, float("inf")),
    "gigabit": (0.0, 125e6),
    "far-gigabit": (0.02, 125e6),
}
COMMAND: Final = Path(sys.executable).with_name("chunkstore")
NOT_PASSED_ON: Final = ("CHUNKSTORE_", "AWS_", "PYTHONDONTWRITEBYTECODE")
PUTS: Final = 2
GETS: Final = 4
CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds by the clock, CPU seconds of client and server, what passed the proxy."""

    what: str
    seconds: float
    client: float
    server: float
    requests: int
    connections: int
    stored: int


def write_random(root: Path, size: int) -> None:
    """Write files of 25 MB that do not compress."""
    for number in range(size // (25 * 1000**2)):
        with open(root / f"{number:04}", "wb") as file:
            for block in range(24):
                file.write(random_bytes(BLOCK, number * 100 + block + 1))


def write_packages(root: Path, size: int) -> None:
    """Copy as much of the package tree as is asked for, the small packages first."""
    packed, left = DATA / "packages", size
    if not packed.exists():
        part = packed.with_suffix(".part")
        unpack_packages(LARGE["v2"], DATA / "wheels" / "v2", part)
        part.rename(packed)
    packages = [*packed.iterdir()]
    for package in sorted(packages, key=lambda package: package.name == "tensorflow"):
        for path in sorted(package.rglob("*")):
            if (
                path.is_file()
                and not path.is_symlink()
                and (left := left - path.stat().st_size) > 0
            ):
                copy = root / path.relative_to(packed)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


MAKERS: Final[dict[str, Callable[[Path, int], None]]] = {
    "random": write_random,
    "packages": write_packages,
}


class Bench:
    """One server behind one line, and a tree to push."""

    def __init__(
        self, server: servers.Server, line: Delayed, tree: Path, folder: Path, *, bare: bool
    ) -> None:
        """Keep copies and caches in `folder`; `bare` times the bare work too."""
        self._bare = bare
        self._server = server
        self._line = line
        self._tree = tree
        self._folder = folder
        self._client = client_of(server.endpoint)
        self._environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("CHUNKSTORE_", "AWS_", "PYTHONDONTW"))
            },
            "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "CHUNKSTORE_CONFIG": str(folder / "config.toml"),
            "CHUNKSTORE_CACHE": str(folder / "cache"),
        }

    def round(self, number: int) -> list[Run]:
        """Push, put, pull and get once; remove what was stored."""
        store = f"s3://{BUCKET}/{number}/?endpoint={self._line.endpoint}"
        packs = self._folder / "packs"
        out = self._folder / "out"
        chunkstore = [str(COMMAND), "--quiet", "--store", store]
        plain = [sys.executable, "-m", "bench.bench_s3", "--plain", self._line.endpoint, str(packs)]
        try:
            subprocess.run(
                [*chunkstore, "init"],
                check=True,
                env=self._environment,
                stdout=subprocess.DEVNULL,
            )
            runs = [self._run("push", [*chunkstore, "push", str(self._tree), "data"])]
            self._download(number, packs)
            runs.append(self._plain("PUT", [*plain, "PUT"]))
            runs.append(self._run("pull", [*chunkstore, "pull", "data", str(out)]))
            runs.append(self._plain("GET", [*plain, "GET"]))
            if self._bare:
                runs.append(self._plain("GET+", [*plain, "GET+"]))
        finally:
            shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(packs, ignore_errors=True)
            shutil.rmtree(self._folder / "cache", ignore_errors=True)
            for item in self._client.list_objects(BUCKET, recursive=True):
                self._client.remove_object(BUCKET, item.object_name or "")
        return runs

    def _download(self, number: int, packs: Path) -> None:
        packs.mkdir()
        found = self._client.list_objects(BUCKET, prefix=f"{number}/packs/", recursive=True)
        for item in found:
            assert item.object_name is not None
            name = item.object_name.rpartition("/")[2]
            self._client.fget_object(BUCKET, item.object_name, str(packs / name))

    def _run(self, what: str, command: list[str]) -> Run:
        os.sync()
        counts, cpu, started = self._line.counts(), self._server_cpu(), time.monotonic()
        child = subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"{what} ended with status {child.returncode}")
        passed = self._line.counts().since(counts)
        return Run(
            what,
            seconds,
            usage.ru_utime + usage.ru_stime,
            self._server_cpu() - cpu,
            passed.requests,
            passed.connections,
            max(passed.bytes_up, passed.bytes_down),
        )

    def _plain(self, what: str, command: list[str]) -> Run:
        os.sync()
        counts, cpu = self._line.counts(), self._server_cpu()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        try:
            seconds, client = json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise RuntimeError(f"{what} printed {done.stdout!r}") from error
        passed = self._line.counts().since(counts)
        return Run(
            what,
            seconds,
            client,
            self._server_cpu() - cpu,
            passed.requests,
            passed.connections,
            max(passed.bytes_up, passed.bytes_down),
        )

    def _server_cpu(self) -> float:
        process = self._server._process
        assert process is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def client_of(endpoint: str) -> Minio:
    """Return the SDK's client with as many connections as are needed."""
    return Minio(
        endpoint.partition("://")[2],
        access_key=servers.ACCESS_KEY,
        secret_key=servers.SECRET_KEY,
        secure=False,
        region="us-east-1",
        http_client=urllib3.PoolManager(maxsize=32),
    )


def plain(endpoint: str, folder: Path, method: str) -> None:
    """Put the files of `folder`, or get the objects of those names; print seconds and CPU."""
    client = client_of(endpoint)
    objects = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    out = Path(tempfile.mkdtemp(dir=folder.parent))

    def put(name: str) -> None:
        data = objects[name]
        size = max(len(data), 5 * BLOCK)
        client.put_object(BUCKET, f"plain/{name}", io.BytesIO(data), len(data), part_size=size)

    def get(name: str) -> None:
        response = client.get_object(BUCKET, f"plain/{name}")
        if method == "GET+":
            _written(response, out / name)
        else:
            while response.read(BLOCK):
                pass
        response.release_conn()

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    run, connections = (put, PUTS) if method == "PUT" else (get, GETS)
    before, started = cpu(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        for _ in pool.map(run, objects):
            pass
    print(json.dumps([time.monotonic() - started, cpu() - before]))
    shutil.rmtree(out)


def _written(response: Any, path: Path) -> None:
    """Do to an answer what a pull does to bytes that were stored raw."""
    whole = blake3()
    with open(path, "wb", buffering=0) as file:
        while block := response.read(BLOCK):
            for at in range(0, len(block), CHUNK):
                blake3(memoryview(block)[at : at + CHUNK]).digest()
            whole.update(block)
            file.write(block)


def report(where: str, runs: list[Run]) -> None:
    """Print a row a kind of run, and how the speeds compare."""
    speeds: dict[str, float] = {}
    for what in dict.fromkeys(run.what for run in runs):
        own = [run for run in runs if run.what == what]
        seconds = statistics.median(run.seconds for run in own)
        stored = statistics.median(run.stored for run in own) / 1e6
        client = statistics.median(run.client for run in own)
        server = statistics.median(run.server for run in own)
        speeds[what] = stored / seconds
        beside = {"PUT": "push", "GET": "pull"}.get(what.rstrip("+"))
        ratio = f"  {beside} has {speeds[beside] / speeds[what]:4.0%} of it" if beside else ""
        times = " ".join(f"{run.seconds:5.2f}" for run in own)
        print(
            f"{where:32} {what:4} {stored:5.0f} MB {seconds:6.2f} s ({times})"
            f" {stored / seconds:5.0f} MB/s  CPU client {client:5.2f} server {server:5.2f}"
            f"  {own[-1].requests:3} requests, {own[-1].connections:2} connections{ratio}",
            flush=True,
        )


def main() -> int:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--on", nargs="+", default=["minio", "seaweedfs"])
    parser.add_argument("--of", nargs="+", default=list(MAKERS))
    parser.add_argument("--line", nargs="+", default=list(LINES))
    parser.add_argument("--size", type=int, default=500, help="MB of each tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.plain:
        plain(chosen.plain[0], Path(chosen.plain[1]), chosen.plain[2])
        return 0
    for content in chosen.of:
        with tempfile.TemporaryDirectory(prefix="chunkstore-s3-") as name:
            tree = Path(name) / "tree"
            tree.mkdir()
            MAKERS[content](tree, chosen.size * 1000**2)
            for place in chosen.on:
                with getattr(servers, place)() as server:
                    server.make_bucket(BUCKET)
                    for line in chosen.line:
                        with delayed(server.port, *LINES[line]) as proxy:
                            bench = Bench(server, proxy, tree, Path(name), bare=content == "random")
                            runs = [run for n in range(chosen.rounds) for run in bench.round(n)]
                        report(f"{content} on {place}, {line}", runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
