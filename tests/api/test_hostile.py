"""Clients that mean harm: what they send is refused, costs little, and is not visible."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import zstandard

from chunkstore import Store
from tests.api.conftest import FILES, Served
from tests.api.processes import MIB, Process, process
from tests.library.test_tar import HOSTILE, member, tar_of

TAR = "/v1/datasets/pets/versions"
BOMB = 1 << 30
BLOCK = bytes(1 << 20)


def squeeze(encoder: object, size: int) -> bytes:
    """Return zeros, encoded."""
    parts = [encoder.compress(BLOCK) for _ in range(size // len(BLOCK))]  # type: ignore[attr-defined]
    return b"".join([*parts, encoder.flush()])  # type: ignore[attr-defined]


def sparse_tar() -> Iterator[bytes]:
    """Yield an archive of one file, which says that it is huge, and is."""
    info = tarfile.TarInfo("zeros")
    info.size = BOMB
    yield info.tobuf()
    for _ in range(BOMB // len(BLOCK)):
        yield BLOCK


def crowded_tar() -> Iterator[bytes]:
    """Yield an archive of ever more files."""
    for number in range(1_500_000):
        yield tarfile.TarInfo(f"{number:07}").tobuf()


def deep_tar() -> Iterator[bytes]:
    """Yield an archive of folders, each in the one before, and a file in the last."""
    for depth in range(1, 2000):
        info = tarfile.TarInfo("/".join("a" * depth))
        info.type = tarfile.DIRTYPE
        yield info.tobuf(tarfile.GNU_FORMAT)
    yield bytes(1024)


BOMBS: dict[str, tuple[str, dict[str, str], Callable[[], bytes | Iterator[bytes]]]] = {
    "gzip": (
        "file",
        {"Content-Encoding": "gzip"},
        lambda: squeeze(zlib.compressobj(1, wbits=31), BOMB),
    ),
    "zstd": (
        "file",
        {"Content-Encoding": "zstd"},
        lambda: squeeze(zstandard.ZstdCompressor(1).compressobj(), BOMB),
    ),
    "gzip members": (
        "file",
        {"Content-Encoding": "gzip"},
        lambda: gzip.compress(BLOCK * 64) * (BOMB // len(BLOCK) // 64),
    ),
    "zstd frames": (
        "file",
        {"Content-Encoding": "zstd"},
        lambda: zstandard.compress(BLOCK * 64) * (BOMB // len(BLOCK) // 64),
    ),
    "tar of zeros": ("tar", {}, sparse_tar),
    "tar in gzip": (
        "tar",
        {"Content-Encoding": "gzip"},
        lambda: (
            gzip.compress(next(sparse_tar()))
            + gzip.compress(BLOCK * 64) * (BOMB // len(BLOCK) // 64)
        ),
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that takes at most 64 MiB at once."""
    folder = tmp_path_factory.mktemp("small")
    Store.create(str(folder / "store")).close()
    with process(folder, "--upload-size", "64M", "--uploads", "1") as running:
        yield running
        assert "Traceback" not in running.log.read_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(small: Process, name: str) -> None:
    """What grows to 1 GiB when it is undone gets 413 before it did, in bounded memory."""
    kind, headers, make = BOMBS[name]
    with httpx.Client(timeout=120) as client:
        ways = {"file": ("PUT", f"{small.files}/a"), "tar": ("POST", small.address + TAR)}
        try:
            answer = client.request(*ways[kind], content=make(), headers=headers)
            assert answer.status_code == 413, answer.text
            assert answer.json()["code"] == "too_large"
        except httpx.WriteError:
            pass  # it went on sending, and was cut off
        assert client.get(f"{small.address}/v1/datasets").json()["datasets"] == []
    assert small.peak() < 300 * MIB  # that of any upload


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("make", [deep_tar, pytest.param(crowded_tar, marks=pytest.mark.large)])
def test_huge_trees(small: Process, make: Callable[[], Iterator[bytes]]) -> None:
    """Archives of more or deeper members than a version may have are refused as they come."""
    with httpx.Client(timeout=1200) as client:
        try:
            answer = client.post(small.address + TAR, content=make())
            assert answer.status_code in (400, 413), answer.text
        except httpx.WriteError:
            pass
        assert client.get(f"{small.address}/v1/datasets").json()["datasets"] == []
    assert small.peak() < (800 if make is crowded_tar else 300) * MIB


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(shared: Served, name: str) -> None:
    """An archive that the library refuses gets 400, in every coding, with what was good in it."""
    data = tar_of((member("good"), b"good"))[:1024] + HOSTILE[name]()
    before = shared.store.datasets()
    for coding, body in (("identity", data), ("gzip", gzip.compress(data))):
        answer = shared.client.post(TAR, content=body, headers={"Content-Encoding": coding})
        document = shared.problem(answer, 400, "invalid_input")
        assert "Traceback" not in str(document["detail"])
    assert shared.store.datasets() == before


PATHS = (
    "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "a%00b", "a%0ab", "a%5cb", "a//b",
    "x" * 300, "x/" * 3000, "%f0%80%80%80", "%ed%a0%80", "a%7f", "%e2%80%ae.txt%0d%0aX:%20y",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_hostile_names(shared: Served, path: str) -> None:
    """A path that no version can hold gets 400 for a PUT and nothing for a GET."""
    for base in (FILES, "/artifacts/pets/upload"):
        answer = shared.client.put(f"{base}/{path}", content=b"x")
        assert answer.status_code in (400, 404, 405), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert shared.client.get(f"{FILES}/{path}").status_code in (400, 404)
    assert "pets" not in shared.store.datasets()


NAMES = ("..", "%2e%2e", "A", "a%20b", "a%00", "-a", "a" * 300, "%c3%bc", "a%2f%2e%2e%2fb", "refs")


@pytest.mark.parametrize("name", NAMES)
def test_hostile_datasets(shared: Served, name: str) -> None:
    """A name that no dataset can have is refused, and reaches no other object of the store."""
    answer = shared.client.put(f"/v1/datasets/{name}/versions/latest/files/a", content=b"x")
    if name == "refs":
        assert answer.status_code == 201
        return
    assert answer.status_code in (400, 404, 405), answer.text


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Range", "bytes=" + "0-0," * 3000),
        ("Range", "bytes=-" + "9" * 3000),
        ("Range", "bytes=99999999999999999999-"),
        ("If-None-Match", '"' * 8000),
        ("If-None-Match", 'W/"a",' * 2000),
        ("If-Match", '"' + "a" * 8000),
        ("If-Range", "x" * 8000),
        ("Accept-Encoding", "gzip;q=0.1," * 1000),
        ("Accept-Encoding", "*;q=nan, zstd;q=-1, gzip;q=1e999"),
        ("Content-Encoding", "gzip, " * 1000 + "gzip"),
        ("Content-Digest", "sha-256=:" + "A" * 8000 + ":"),
        ("Repr-Digest", "sha-256=:AAAA:"),
        ("Content-Type", "\xff" * 1000),
        ("Expect", "what"),
    ],
)
def test_hostile_headers(shared: Served, header: str, value: str) -> None:
    """No header makes a 5xx of a request, up or down, or takes long."""
    shared.store.push(io.BytesIO(b"x" * 1000), "hats", name="a")  # the same for all
    for method, body in (("GET", None), ("HEAD", None), ("PUT", b"x" * 1000)):
        answer = shared.client.request(
            method,
            "/v1/datasets/hats/versions/latest/files/a",
            content=body,
            headers={header: value.encode("latin-1")},
        )
        assert answer.status_code < 500, (method, answer.text)


def test_a_replay_makes_no_version(served: Served) -> None:
    """The same upload again, or at the same time, makes one version; `expect` holds it to that."""
    for _ in range(3):
        answer = served.client.put(f"{FILES}/a", content=b"tom\n")
    assert answer.status_code == 200
    assert answer.json()["unchanged"] is True
    assert served.client.put(f"{FILES}/a?expect=0", content=b"jerry\n").status_code == 409
    assert len(served.store.dataset("pets").versions) == 1
