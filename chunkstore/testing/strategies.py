"""Hypothesis strategies: values of every kind of object, and bytes that are none.

Sizes are small, so that a property runs hundreds of times a second; ids end in NUL bytes and
numbers lie at the ends of their ranges more often than chance would have it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple

import msgpack
from hypothesis import strategies as st

from chunkstore import limits
from chunkstore.format.blob import EMPTY, Blob, make_blob
from chunkstore.format.config import ChunkerSpec, Config
from chunkstore.format.gc import Counts, GcState
from chunkstore.format.index import IndexedPack
from chunkstore.format.manifest import Entry, EntryKind, Manifest, PackHint, PageRef, encode_page
from chunkstore.format.pack import (
    HEADER_LENGTH,
    TRAILER_LENGTH,
    Codec,
    Frame,
    PackClass,
    decode_directory,
    encode_directory,
)
from chunkstore.format.path import path_problem
from chunkstore.format.ref import DroppedVersion, Ref, VersionRecord
from chunkstore.ids import ID_SIZE, ChunkId, ChunkKind, FileHash, ManifestId, PackId, chunk_id

_MOST: Final = (1 << 63) - 1

times = st.integers(0, _MOST)
nonces = st.binary(min_size=16, max_size=16)
messages = st.text(st.characters(codec="utf-8"), max_size=40)


def ids() -> st.SearchStrategy[bytes]:
    """32 bytes; many begin or end in zeros, which numpy's byte strings drop."""
    part = st.binary(max_size=ID_SIZE)
    return st.one_of(
        st.binary(min_size=ID_SIZE, max_size=ID_SIZE),
        part.map(lambda data: data.ljust(ID_SIZE, b"\0")),
        part.map(lambda data: data.rjust(ID_SIZE, b"\0")),
    )


def names() -> st.SearchStrategy[str]:
    """Names of datasets and tags."""
    letters = "abz059"
    part = st.builds(
        lambda first, rest: first + rest.replace("..", "._"),
        st.sampled_from(letters),
        st.text(letters + "._-", max_size=10),
    )
    return st.lists(part, min_size=1, max_size=4).map("/".join)


# config


@st.composite
def chunker_specs(draw: st.DrawFn) -> ChunkerSpec:
    """Chunkers with sizes from one end of their ranges to the other."""
    average = 1 << draw(st.integers(11, 22))
    return ChunkerSpec(
        name=draw(st.sampled_from(["fastcdc", "pyfastcdc"])),
        min_size=draw(st.integers(1024, min(average - 1, limits.MIB))),
        avg_size=average,
        max_size=draw(st.integers(average + 1, limits.MAX_CHUNK_SIZE)),
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Configs of stores, with features that nobody knows."""
    features = st.frozensets(st.text(st.characters(codec="utf-8"), max_size=12), max_size=4)
    chunker = draw(chunker_specs())
    frame_size = draw(st.integers(chunker.max_size, limits.MAX_FRAME_SIZE - limits.MAX_CHUNK_SIZE))
    most = limits.MAX_PACK_LENGTH - 2 * limits.MAX_FRAME_SIZE
    return Config(
        store_id=draw(nonces),
        created_ns=draw(times),
        chunker=chunker,
        frame_size=frame_size,
        pack_length=draw(st.integers(frame_size, most)),
        read_features=draw(features),
        write_features=draw(features),
        gc_features=draw(features),
    )


# packs and index segments


class PackTail(NamedTuple):
    """The end of a pack, from its directory on, and what the directory lists."""

    frames: list[Frame]
    directory_offset: int
    tail: bytes


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """A frame as a directory lists it, of a few chunks."""
    size = st.integers(1, limits.MAX_CHUNK_SIZE // 4)
    chunk = st.tuples(ids().map(ChunkId), size, st.sampled_from(ChunkKind))
    chunks, sizes, kinds = zip(*draw(st.lists(chunk, min_size=1, max_size=4)), strict=True)
    codec = draw(st.sampled_from(Codec))
    length = sum(sizes) if codec == Codec.RAW else draw(size)
    return Frame(length, codec, sum(sizes), list(chunks), list(sizes), list(kinds))


@st.composite
def pack_tails(draw: st.DrawFn) -> PackTail:
    """Directories with trailers of packs of up to a few frames, none included."""
    listed = draw(st.lists(frames(), max_size=3))
    offset = HEADER_LENGTH + sum(frame.length for frame in listed)
    return PackTail(listed, offset, encode_directory(listed))


@st.composite
def indexed_packs(draw: st.DrawFn) -> list[IndexedPack]:
    """Packs with different ids, some of which hold the same chunks."""
    found = draw(st.lists(st.tuples(ids(), pack_tails()), max_size=3, unique_by=lambda p: p[0]))
    return [
        IndexedPack(
            PackId(pack),
            part.directory_offset + len(part.tail),
            part.directory_offset,
            decode_directory(part.tail, part.directory_offset, "strategy"),
        )
        for pack, part in found
    ]


pack_headers = st.builds(
    lambda pack_class, nonce: b"CSPK\x01" + bytes([pack_class, 0, 0]) + nonce,
    st.sampled_from(PackClass),
    nonces,
)

# blobs, pages, manifests


@st.composite
def blobs(
    draw: st.DrawFn, *, least_depth: int = 0, most_depth: int = limits.MAX_BLOB_DEPTH
) -> Blob:
    """Blobs of a few chunks or lists at every depth; empty ones where the depth is 0."""
    depth = draw(st.integers(least_depth, most_depth))
    most = limits.MAX_FILE_SIZE // 8 if depth else limits.MAX_CHUNK_SIZE
    sizes = draw(st.lists(st.integers(1, most), min_size=1 if depth else 0, max_size=6))
    joined = b"".join(draw(ids()) for _ in sizes)
    return make_blob(depth, joined, sizes)


_PART: Final = st.one_of(
    st.sampled_from(
        ["a", "b", "b.txt", "b-", "b0", "ab", "A", "data", "x.py", "é", "日本", "\U0001f600"]
    ),
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/\\"),
        min_size=1,
        max_size=12,
    ).map(lambda text: unicodedata.normalize("NFC", text)),
).filter(lambda part: path_problem(part) is None)

paths = st.lists(_PART, min_size=1, max_size=4).map("/".join)
"""Paths of files; some are beginnings of others."""

link_targets = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30
)


@st.composite
def entries(draw: st.DrawFn, path: str | None = None) -> Entry:
    """A file, empty folder or link at `path`, or anywhere."""
    path = draw(paths) if path is None else path
    kind = draw(st.sampled_from(EntryKind))
    if kind == EntryKind.FOLDER:
        return Entry(path + "/", kind)
    if kind == EntryKind.LINK:
        return Entry(path, kind, target=draw(link_targets))
    return Entry(
        path,
        kind,
        executable=draw(st.booleans()),
        mtime_ns=draw(st.integers(-(1 << 63), _MOST)),
        file_hash=FileHash(draw(ids())),
        blob=draw(st.one_of(st.just(EMPTY), blobs())),
    )


@st.composite
def versions(draw: st.DrawFn, *, most: int = 12) -> list[Entry]:
    """Entries of a version in order: no path stands twice, none below a file or empty folder."""
    found = draw(st.sets(paths, min_size=1, max_size=most))
    leaves = [p for p in found if not any(other.startswith(p + "/") for other in found)]
    made = [draw(entries(path)) for path in leaves]
    return sorted(made, key=lambda entry: entry.path.encode())


@st.composite
def pack_hints(draw: st.DrawFn) -> PackHint:
    """Where packs of any allowed length have their directories."""
    length = draw(st.integers(HEADER_LENGTH + TRAILER_LENGTH, limits.MAX_PACK_LENGTH))
    low = max(HEADER_LENGTH, length - TRAILER_LENGTH - limits.MAX_DIRECTORY_LENGTH)
    return PackHint(PackId(draw(ids())), length, draw(st.integers(low, length - TRAILER_LENGTH)))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests of a few pages, some of which are kept inside."""
    packs = tuple(draw(st.lists(pack_hints(), max_size=4)))
    pages: list[PageRef] = []
    for path in sorted(draw(st.sets(paths, max_size=4)), key=str.encode):
        numbers = draw(st.sets(st.integers(0, len(packs) - 1))) if packs else set()
        inline = encode_page([draw(entries(path))]) if draw(st.booleans()) else None
        page_id = ChunkId(draw(ids())) if inline is None else chunk_id(ChunkKind.PAGE, inline)
        count = draw(st.integers(1, 1000))
        pages.append(PageRef(page_id, path, count, tuple(sorted(numbers)), inline))
    return Manifest(
        dataset=draw(names()),
        created_ns=draw(times),
        message=draw(messages),
        parent=draw(st.none() | ids().map(ManifestId)),
        nonce=draw(nonces),
        files=sum(page.entries for page in pages),
        size=draw(times),
        new_bytes=draw(times),
        packs=packs,
        pages=tuple(pages),
    )


# refs and the collector's objects


@st.composite
def refs(draw: st.DrawFn) -> Ref:
    """Refs with gaps in their version numbers, tags, and versions that were dropped."""
    everything = sorted(draw(st.sets(st.integers(1, _MOST - 1), max_size=6)))
    records = tuple(
        VersionRecord(
            number=number,
            manifest_id=ManifestId(draw(ids())),
            created_ns=draw(times),
            message=draw(messages),
            files=draw(st.integers(0, limits.MAX_VERSION_FILES)),
            size=draw(times),
            new_bytes=draw(times),
            stored_bytes=draw(times),
        )
        for number in everything
    )
    gone = draw(st.sets(st.sampled_from(everything), max_size=3)) if everything else set()
    numbers = [number for number in everything if number not in gone]
    tags = draw(st.dictionaries(names(), st.sampled_from(numbers), max_size=3)) if numbers else {}
    past = draw(st.lists(nonces, min_size=1, max_size=3))
    return Ref(
        dataset=draw(names()),
        sequence=draw(st.integers(1, _MOST)),
        nonce=past[0],
        gc_generation=draw(times),
        next_number=draw(st.integers((everything or [0])[-1] + 1, _MOST)),
        versions=tuple(record for record in records if record.number not in gone),
        tags=tuple(sorted(tags.items())),
        nonces=tuple(past),
        dropped=tuple(
            DroppedVersion(record, draw(times), tuple(sorted(draw(st.sets(names(), max_size=2)))))
            for record in records
            if record.number in gone
        ),
    )


gc_states = st.builds(
    GcState,
    times,
    st.just("") | st.from_regex(r"gc/condemned/[0-9a-f-]{1,40}", fullmatch=True),
    st.none() | st.builds(Counts, times, times, times),
)
condemned_packs = st.frozensets(ids().map(PackId), max_size=8)


# bytes that are none of these


@st.composite
def damaged(draw: st.DrawFn, data: bytes, other: bytes) -> bytes:
    """`data` after one of the things that storage and strangers do to bytes.

    It is cut short or lengthened, has a bit flipped, bytes replaced, left out or doubled, or
    goes on as `other` from some place.
    """
    at = draw(st.integers(0, len(data)))
    length = draw(st.integers(1, 8))
    junk = draw(st.binary(min_size=length, max_size=length))
    there = draw(st.integers(0, len(other)))
    ways: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data + junk,
        lambda: flipped(data, at * 8 % max(1, len(data) * 8)),
        lambda: data[:at] + junk + data[at + length :],
        lambda: data[:at] + data[at + length :],
        lambda: data[:at] + data[max(0, at - length) :],
        lambda: data[:at] + other[there:],
        lambda: b"",
    ]
    return draw(st.sampled_from(ways))()


def flipped(data: bytes, bit: int) -> bytes:
    """Return `data` with one bit inverted; empty bytes stay as they are."""
    changed = bytearray(data)
    if changed:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _header(first: int, width: int, most: int) -> st.SearchStrategy[bytes]:
    """A first byte with a length or number of `width` bytes behind it."""
    return st.integers(0, most).map(lambda value: bytes([first]) + value.to_bytes(width, "big"))


_SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.binary(max_size=40),
    st.text(max_size=12),
).map(lambda value: bytes(msgpack.packb(value)))

hostile_tokens = st.one_of(
    _SCALARS,
    st.integers(0, 255).map(lambda tag: bytes([tag])),
    st.integers(0, 15).map(lambda count: bytes([0x90 + count])),
    _header(0xDC, 2, 0xFFFF),  # arrays, mostly longer than what follows
    _header(0xDD, 4, 0xFFFFFFFF),
    _header(0xC4, 1, 0xFF),
    _header(0xC6, 4, 0xFFFFFFFF),
    _header(0xDB, 4, 0xFFFFFFFF),
    _header(0xCC, 1, 0x7F),  # numbers not in their shortest form
    _header(0xCD, 2, 0xFF),
    _header(0xCF, 8, 0xFFFFFFFF),
    _header(0xD3, 8, 0x7F),
    st.just(b"\xca\x7f\xc0\x00\x00"),  # NaN
    st.just(b"\xa3\xed\xa0\x80"),  # text of half a surrogate pair
    st.just(b"\xa2\xc0\x80"),  # NUL in too many bytes
    st.just(b"\x81\x01\x02"),  # a map
    st.just(b"\xdf\xff\xff\xff\xff"),
    st.just(b"\xd4\x01\x00"),  # an extension type
    st.just(b"\xc9\xff\xff\xff\xff\x01"),
)
"""Single msgpack values: those no document has, in forms it may not have, and too long ones."""

hostile_bodies = st.lists(hostile_tokens, max_size=30).map(b"".join)
