"""The worked example of docs/design/format.md: a whole store of known bytes, and its dump.

`python -m tests.compat.worked_example` prints the blocks that stand in the document.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from chunkstore.format.blob import Blob, encode_list
from chunkstore.format.config import Config, encode_config
from chunkstore.format.gc import GcState, encode_condemned, encode_gc_state
from chunkstore.format.index import IndexedPack, encode_segment
from chunkstore.format.manifest import (
    Entry,
    EntryKind,
    Manifest,
    PackHint,
    PageRef,
    encode_manifest,
    encode_page,
)
from chunkstore.format.pack import Codec, Frame, decode_directory, encode_directory
from chunkstore.format.ref import Ref, VersionRecord, encode_ref
from chunkstore.ids import ChunkKind, FileHash, ManifestId, PackId, chunk_id, content_hash

BEGIN: Final = 1_700_000_000_000_000_000
SECOND: Final = 1_000_000_000
HELLO: Final = b"hello, chunkstore\n"
ZEROS: Final = bytes(1000)
# What zstd made of ZEROS. Another release may make other bytes of them; these stay readable.
ZEROS_FRAME: Final = bytes.fromhex("28b52ffd60e8024d00001000000100e32b8005")


def run(first: int) -> bytes:
    """Return 16 bytes that ascend from `first`, in place of random ones."""
    return bytes(range(first, first + 16))


CONFIG: Final = Config(store_id=run(0x00), created_ns=BEGIN)

HELLO_ID: Final = chunk_id(ChunkKind.DATA, HELLO)
ZEROS_ID: Final = chunk_id(ChunkKind.DATA, ZEROS)
FRAMES: Final = [
    Frame(len(HELLO), Codec.RAW, len(HELLO), [HELLO_ID], [len(HELLO)], [ChunkKind.DATA]),
    Frame(len(ZEROS_FRAME), Codec.ZSTD, len(ZEROS), [ZEROS_ID], [len(ZEROS)], [ChunkKind.DATA]),
]
_TAIL: Final = encode_directory(FRAMES)
_BODY: Final = struct.pack("<4sBB2x16s", b"CSPK", 1, 0, run(0x10)) + HELLO + ZEROS_FRAME
PACK: Final = _BODY + _TAIL
PACK_ID: Final = PackId(content_hash([PACK]))
HINT: Final = PackHint(PACK_ID, len(PACK), len(_BODY))

SEGMENT: Final = encode_segment(
    [IndexedPack(PACK_ID, len(PACK), len(_BODY), decode_directory(_TAIL, len(_BODY), "example"))],
    nonce=run(0x50),
)

ENTRIES: Final = [
    Entry(
        "hello.txt",
        EntryKind.FILE,
        True,
        BEGIN + SECOND,
        FileHash(content_hash([HELLO])),
        "",
        Blob(len(HELLO), 0, HELLO_ID, struct.pack("<I", len(HELLO))),
    ),
    Entry("link", EntryKind.LINK, target="hello.txt"),
    Entry("new/", EntryKind.FOLDER),
    Entry(
        "zeros.bin",
        EntryKind.FILE,
        False,
        -1,
        FileHash(content_hash([ZEROS])),
        "",
        Blob(len(ZEROS), 0, ZEROS_ID, struct.pack("<I", len(ZEROS))),
    ),
]
PAGE: Final = encode_page(ENTRIES)
PAGE_REF: Final = PageRef(chunk_id(ChunkKind.PAGE, PAGE), "hello.txt", 4, (0,), PAGE)

MANIFEST: Final = Manifest(
    dataset="demo/first",
    created_ns=BEGIN + 2 * SECOND,
    message="a worked example",
    parent=None,
    nonce=run(0x20),
    files=4,
    size=len(HELLO) + len(ZEROS),
    new_bytes=len(HELLO) + len(ZEROS),
    packs=(HINT,),
    pages=(PAGE_REF,),
)
MANIFEST_BYTES: Final = encode_manifest(MANIFEST)
MANIFEST_ID: Final = ManifestId(content_hash([MANIFEST_BYTES]))

REF: Final = Ref(
    dataset="demo/first",
    sequence=2,
    nonce=run(0x40),
    gc_generation=1,
    next_number=2,
    versions=(
        VersionRecord(
            1,
            MANIFEST_ID,
            MANIFEST.created_ns,
            MANIFEST.message,
            MANIFEST.files,
            MANIFEST.size,
            MANIFEST.new_bytes,
            len(PACK) + len(SEGMENT) + len(MANIFEST_BYTES),
        ),
    ),
    tags=(("good", 1),),
    nonces=(run(0x40), run(0x30)),
)
GC_STATE: Final = GcState(1, "")
CONDEMNED: Final = frozenset({PackId(bytes(31) + b"\1"), PackId(b"\xff" * 32)})
LIST: Final = Blob(
    len(HELLO) + len(ZEROS), 0, HELLO_ID + ZEROS_ID, struct.pack("<II", len(HELLO), len(ZEROS))
)


@dataclass(frozen=True)
class Part:
    """Some bytes of an object, and what they mean."""

    data: bytes
    meaning: str


def parts_of(widths: Iterable[tuple[int, str]], data: bytes) -> Iterator[Part]:
    """Yield the parts of binary columns with these widths; together they are all of `data`."""
    at = 0
    for width, meaning in widths:
        yield Part(data[at : at + width], meaning)
        at += width
    assert at == len(data)


def document_parts(data: bytes, meanings: Iterable[str], *, sealed: bool) -> Iterator[Part]:
    """Yield the parts of a document: magic, version, one part for each value, checksum."""
    yield Part(data[:4], f"magic {data[:4].decode()!r}")
    yield Part(data[4:5], "version")
    at, end = 5, len(data) - 32 * sealed
    for meaning in meanings:
        width, shown = value_at(data, at)
        yield Part(data[at : at + width], f"{meaning}: {shown}" if shown else meaning)
        at += width
    assert at == end
    if sealed:
        yield Part(data[end:], "BLAKE3-256 of all before")


def value_at(data: bytes, at: int) -> tuple[int, str]:
    """Return the length of the msgpack value that begins there, and how to show it.

    Of an array only its head. Knows the forms that stand in the example.
    """
    tag = data[at]
    if tag < 0x80 or tag >= 0xE0:
        return 1, str(tag if tag < 0x80 else tag - 256)
    if 0x90 <= tag < 0xA0:
        return 1, f"array of {tag - 0x90}"
    if 0xA0 <= tag < 0xC0:
        return 1 + tag - 0xA0, repr(data[at + 1 : at + 1 + tag - 0xA0].decode())
    if tag in (0xC0, 0xC2, 0xC3):
        return 1, {0xC0: "nil", 0xC2: "false", 0xC3: "true"}[tag]
    if tag in (0xC4, 0xC5):
        width = tag - 0xC3
        length = int.from_bytes(data[at + 1 : at + 1 + width], "big")
        return 1 + width + length, f"{length} bytes"
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}[tag]
    return 1 + width, f"{int.from_bytes(data[at + 1 : at + 1 + width], 'big'):,}"


def dump(title: str, parts: Iterable[Part]) -> str:
    """Return the block of the document: offset, at most 16 bytes a line, meaning."""
    lines, at = [title], 0
    for part in parts:
        for start in range(0, len(part.data), 16):
            piece = part.data[start : start + 16].hex(" ")
            meaning = part.meaning if start == 0 else ""
            lines.append(f"{at + start:04x}  {piece:<47}  {meaning}".rstrip())
        at += len(part.data)
    return "\n".join(lines)


PACK_PARTS: Final = [
    (4, "magic 'CSPK'"),
    (1, "version"),
    (1, "class: data"),
    (2, "reserved"),
    (16, "nonce"),
    (18, "frame 0, raw: 'hello, chunkstore\\n'"),
    (19, "frame 1, zstd: 1,000 zeros"),
    (4, "frames: 2"),
    (4, "chunks: 2"),
    (8, "stored bytes of each frame: 18, 19"),
    (8, "raw bytes of each frame: 18, 1,000"),
    (8, "chunks of each frame: 1, 1"),
    (2, "codec of each frame: raw, zstd"),
    (32, "id of chunk 0"),
    (32, "id of chunk 1"),
    (8, "raw bytes of each chunk: 18, 1,000"),
    (2, "kind of each chunk: data, data"),
    (4, "offset of the directory: 61"),
    (4, "length of the directory: 108"),
    (32, "BLAKE3-256 of the directory"),
    (4, "magic 'CSPT'"),
]
SEGMENT_PARTS: Final = [
    (4, "magic 'CSIX'"),
    (1, "version"),
    (1, "fan-out bits: 0"),
    (2, "reserved"),
    (4, "packs: 1"),
    (4, "frames: 2"),
    (8, "entries: 2"),
    (8, "length: 220"),
    (8, "fan-out: 0 entries before slot 0, 2 in all"),
    (32, "id of pack 0"),
    (4, "its stored bytes: 213"),
    (4, "offset of its directory: 61"),
    (4, "its frames: 2"),
    (8, "offset of each frame: 24, 42"),
    (8, "stored bytes of each frame: 18, 19"),
    (8, "raw bytes of each frame: 18, 1,000"),
    (8, "codec of each frame: raw, zstd"),
    (32, "id of entry 0"),
    (32, "id of entry 1"),
    (8, "frame of each entry"),
    (8, "offset of each entry in its raw frame: 0, 0"),
    (8, "raw bytes of each entry"),
    (16, "nonce"),
]
CONFIG_MEANINGS: Final = [
    "config", "store id", "created", "hash", "key of the ids", "chunker", "name", "least",
    "average", "most", "frame size", "pack length", "read features", "write features",
    "gc features",
]  # fmt: skip
_FILE: Final = [
    "entry", "path", "kind, a file", "executable", "mtime in ns", "BLAKE3-256 of the file",
    "size", "depth", "ids", "sizes",
]  # fmt: skip
PAGE_MEANINGS: Final = [
    "page", *_FILE, "entry", "path", "kind, a link", "target",
    "entry", "path", "kind, an empty folder", *_FILE,
]  # fmt: skip
MANIFEST_MEANINGS: Final = [
    "manifest", "dataset", "created", "message", "parent", "nonce", "totals", "files", "size",
    "new bytes", "pack table", "hint 0", "pack id", "stored bytes", "offset of the directory",
    "pages", "page 0", "page id", "first path", "entries", "packs", "hint number",
    "the page itself, see below",
]  # fmt: skip
REF_MEANINGS: Final = [
    "ref", "dataset", "sequence", "nonce", "gc generation", "next number", "versions", "version",
    "number", "manifest id", "created", "message", "files", "size", "new bytes", "stored bytes",
    "tags", "tag", "name", "version", "nonces, newest first", "this write", "the write before",
]  # fmt: skip

OBJECTS: Final = {
    "config": encode_config(CONFIG),
    f"packs/{PACK_ID.hex()[:2]}/{PACK_ID.hex()}": PACK,
    f"index/{content_hash([SEGMENT]).hex()}": SEGMENT,
    f"manifests/{MANIFEST_ID.hex()}": MANIFEST_BYTES,
    "refs/demo~first": encode_ref(REF),
    "gc/current": encode_gc_state(GC_STATE),
}
"""The store: key to bytes."""

OTHERS: Final = {
    "the page inside the manifest": PAGE,
    "a list chunk (not part of this store)": encode_list(LIST),
    "gc/condemned/1-example (not part of this store)": encode_condemned(CONDEMNED),
}
"""What is shown besides: title to bytes."""


def explained() -> dict[str, list[Part]]:
    """Return the parts of all that is shown, by title."""
    config, pack, segment, manifest, ref, state = OBJECTS
    page, listed, condemned = OTHERS
    data = OBJECTS | OTHERS

    def document(title: str, meanings: Iterable[str], *, sealed: bool) -> list[Part]:
        return list(document_parts(data[title], meanings, sealed=sealed))

    return {
        config: document(config, CONFIG_MEANINGS, sealed=True),
        pack: list(parts_of(PACK_PARTS, data[pack])),
        segment: list(parts_of(SEGMENT_PARTS, data[segment])),
        manifest: document(manifest, MANIFEST_MEANINGS, sealed=False),
        page: document(page, PAGE_MEANINGS, sealed=False),
        ref: document(ref, REF_MEANINGS, sealed=True),
        state: document(state, ["gc state", "generation", "condemned list"], sealed=True),
        listed: document(listed, ["list", "depth", "size", "ids", "sizes"], sealed=False),
        condemned: document(condemned, ["condemned list", "pack ids, joined"], sealed=True),
    }


def blocks() -> dict[str, str]:
    """Return every block as it stands in the document, by title."""
    return {title: dump(title, parts) for title, parts in explained().items()}


if __name__ == "__main__":
    for text in blocks().values():
        sys.stdout.write(f"```text\n{text}\n```\n\n")
