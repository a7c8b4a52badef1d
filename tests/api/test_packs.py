"""Packs and index segments that lie: refused, and nothing of them is there."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import zstandard

from chunkstore import Store, layout
from chunkstore.backends.base import CreateOnly
from chunkstore.format.index import IndexedPack
from chunkstore.format.pack import Codec, PackClass
from chunkstore.ids import ChunkKind, PackId, SegmentId, content_hash
from chunkstore.testing.trees import random_bytes
from tests.api.conftest import Served, serving
from tests.api.forging import (
    OBJECTS,
    frame_of,
    indexed,
    pack_of,
    put,
    segment_of,
)
from tests.api.processes import process
from tests.api.test_memory import ONE_TRANSFER

ONE, TWO = b"the first chunk", random_bytes(70_000, 1)
MIB = 1 << 20


def bomb(size: int, stated: int) -> bytes:
    """Return a zstd frame of zeros that says it has another size than it has."""
    data = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(size))
    header = zstandard.get_frame_parameters(data)
    assert header.content_size == size
    return data.replace(size.to_bytes(4, "little"), stated.to_bytes(4, "little"), 1)


def lying_id() -> tuple[str, bytes]:
    """A chunk under the id of another."""
    return pack_of((frame_of([ONE], ids=frame_of([TWO]).ids), ONE))


def lying_kind() -> tuple[str, bytes]:
    """A list that says it is a part of a file."""
    frame = frame_of([ONE], ChunkKind.LIST)
    return pack_of((dataclasses.replace(frame, kinds=[ChunkKind.DATA]), ONE))


def wrong_class() -> tuple[str, bytes]:
    """Parts of files in a pack of metadata."""
    return pack_of((frame_of([ONE]), ONE), pack_class=PackClass.METADATA)


def long_bomb() -> tuple[str, bytes]:
    """A frame of 8 KiB that makes 256 MiB, and says so of a chunk of 256 KiB."""
    stored = bomb(256 * MIB, MIB // 4)
    assert len(stored) < 64 * 1024
    frame = frame_of([bytes(MIB // 4)], length=len(stored), codec=Codec.ZSTD)
    return pack_of((frame, stored))


def long_frame() -> tuple[str, bytes]:
    """A frame of more raw bytes than any may have."""
    stored = zstandard.compress(bytes(24 * MIB))
    frame = frame_of([bytes(MIB // 4)] * 96, length=len(stored), codec=Codec.ZSTD)
    return pack_of((frame, stored))


def long_chunk() -> tuple[str, bytes]:
    """A chunk of more bytes than the store's chunker makes: a pack of such makes 512 GiB."""
    stored = zstandard.compress(bytes(MIB))
    return pack_of((frame_of([bytes(MIB)], length=len(stored), codec=Codec.ZSTD), stored))


def two_frames_in_one() -> tuple[str, bytes]:
    """A second zstd frame behind the first."""
    stored = zstandard.compress(ONE) + zstandard.compress(b"more")
    return pack_of((frame_of([ONE], length=len(stored), codec=Codec.ZSTD), stored))


def overlapping() -> tuple[str, bytes]:
    """Two frames over the same bytes: longer in all than the body."""
    frame = frame_of([TWO])
    key, data = pack_of((frame, TWO), (frame, b""))
    return key, data


def gap() -> tuple[str, bytes]:
    """Bytes between the frames and the directory."""
    return pack_of((frame_of([ONE]), ONE + b"hidden"))


def no_pack() -> tuple[str, bytes]:
    """Bytes that are none, under their own id."""
    data = random_bytes(100_000, 3)
    return layout.pack_key(PackId(content_hash([data]))), data


@pytest.mark.parametrize(
    "make",
    [
        lying_id,
        lying_kind,
        wrong_class,
        long_bomb,
        long_frame,
        long_chunk,
        two_frames_in_one,
        overlapping,
        gap,
        no_pack,
    ],
)
def test_a_pack_that_lies_is_refused(shared: Served, make: Callable[[], tuple[str, bytes]]) -> None:
    """422, and no such object is there."""
    key, data = make()
    shared.problem(put(shared.client, key, data), 422, "invalid_object")
    assert shared.client.head(f"{OBJECTS}/{key}").status_code == 404


def test_a_damaged_pack_is_refused(shared: Served) -> None:
    """Whatever byte of a pack is another one, or missing, it is refused."""
    key, data = pack_of((frame_of([ONE]), ONE), (frame_of([TWO]), TWO))
    for at in (*range(0, len(data), 4999), *range(len(data) - 200, len(data), 17)):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        shared.problem(put(shared.client, key, damaged), 422, "invalid_object")
    for cut in (0, 1, 44, 1000, len(data) - 1):
        shared.problem(put(shared.client, key, data[:cut]), 422, "invalid_object")
    shared.problem(put(shared.client, key, data + b"x"), 422, "invalid_object")
    assert shared.client.head(f"{OBJECTS}/{key}").status_code == 404
    assert put(shared.client, key, data).status_code == 201
    assert shared.client.get(f"{OBJECTS}/{key}").content == data


def changed(pack: IndexedPack, **columns: object) -> IndexedPack:
    """Return a pack with other columns in its directory."""
    return dataclasses.replace(pack, directory=dataclasses.replace(pack.directory, **columns))  # type: ignore[arg-type]  # as given


def test_a_segment_that_lies_is_refused(shared: Served) -> None:
    """Other ids, sizes, places, packs that are not there, or one twice: refused, not listed."""
    chunks = [random_bytes(1000 + n, n) for n in range(5)]
    key, data = pack_of((frame_of(chunks), b"".join(chunks)))
    pack = indexed(data)
    absent = dataclasses.replace(pack, pack_id=PackId(bytes(range(32))))
    before = shared.client.get(OBJECTS, params={"prefix": "index/"}).json()
    shared.problem(put(shared.client, *segment_of(pack)), 422, "invalid_object")
    assert put(shared.client, key, data).status_code == 201
    directory = pack.directory
    ids = directory.ids.copy()
    ids[2] = frame_of([b"another"]).ids[0]
    for lie in (
        [absent],
        [pack, absent],
        [pack, pack],
        [dataclasses.replace(pack, length=pack.length + 1)],
        [dataclasses.replace(pack, directory_offset=pack.directory_offset - 1)],
        [changed(pack, ids=ids)],
        [changed(pack, sizes=directory.sizes - 1)],
        [changed(pack, chunk_offsets=directory.chunk_offsets // 2)],
        [
            changed(
                pack,
                **{
                    name: getattr(directory, name)[:4]
                    for name in ("ids", "sizes", "kinds", "chunk_frames", "chunk_offsets")
                },
            )
        ],
    ):
        shared.problem(put(shared.client, *segment_of(*lie)), 422, "invalid_object")
    _, right = segment_of(pack)
    old = bytearray(right[:-16])
    old[4], old[24:32] = 1, len(old).to_bytes(8, "little")
    lies = [bytes(old), right[:-1], right + b"x"]
    for data in lies:
        name = layout.segment_key(SegmentId(content_hash([data])))
        shared.problem(put(shared.client, name, data), 422, "invalid_object")
    assert shared.client.get(OBJECTS, params={"prefix": "index/"}).json() == before
    assert put(shared.client, *segment_of(pack)).status_code == 201


def test_what_came_past_the_server_is_checked_before_it_is_listed(shared: Served) -> None:
    """A pack that the storage got from elsewhere is read whole when a segment lists it."""
    storage = shared.store.objects.backend
    for make, status in (
        (lying_id, 422),
        (lambda: pack_of((frame_of([b"honest"]), b"honest")), 201),
    ):
        key, data = make()
        storage.put(key, [data], CreateOnly())
        assert put(shared.client, *segment_of(indexed(data))).status_code == status


def test_servers_share_a_store(shared: Served) -> None:
    """What one process took in is listed through another, which reads it first."""
    key, data = pack_of((frame_of([b"by one, listed by another"]), b"by one, listed by another"))
    assert put(shared.client, key, data).status_code == 201
    with serving(shared.store) as other:
        assert put(other.client, *segment_of(indexed(data))).status_code == 201


def test_a_pack_that_a_collection_removed_is_not_listed(shared: Served) -> None:
    """What the server checked a while ago must be there still when a segment lists it."""
    key, data = pack_of((frame_of([b"removed"]), b"removed"))
    assert put(shared.client, key, data).status_code == 201
    shared.store.objects.backend.delete([key])
    shared.problem(put(shared.client, *segment_of(indexed(data))), 422, "invalid_object")


def test_a_server_without_room_says_so(
    shared: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a body cannot be kept the answer is 503, and nothing is stored."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    key, data = pack_of((frame_of([b"no room"]), b"no room"))
    answer = put(shared.client, key, data)
    shared.problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    monkeypatch.undo()
    assert shared.client.head(f"{OBJECTS}/{key}").status_code == 404


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_long_packs_need_little_memory(tmp_path: Path) -> None:
    """A pack of 100 MB goes in and out, and is checked, in the memory of one transfer."""
    chunk = random_bytes(200_000, 9)
    chunks = [number.to_bytes(4, "little") + chunk for number in range(500)]
    key, data = pack_of(*((frame_of([each]), each) for each in chunks))
    Store.create(str(tmp_path / "store")).close()
    with (
        process(tmp_path) as server,
        httpx.Client(base_url=server.address, timeout=600) as client,
    ):
        assert put(client, key, data).status_code == 201
        assert put(client, *segment_of(indexed(data))).status_code == 201
        assert client.get(f"{OBJECTS}/{key}").content == data
        assert server.peak() < ONE_TRANSFER
