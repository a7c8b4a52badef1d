"""Large files by curl alone, on a folder and on MinIO; what broke off goes on."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from chunkstore import Store
from chunkstore.testing import servers
from chunkstore.testing.servers import free_ports
from chunkstore.testing.trees import mixture, random_bytes
from tests.api.processes import MIB, process

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]

ONE_EACH_WAY = 320 * MIB
"""What a server of one transfer each way may need at most, whatever the file."""

BLOCK = 1 << 20


def curl(*arguments: object) -> bytes:
    """Run curl; return its output."""
    command = ["curl", "--silent", "--show-error", "--fail", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def hash_of(path: Path) -> str:
    """Return the BLAKE3 of a file."""
    return blake3(max_threads=1).update_mmap(path).hexdigest()


def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, str]]:
    """Make a store; return its address, and the variables with which a process may open it."""
    if kind == "folder":
        url = str(folder / "store")
        Store.create(url).close()
        return url, {}
    server: servers.Server = request.getfixturevalue(kind)
    url = server.store_url("tests", f"curl-{folder.name}")
    Store.create(url, s3=server.options, cache_folder=folder / "made").close()
    keys = {
        "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
        "AWS_REGION": "us-east-1",
    }
    return url, keys


def write(path: Path, size: int) -> str:
    """Write a file that begins with text, so that its answers are encoded; return its hash."""
    with path.open("wb") as file:
        file.write(b"miaow\n" * 500_000)
        for block in mixture(size - file.tell(), 1):
            file.write(block)
    return hash_of(path)


def encode(source: Path, target: Path, coding: str, level: int) -> None:
    """Write a file in a content coding."""
    with source.open("rb") as plain, target.open("wb") as file:
        if coding == "zstd":
            zstandard.ZstdCompressor(level=1).copy_stream(plain, file)
        else:
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=level) as packed:
                shutil.copyfileobj(plain, packed, BLOCK)


@pytest.mark.parametrize("kind", ["folder", "minio"])
@pytest.mark.parametrize(
    ("size", "level"),
    [(500_000_000, 0), pytest.param(2_000_000_000, 6, marks=pytest.mark.large)],
)
def test_a_large_file_by_curl(
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, object], None],
    tmp_path: Path,
    kind: str,
    size: int,
    level: int,
) -> None:
    """Chunked, plain, gzip and zstd, up and down, in ranges and two halves, nothing differs."""
    url, variables = place_of(kind, request, tmp_path)
    original, got, packed = (tmp_path / name for name in ("original", "got", "packed"))
    known = write(original, size)
    options = ("--uploads", "1", "--downloads", "1")
    with process(tmp_path, *options, store=url, **variables) as server:
        answer = json.loads(
            subprocess.run(
                f"cat {original} | curl -sS --fail -T - {server.files}/chunked",
                shell=True,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        assert answer["hash"] == known
        assert answer["size"] == size
        curl("-T", original, f"{server.files}/plain")
        for coding in ("gzip", "zstd"):
            encode(original, packed, coding, level)
            header = f"Content-Encoding: {coding}"
            sent = json.loads(curl("-T", packed, "-H", header, f"{server.files}/{coding}"))
            assert (sent["hash"], sent["new_bytes"]) == (known, 0)
        packed.unlink()
        ways: dict[str, list[str]] = {
            "chunked": [],
            "plain": ["-H", "Accept-Encoding: zstd"],
            "gzip": ["--compressed", "-H", "Accept-Encoding: gzip"],
        }
        for name, more in ways.items():
            curl("-o", got, *more, f"{server.files}/{name}")
            if name == "plain":
                with got.open("rb") as file, (tmp_path / "undone").open("wb") as target:
                    zstandard.ZstdDecompressor().copy_stream(file, target)
                (tmp_path / "undone").replace(got)
            assert hash_of(got) == known, name
        for first, last in ((0, 0), (size // 2, size // 2 + 12_345), (size - 10, size - 1)):
            with original.open("rb") as file:
                file.seek(first)
                wanted = file.read(last + 1 - first)
            assert curl("-r", f"{first}-{last}", f"{server.files}/zstd") == wanted
        with got.open("r+b") as file:
            file.truncate(size // 3)
        curl("-C", "-", "-o", got, f"{server.files}/zstd")
        assert hash_of(got) == known
        peak = server.peak()
    record_testsuite_property(f"peak memory, {kind}, {size}", peak)
    assert peak < ONE_EACH_WAY


def wait_for(reached: Callable[[], bool], running: subprocess.Popen[Any]) -> None:
    """Wait until something is so while a process runs."""
    while not reached():
        assert running.poll() is None, "it ended before"
        time.sleep(0.02)


SIZE = 48_000_000


@pytest.fixture
def port() -> str:
    """A port on which a server can be started again."""
    return str(free_ports(1)[0])


def test_an_upload_that_broke_off_stores_only_the_rest(
    record_testsuite_property: Callable[[str, object], None], tmp_path: Path, port: str
) -> None:
    """A server killed in the middle of an upload shows nothing; the same again sends what lacks."""
    original = tmp_path / "original"
    original.write_bytes(random_bytes(SIZE, 1))
    Store.create(str(tmp_path / "store"), pack_length=4 * MIB).close()

    def stored(kind: str) -> int:
        found = (tmp_path / "store" / kind).rglob("*")
        return sum(file.stat().st_size for file in found if file.is_file())

    with process(tmp_path, "--port", port) as server:
        address = f"{server.files}/large"
        command = ["curl", "-sS", "--limit-rate", "2500K", "-T", str(original), address]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as sending:
            wait_for(lambda: stored("index") > 0, sending)  # every 15 seconds
            server.kill()
        assert sending.returncode != 0
    before = stored("packs")
    assert before > SIZE // 4
    with process(tmp_path, "--port", port):
        listed = subprocess.run(["curl", "-s", address.partition("/versions")[0]], stdout=-1)
        assert b'"code":"not_found"' in listed.stdout
        answer = json.loads(curl("-T", original, address))
        assert answer["hash"] == blake3(original.read_bytes()).hexdigest()
        assert answer["stored_bytes"] < SIZE - before + 8 * MIB
        assert hash_of(original) == blake3(curl(address)).hexdigest()
    record_testsuite_property("stored before and after", (before, answer["stored_bytes"]))


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_download_that_broke_off_goes_on(tmp_path: Path, port: str, program: str) -> None:
    """A server killed in the middle of a download: `curl -C -` and `wget -c` fetch the rest."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    original, got = tmp_path / "original", tmp_path / "got"
    original.write_bytes(random_bytes(SIZE, 2))
    with Store.create(str(tmp_path / "store")) as store:
        store.push(str(original), "pets", name="large")
    known = hash_of(original)
    ways = {
        "curl": ["curl", "-sS", "--fail", "-C", "-", "-o", str(got)],
        "wget": ["wget", "-q", "--tries=1", "-c", "-O", str(got)],
    }
    slow = {"curl": ["--limit-rate", "20M"], "wget": ["--limit-rate=20m"]}[program]
    command = ways[program]
    with process(tmp_path, "--port", port) as server:
        address = f"{server.files}/large"
        with subprocess.Popen([*command, *slow, address], stderr=subprocess.DEVNULL) as running:
            wait_for(lambda: got.exists() and got.stat().st_size > SIZE // 3, running)
            server.kill()
        assert running.returncode != 0
    arrived = got.stat().st_size
    assert SIZE // 3 < arrived < SIZE
    with process(tmp_path, "--port", port) as server:
        subprocess.run([*command, address], check=True)
        metrics = curl(f"{server.address}/metrics").decode()
    assert hash_of(got) == known
    sent = next(line for line in metrics.splitlines() if line.startswith("chunkstore_http_sent"))
    assert SIZE - arrived <= float(sent.split()[-1]) < SIZE - arrived + MIB
