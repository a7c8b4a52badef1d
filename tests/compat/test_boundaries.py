"""Where lists and pages end is written down, so that other writers share them.

Each rule is told here a second time, as sections 7 and 8.3 of docs/design/format.md have it, and
held against the code; readers do not depend on it, deduplication does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgpack
import pytest
from blake3 import blake3

from chunkstore.format.blob import BlobBuilder, decode_list, make_blob
from chunkstore.format.manifest import (
    Entry,
    EntryKind,
    decode_page,
    encode_entry,
    encode_page,
    ends_page,
)
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, FileHash, chunk_id
from chunkstore.pager import Pager


def documented_lists(ids: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the lists of a file's chunks, as section 7 says."""
    current: list[bytes] = []
    for identifier in ids:
        current.append(identifier)
        marked = int.from_bytes(identifier[28:], "little") % 1024 == 0
        if len(current) == 4096 or (marked and len(current) >= 256):
            yield current
            current = []
    if current:
        yield current


def built_lists(ids: list[bytes], step: int) -> tuple[list[list[bytes]], int]:
    """Return the lists of depth 0 that the code makes of chunks given `step` at a time."""
    found: list[list[bytes]] = []

    def keep(data: bytes) -> ChunkId:
        part = decode_list(data, "tested")
        if part.depth == 0:
            found.append([part.ids[at : at + ID_SIZE] for at in range(0, len(part.ids), ID_SIZE)])
        return chunk_id(ChunkKind.LIST, data)

    builder = BlobBuilder(keep)
    for at in range(0, len(ids), step):
        builder.add(ids[at : at + step], [9] * len(ids[at : at + step]))
    return found, builder.finish().depth


@pytest.mark.parametrize("step", [1, 64, 5000, 100_000])
@pytest.mark.parametrize("marks", [0, 1, 30])
def test_lists_end_where_the_document_says(step: int, marks: int) -> None:
    """By content, with at least 256 and at most 4,096 chunks, however the chunks come in."""
    source = random.Random(marks)
    ids = []
    for _ in range(30_000):
        last = 0 if marks and source.randrange(6000) < marks else source.getrandbits(32) | 1
        ids.append(source.randbytes(28) + last.to_bytes(4, "little"))
    found, depth = built_lists(ids, step)
    assert depth == 1
    assert found == list(documented_lists(ids))
    assert len(found) > 30_000 / 4096


@pytest.mark.parametrize("step", [1, 4096])
def test_equal_chunks_make_full_lists(step: int) -> None:
    """A file of one repeated chunk gets few lists, whether its id marks an end or not."""
    for last, length in ((b"\1\0\0\0", 4096), (bytes(4), 256)):
        ids = [bytes(28) + last] * 20_000
        found, _ = built_lists(ids, step)
        assert found == list(documented_lists(ids))
        assert {len(part) for part in found[:-1]} == {length}


def entries(count: int) -> list[Entry]:
    """Return files, links and empty folders with seeded names, in order."""
    source = random.Random(4)
    found = []
    for number in range(count):
        path = f"{source.randrange(50):02}/{number:05}-{source.randbytes(6).hex()}"
        if number % 7 == 0:
            found.append(Entry(path, EntryKind.LINK, target="../x"))
        elif number % 11 == 0:
            found.append(Entry(path + "/", EntryKind.FOLDER))
        else:
            found.append(Entry(path, EntryKind.FILE, file_hash=FileHash(source.randbytes(32))))
    return sorted(found, key=lambda entry: entry.path.encode())


def documented_pages(found: list[Entry]) -> Iterator[list[Entry]]:
    """Yield the pages of a version, as section 8.3 says; none comes near its limit here."""
    page: list[Entry] = []
    for entry in found:
        page.append(entry)
        length = len(msgpack.packb(encode_entry(entry))) + 5
        drawn = int.from_bytes(blake3(entry.path.encode()).digest()[:8], "big")
        if drawn < length * 2**64 // 65_536:
            yield page
            page = []
    if page:
        yield page


def paged(found: list[Entry]) -> tuple[Pager, list[bytes]]:
    """Return a pager that took all entries, and the pages that it stored outside the root."""
    stored: list[bytes] = []

    def put(_identifier: ChunkId, data: bytes) -> int:
        stored.append(data)
        return 0

    pager = Pager(put)
    for entry in found:
        pager.add(entry, set())
    pager.finish()
    return pager, stored


def test_pages_end_where_the_document_says() -> None:
    """By the hash of a path and the length of its entry."""
    found = entries(8000)
    pager, stored = paged(found)
    wanted = list(documented_pages(found))
    assert len(wanted) > 5
    assert [page.first_path for page in pager.pages] == [page[0].path for page in wanted]
    assert [decode_page(data, "tested") for data in stored] == wanted
    assert stored == [encode_page(page) for page in wanted]


@pytest.mark.parametrize(("length", "inline"), [(65_536, True), (65_537, False)])
def test_short_pages_stay_in_the_manifest(length: int, inline: bool) -> None:
    """Up to 65,536 bytes of pages in all are inline; one more and every page is stored."""
    seeded = random.Random(5)  # halves in a frame, which is not worth a chunk
    links = [
        Entry(f"{n:04}", EntryKind.LINK, target=seeded.randbytes(1500).hex()) for n in range(400)
    ]
    taken = [entry for entry in links if not ends_page(entry, 5000)][:22]
    target = "x" * (3000 + length - len(encode_page(taken)))
    taken[-1] = taken[-1]._replace(target=target)
    assert len(encode_page(taken)) == length
    pager, stored = paged(taken)
    assert [page.data is not None for page in pager.pages] == [inline]
    assert stored == ([] if inline else [encode_page(taken)])


@pytest.mark.parametrize("ids", ["one", "many"])
def test_pages_that_shrink_well_are_stored(ids: str) -> None:
    """A file that is one chunk a thousand times: its page is a chunk, which is compressed."""
    chunks = [chunk_id(ChunkKind.DATA, n.to_bytes(2, "big")) for n in range(1000)]
    if ids == "one":
        chunks = chunks[:1] * 1000
    blob = make_blob(0, b"".join(chunks), [2] * 1000)
    file = Entry("a", EntryKind.FILE, file_hash=FileHash(bytes(32)), blob=blob)
    pager, stored = paged([file])
    assert len(encode_page([file])) < 65_536
    assert [page.data is None for page in pager.pages] == [ids == "one"]
    assert stored == ([encode_page([file])] if ids == "one" else [])
