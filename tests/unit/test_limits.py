"""Every limit of chunkstore/limits.py is in force: what reaches it is taken, one more is not.

The properties of each kind of object are in tests/properties; here each constant has one test that
is called after it, and a test that none is without.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3

from chunkstore import Store, limits
from chunkstore.errors import CorruptObjectError, InvalidInputError
from chunkstore.format import blob as blobs
from chunkstore.format import config as configs
from chunkstore.format import gc, manifest, ref
from chunkstore.format.blob import Blob, BlobBuilder, check_blob, decode_list
from chunkstore.format.config import ChunkerSpec, Config
from chunkstore.format.document import DocumentKind, encode_document
from chunkstore.format.index import HEADER_LENGTH, decode_header, decode_segment, fanout_bits
from chunkstore.format.manifest import Entry, EntryKind, decode_manifest, decode_page, encode_page
from chunkstore.format.pack import decode_directory, decode_trailer
from chunkstore.format.path import path_problem
from chunkstore.format.ref import decode_ref, empty_ref, encode_ref
from chunkstore.ids import ChunkId, FileHash
from chunkstore.layout import check_name, dataset_of, ref_key
from chunkstore.pager import Pager
from chunkstore.writer import PushOptions
from tests.properties import laws, test_manifest, test_ref
from tests.properties.test_blob import blob_of
from tests.properties.test_pack import raw_directory, seal
from tests.unit import test_compression

CORRUPT = pytest.raises(CorruptObjectError)
NO_LIMITS = {"KIB", "MIB"}  # units
HASH = FileHash(bytes(32))

DECODERS: dict[str, tuple[DocumentKind, Callable[[bytes, str], Any]]] = {
    "MAX_PAGE_LENGTH": (manifest.PAGE, decode_page),
    "MAX_LIST_LENGTH": (blobs.LIST, decode_list),
    "MAX_MANIFEST_LENGTH": (manifest.MANIFEST, decode_manifest),
    "MAX_REF_LENGTH": (ref.REF, decode_ref),
    "MAX_CONFIG_LENGTH": (configs.CONFIG, configs.decode_config),
    "MAX_GC_LENGTH": (gc.GC_STATE, gc.decode_gc_state),
    "MAX_CONDEMNED_LENGTH": (gc.CONDEMNED, gc.decode_condemned),
}


def test_no_limit_is_without_its_test() -> None:
    """A constant that nothing holds is no limit."""
    constants = {name for name in vars(limits) if name.isupper()} - NO_LIMITS
    tests = {name.removeprefix("test_").upper() for name in globals() if name.startswith("test_")}
    assert constants - tests == set(DECODERS)


@pytest.mark.parametrize("name", DECODERS)
def test_a_document_over_its_limit_is_neither_read_nor_written(name: str) -> None:
    """MAX_..._LENGTH of each kind of document: bytes are counted before they are looked at."""
    kind, decode = DECODERS[name]
    limit = getattr(limits, name)
    assert kind.limit == limit
    with pytest.raises(CorruptObjectError) as caught:
        decode(kind.magic + bytes([kind.version]) + bytes(limit - 5), "tested")
    assert "more than" not in caught.value.message
    with pytest.raises(CorruptObjectError, match=f"{limit + 1} bytes, more than {limit}"):
        decode(kind.magic + bytes([kind.version]) + bytes(limit - 4), "tested")
    most = limit - len(encode_document(kind, [bytes(limit // 2)])) + limit // 2
    assert len(encode_document(kind, [bytes(most)])) == limit
    with pytest.raises(InvalidInputError):
        encode_document(kind, [bytes(most + 1)])


def spec(most: int) -> ChunkerSpec:
    return ChunkerSpec(min_size=1024, avg_size=2048, max_size=most)


def test_max_chunk_size() -> None:
    """In configs, blobs, directories and segments."""
    most = limits.MAX_CHUNK_SIZE
    assert spec(most).max_size == most
    with pytest.raises(InvalidInputError):
        spec(most + 1)
    check_blob(blob_of(0, [most]), "tested")
    with CORRUPT:
        check_blob(blob_of(0, [most + 1]), "tested")
    for size in (most, most + 1):
        tail = seal(raw_directory([5], [size], [1], [size]), 29)
        if size == most:
            decode_directory(tail, 29, "tested")
        else:
            with pytest.raises(CorruptObjectError, match="larger than allowed"):
                decode_directory(tail, 29, "tested")


def test_max_frame_size() -> None:
    """In directories; and no config leads to larger frames, which end with a chunk."""
    most, chunk = limits.MAX_FRAME_SIZE, limits.MAX_CHUNK_SIZE
    sizes = [chunk, chunk]
    decode_directory(seal(raw_directory([5], [most], [2], sizes), 29), 29, "tested")
    with pytest.raises(CorruptObjectError, match="larger than allowed"):
        decode_directory(seal(raw_directory([5], [most + 1], [3], [*sizes, 1]), 29), 29, "tested")
    with pytest.raises(InvalidInputError):
        Config(store_id=bytes(16), created_ns=0, frame_size=most - chunk + 1)
    assert Config(store_id=bytes(16), created_ns=0, frame_size=most - chunk)


def test_max_zstd_window() -> None:
    """A frame with a larger window is refused by its header."""
    size = 1 << 20
    frame = test_compression.expanding(size, size)
    assert frame[5] == (limits.MAX_ZSTD_WINDOW.bit_length() - 1 - 10) << 3
    test_compression.decompress_frame(1, frame, size, "tested")
    large = bytearray(frame)
    large[5] += 1
    test_compression.refuse(bytes(large), size)


def trailer(offset: int, length: int) -> bytes:
    return struct.pack("<II32s4s", offset, length, blake3(b"").digest(), b"CSPT")


def test_max_pack_length() -> None:
    """In trailers and hints; and a config aims at least 32 MiB below it."""
    most = limits.MAX_PACK_LENGTH
    for length in (most, most + 1):
        data = trailer(length - 44 - 8, 8)
        hint = test_manifest.manifest_with(**test_manifest.hint_with(length, length - 44 - 8))
        if length == most:
            assert decode_trailer(data, length, "tested")[0] == most - 52
            decode_manifest(hint, "tested")
        else:
            with CORRUPT:
                decode_trailer(data, length, "tested")
            with CORRUPT:
                decode_manifest(hint, "tested")
    with pytest.raises(InvalidInputError):
        Config(store_id=bytes(16), created_ns=0, pack_length=most - 2 * limits.MAX_FRAME_SIZE + 1)


def test_max_pack_chunks() -> None:
    """In directories."""
    most = limits.MAX_PACK_CHUNKS
    decode_directory(seal(raw_directory([7], [most], [most], [1] * most), 31), 31, "tested")
    over = most + 1
    with pytest.raises(CorruptObjectError, match="more than allowed"):
        decode_directory(seal(raw_directory([7], [over], [over], [1] * over), 31), 31, "tested")


def test_max_directory_length() -> None:
    """In trailers and hints; and no pack that keeps its other limits has a longer one."""
    most = limits.MAX_DIRECTORY_LENGTH
    assert decode_trailer(trailer(24, most), 24 + most + 44, "tested")[1] == most
    with CORRUPT:
        decode_trailer(trailer(24, most + 1), 24 + most + 1 + 44, "tested")
    for length in (most, most + 1):
        fields = test_manifest.hint_with(100 + length + 44, 100)
        if length == most:
            decode_manifest(test_manifest.manifest_with(**fields), "tested")
        else:
            with CORRUPT:
                decode_manifest(test_manifest.manifest_with(**fields), "tested")
    assert most >= 8 + limits.MAX_PACK_CHUNKS * (13 + 37)


def segment_header(entries: int, bits: int) -> tuple[bytes, int]:
    length = HEADER_LENGTH + 4 * ((1 << bits) + 1) + 44 * entries
    return struct.pack("<4sBB2xIIQQ", b"CSIX", 1, bits, 0, 0, entries, length), length


def test_max_segment_entries() -> None:
    """By the header, before anything is allocated."""
    most = limits.MAX_SEGMENT_ENTRIES
    header, length = segment_header(most, 24)
    assert decode_header(header, length, "tested").entries == most
    header, length = segment_header(most + 1, 24)
    with CORRUPT:
        decode_header(header, length, "tested")
    with CORRUPT:
        decode_segment(header + bytes(100), "tested")


def test_max_fanout_bits() -> None:
    """No number of entries has more, and a header that says so is refused."""
    most = limits.MAX_FANOUT_BITS
    assert fanout_bits(limits.MAX_SEGMENT_ENTRIES) == fanout_bits(1 << 40) == most
    header, length = segment_header(limits.MAX_SEGMENT_ENTRIES, most + 1)
    with CORRUPT:
        decode_header(header, length, "tested")


def test_max_inline_chunks() -> None:
    """In blobs and lists; a builder never makes a longer one."""
    most = limits.MAX_INLINE_CHUNKS
    check_blob(blob_of(0, [1] * most), "tested")
    with CORRUPT:
        check_blob(blob_of(0, [1] * (most + 1)), "tested")
    over = [0, most + 1, bytes(32 * (most + 1)), struct.pack("<I", 1) * (most + 1)]
    with CORRUPT:
        decode_list(laws.document(blobs.LIST, laws.packed(over)), "tested")
    for count, depth in ((most, 0), (most + 1, 1), (3 * most + 5, 1)):
        lists: list[Blob] = []

        def keep(data: bytes, lists: list[Blob] = lists) -> ChunkId:
            lists.append(decode_list(data, "tested"))
            return ChunkId(blake3(data).digest())

        builder = BlobBuilder(keep)
        for _ in range(count):
            builder.add([b"\xff" * 32], [7])
        made = check_blob(builder.finish(), "tested")
        assert (made.depth, made.size) == (depth, 7 * count)
        assert all(part.count <= most for part in [made, *lists])
        assert sum(part.count for part in lists if part.depth == 0) == (count if depth else 0)


def test_max_blob_depth() -> None:
    """In blobs; a list stands one level lower at the most."""
    most = limits.MAX_BLOB_DEPTH
    check_blob(blob_of(most, [1]), "tested")
    with CORRUPT:
        check_blob(blob_of(most + 1, [1]), "tested")
    for depth in (most - 1, most):
        data = laws.document(blobs.LIST, laws.packed([depth, 1, bytes(32), struct.pack("<Q", 1)]))
        if depth < most:
            assert decode_list(data, "tested").depth == depth
        else:
            with CORRUPT:
                decode_list(data, "tested")


def test_max_version_files() -> None:
    """In refs, manifests, and for the writer of pages."""
    most = limits.MAX_VERSION_FILES
    decode_ref(test_ref.ref_with(**test_ref.version_with(4, most)), "tested")
    with CORRUPT:
        decode_ref(test_ref.ref_with(**test_ref.version_with(4, most + 1)), "tested")
    pages = [[bytes(32), f"{number:03}", 1 << 19, [], None] for number in range(96)]
    rest = most - 95 * (1 << 19)
    for last in (rest, rest + 1):
        pages[-1][2] = last
        total = 95 * (1 << 19) + last
        data = test_manifest.manifest_with(f5=[total, 0, 0], f6=[], f7=pages)
        if last == rest:
            assert decode_manifest(data, "tested").files == most
        else:
            with CORRUPT:
                decode_manifest(data, "tested")
    pager = Pager(lambda _identifier, _data: 0)
    pager.files = most - 1
    pager.add(Entry("a", EntryKind.LINK, target="x"), set())
    with pytest.raises(InvalidInputError, match=str(most)):
        pager.add(Entry("b", EntryKind.LINK, target="x"), set())


def test_max_file_size() -> None:
    """In blobs, of each chunk and of their sum, and in lists."""
    most = limits.MAX_FILE_SIZE
    check_blob(blob_of(1, [most]), "tested")
    for sizes in ([most + 1], [most, 1]):
        with CORRUPT:
            check_blob(blob_of(1, sizes), "tested")
        packed = struct.pack(f"<{len(sizes)}Q", *sizes)
        fields = [1, sum(sizes), bytes(32 * len(sizes)), packed]
        with CORRUPT:
            decode_list(laws.document(blobs.LIST, laws.packed(fields)), "tested")


@pytest.mark.parametrize("letter", ["p", "\u00fc", "\u6f22"])
def test_max_path_part(letter: str) -> None:
    """In bytes of UTF-8, not characters; as the file systems that a version goes to."""
    most = limits.MAX_PATH_PART
    width = len(letter.encode())
    part = letter * (most // width) + "x" * (most % width)
    assert len(part.encode()) == most
    for path in (part, f"a/{part}", f"{part}/b"):
        assert path_problem(path) is None
        assert "part of more than 255" in str(path_problem(path.replace(part, part + "x")))
    with CORRUPT:
        decode_page(encode_page([Entry(part + "x", EntryKind.FILE, file_hash=HASH)]), "tested")


def test_max_path_length() -> None:
    """All parts and slashes together, in bytes."""
    most = limits.MAX_PATH_LENGTH
    path = "/".join(["p" * 255] * 16)
    assert len(path) == most - 1
    assert path_problem(path[:-2] + "/pp"[:3]) is None
    assert len(path[:-2] + "/pp") == most
    assert "longer" in str(path_problem(path + "pp"))
    for name, fine in ((path[:-2] + "/pp", True), (path[:-2] + "/ppp", False)):
        data = encode_page([Entry(name + "/", EntryKind.FOLDER)])
        if fine:
            assert decode_page(data, "tested")[0].path == name + "/"
        else:
            with CORRUPT:
                decode_page(data, "tested")


def test_max_path_depth() -> None:
    """Parts of one path, so that nobody recurses without end."""
    most = limits.MAX_PATH_DEPTH
    assert path_problem("/".join("a" * most)) is None
    assert "parts" in str(path_problem("/".join("a" * (most + 1))))


def test_max_link_target() -> None:
    """In pages, in bytes of UTF-8."""
    most = limits.MAX_LINK_TARGET
    for target in ("x" * most, "\u00fc" * (most // 2)):
        data = encode_page([Entry("a", EntryKind.LINK, target=target)])
        assert decode_page(data, "tested")[0].target == target
        with CORRUPT:
            decode_page(encode_page([Entry("a", EntryKind.LINK, target=target + "x")]), "tested")


def test_max_name_length() -> None:
    """Of datasets and tags, in refs and where callers name them."""
    name = "n" * limits.MAX_NAME_LENGTH
    assert decode_ref(encode_ref(empty_ref(name)), "tested").dataset == name
    assert check_name(name, "tag") == name
    with CORRUPT:
        decode_ref(test_ref.ref_with(f0=name + "n"), "tested")
    with CORRUPT:
        decode_ref(test_ref.ref_with(f6=[[name + "n", 3]]), "tested")
    with pytest.raises(InvalidInputError):
        check_name(name + "n", "dataset")


GOOD_NAMES = ["a", "0", "imagenet", "team/run-42", "a.b_c-d", "a/b/c/d", "1.0", "a-", "a."]
BAD_NAMES = [
    "", "A", "\u00e4", ".a", "-a", "_a", "/a", "a/", "a//b", "a..b", "..", "a/../b", "a b", "a\n",
    "a~b", "a\\b", "a:b", "a@b", "a\0", "\uff41",
]  # fmt: skip


def test_name() -> None:
    """What may be called so has a key of its own; nothing else is taken, by callers or in refs."""
    for name in GOOD_NAMES:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._/-]{0,200}", name)
        assert check_name(name, "dataset") == name
        assert dataset_of(ref_key(name)) == name
        decode_ref(test_ref.ref_with(f0=name), "tested")
    assert len({ref_key(name) for name in GOOD_NAMES}) == len(GOOD_NAMES)
    for name in BAD_NAMES:
        with pytest.raises(InvalidInputError) as caught:
            check_name(name, "dataset")
        assert caught.value.hint
        with CORRUPT:
            decode_ref(test_ref.ref_with(f0=name), "tested")
        with CORRUPT:
            decode_ref(test_ref.ref_with(f6=[[name, 3]]), "tested")


def test_max_message_length() -> None:
    """In refs, manifests and where a caller gives one, in bytes of UTF-8."""
    most = limits.MAX_MESSAGE_LENGTH
    for message in ("m" * most, "\u00fc" * (most // 2)):
        assert PushOptions(message=message).message == message
        decode_ref(test_ref.ref_with(**test_ref.version_with(3, message)), "tested")
        decode_manifest(test_manifest.manifest_with(f2=message), "tested")
        with pytest.raises(InvalidInputError):
            PushOptions(message=message + "m")
        with CORRUPT:
            decode_ref(test_ref.ref_with(**test_ref.version_with(3, message + "m")), "tested")
        with CORRUPT:
            decode_manifest(test_manifest.manifest_with(f2=message + "m"), "tested")


def test_max_commit_nonces(store: Store) -> None:
    """A ref keeps the newest, and one that has more is refused."""
    most = limits.MAX_COMMIT_NONCES
    nonces = [bytes([number]) * 16 for number in range(most + 1)]
    decode_ref(test_ref.ref_with(f2=nonces[0], f7=nonces[:most]), "tested")
    with CORRUPT:
        decode_ref(test_ref.ref_with(f2=nonces[0], f7=nonces), "tested")
    for number in range(most + 6):
        store._refs.swap("data", lambda old: old, lambda: 0, create=True)
        stored = store._refs.get("data")
        assert stored is not None
        assert stored.ref.sequence == number + 2
        assert len(set(stored.ref.nonces)) == min(number + 2, most)
