"""Reading ranges of a file, from a store that is whole, moved about or in part gone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chunkstore import ChunkerSpec, InvalidInputError, NotFoundError, Store
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.errors import CorruptObjectError, MissingObjectError
from chunkstore.format.config import DEFAULT_PACK_LENGTH, Config
from chunkstore.format.index import IndexedPack
from chunkstore.format.manifest import PackHint
from chunkstore.ids import ChunkKind, chunk_id
from chunkstore.objects import Objects
from chunkstore.testing.trees import random_bytes, text_bytes
from tests.library.forgery import CONTENT, Forged, file, folder, forge, link, put_pack, sizes

SMALL = ChunkerSpec(min_size=1024, avg_size=2048, max_size=4096)
DATA = random_bytes(9_000_000, 1) + text_bytes(4_000_000, 2) + bytes(3_000_000)


class Counting(MemoryBackend):
    """A backend that counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, int]] = []

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> object:  # type: ignore[override]
        found = super().get(key, byte_range)
        self.reads.append((key, len(found.data)))
        return found


def memory_store(backend: MemoryBackend) -> Store:
    """Return a new store of small chunks, so that a file of some MB has lists of them."""
    config = Config(
        store_id=bytes(16),
        created_ns=1,
        chunker=SMALL,
        frame_size=64 * 1024,
        pack_length=DEFAULT_PACK_LENGTH // 8,
    )
    Objects(backend).create_config(config)
    return Store(backend, config, None)


@pytest.fixture(scope="module")
def backend() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def store(backend: Counting) -> Store:
    made = memory_store(backend)
    made.push(io.BytesIO(DATA), "data", name="file")
    (entry,) = made.entries("data")
    assert entry.blob.depth == 1
    return made


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ends=st.tuples(st.integers(0, len(DATA)), st.integers(0, len(DATA))), near=st.booleans())
def test_any_range_has_the_file_s_bytes(store: Store, ends: tuple[int, int], near: bool) -> None:
    """By `read`, by `blocks` and by seeking, whatever boundaries it crosses."""
    start, end = sorted(ends)
    if near:
        end = min(end, start + 5000)
    content = store.file_content("data:file")
    assert content.size == len(DATA)
    assert content.read(start, end) == DATA[start:end]
    assert b"".join(content.blocks(start, end)) == DATA[start:end]
    with store.open_file("data:file") as opened:
        opened.seek(start)
        assert opened.read(end - start) == DATA[start:end]


@pytest.mark.parametrize(
    "ends", [(-1, 5), (5, 4), (0, len(DATA) + 1), (len(DATA) + 1, len(DATA) + 2)]
)
def test_a_range_that_the_file_does_not_have_is_refused(
    store: Store, ends: tuple[int, int]
) -> None:
    """That is the caller's mistake and never taken for damage."""
    content = store.file_content("data:file")
    with pytest.raises(InvalidInputError, match="bytes, not"):
        content.read(*ends)
    with pytest.raises(InvalidInputError, match="bytes, not"):
        list(content.blocks(*ends))


def test_an_open_file_behaves_as_a_file(store: Store) -> None:
    """Seek, tell, lines and the end of the file as `io` has them; it cannot be written."""
    with store.open_file("data:file") as opened:
        assert opened.readable()
        assert opened.seekable()
        assert not opened.writable()
        assert opened.seek(-10, io.SEEK_END) == len(DATA) - 10
        assert opened.read() == DATA[-10:]
        assert opened.read(1) == b""
        assert opened.seek(5, io.SEEK_END) == len(DATA) + 5
        assert opened.read(10) == b""
        opened.seek(9_000_000)
        assert opened.readline() == DATA[9_000_000:].split(b"\n")[0] + b"\n"
        with pytest.raises((InvalidInputError, OSError)):
            opened.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            opened.write(b"x")
    with pytest.raises(ValueError, match="closed"):
        opened.read()


def test_a_small_range_reads_little(store: Store, backend: Counting) -> None:
    """A few bytes of a large file cost a few requests of about a frame each."""
    store.file_content("data:file").read(0, 1)
    for start in (0, 5_000_000, len(DATA) - 100):
        backend.reads.clear()
        assert store.file_content("data:file").read(start, start + 100) == DATA[start : start + 100]
        assert len(backend.reads) <= 8
        assert sum(length for key, length in backend.reads if key.startswith("packs/")) < 1_500_000


def test_reading_that_is_given_up_ends(store: Store) -> None:
    """Whoever stops in the middle of a file leaves no thread that goes on reading it."""
    blocks = store.file_content("data:file").blocks(0, len(DATA))
    first = bytes(next(blocks))
    assert first == DATA[: len(first)]
    blocks.close()  # type: ignore[attr-defined]  # it is a generator
    assert store.file_content("data:file").read(0, 10) == DATA[:10]


def test_what_is_no_file_cannot_be_opened() -> None:
    """A folder, an empty folder, a link and what is not there: NotFoundError, with a hint."""
    tree = forge(Forged([[file("a/b"), folder("e/"), link("l", "a/b")]]))
    for path in ("a", "e", "e/", "l", "a/c", "a/b/c", "A/B"):
        with pytest.raises(NotFoundError) as caught:
            tree.open_file(f"data:{path}")
        assert caught.value.hint is not None
    with tree.open_file("data:a/b") as opened:
        assert opened.read() == CONTENT


def test_chunks_that_were_moved_are_found_by_the_index(tmp_path: Path) -> None:
    """A hint that leads nowhere any more costs a look-up and nothing else."""
    backend = MemoryBackend()
    first, second = memory_store(backend), memory_store(MemoryBackend())
    data = random_bytes(500_000, 3)
    first.push(io.BytesIO(data), "data", name="file")
    second.push(io.BytesIO(data), "data", name="file")
    old = [info.key for info in backend.list("packs/")]
    backend.delete([*old, *(info.key for info in backend.list("index/"))])
    for prefix in ("packs/", "index/"):
        for info in second._backend.list(prefix):
            backend.put(info.key, [second._backend.get(info.key).data], Overwrite())
    with first.open_file("data:file") as opened:
        assert opened.read() == data
    first.pull("data", tmp_path / "out")
    assert (tmp_path / "out" / "file").read_bytes() == data


@pytest.mark.parametrize("lies", [{"sizes": sizes(5), "size": 5}, {"ids": b"n" * 32}])
def test_wrong_or_missing_chunks_are_never_read(lies: dict[str, object]) -> None:
    """Neither a part of the right bytes nor zeros: an error."""
    tree = forge(Forged([[file("a", **lies)]]))
    for read in (
        lambda: tree.open_file("data:a").read(),
        lambda: tree.file_content("data:a").read(0, 1),
        lambda: list(tree.file_content("data:a").blocks(1, 4)),
    ):
        with pytest.raises((CorruptObjectError, MissingObjectError)):
            read()


def test_a_chunk_is_not_taken_for_another_kind() -> None:
    """Bytes that are a list or page under their id cannot be read as a file, nor the other way."""
    as_page = chunk_id(ChunkKind.PAGE, CONTENT)
    tree = forge(Forged([[file("a", ids=as_page)]], chunks=[(ChunkKind.PAGE, CONTENT)]))
    with pytest.raises(CorruptObjectError, match="does not have its id"):
        tree.open_file("data:a").read()


def test_every_copy_is_tried_before_a_chunk_is_given_up() -> None:
    """A pack that lies about a chunk does not hide the good copy in another one."""
    good = chunk_id(ChunkKind.DATA, CONTENT)
    other = b"other bytes!!"
    for order in ((0, 1), (1, 0)):
        tree = forge(Forged([[file("a", ids=b"z" * 32)]]))
        backend = tree._backend
        assert isinstance(backend, MemoryBackend)
        lying = put_pack(backend, [(ChunkKind.DATA, other)], [good])
        hints = [[lying, put_pack(backend, [(ChunkKind.DATA, CONTENT)])][n] for n in order]
        version = Forged([[file("a")]], root={6: hints}, page={3: [0, 1]})
        again = forge(version)
        for info in backend.list("packs/"):
            again._backend.put(info.key, [backend.get(info.key).data], Overwrite())
        index = again._index()
        index.publish([_indexed(again, hint) for hint in hints])
        with again.open_file("data:a") as opened:
            assert opened.read() == CONTENT


def _indexed(tree: Store, hint: list[Any]) -> IndexedPack:
    where = PackHint(*hint)
    directory = tree._objects.read_directory(where)
    return IndexedPack(where.pack_id, where.length, where.directory_offset, directory)
