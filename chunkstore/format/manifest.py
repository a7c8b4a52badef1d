"""The manifest of one version: its root, and pages of entries sorted by path.

Implements sections 8 and 9, "Page" and "Manifest", of docs/design/format.md. Pure; decoding
raises only CorruptObjectError and UnsupportedFormatError, whatever the bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from blake3 import blake3

from chunkstore import limits
from chunkstore.errors import InvalidInputError
from chunkstore.format.blob import EMPTY, Blob, check_blob
from chunkstore.format.document import (
    DocumentKind,
    Fields,
    corrupt,
    decode_document,
    encode_document,
    join_document,
    pack_value,
)
from chunkstore.format.pack import HEADER_LENGTH, TRAILER_LENGTH
from chunkstore.format.path import PathOrder, path_problem
from chunkstore.ids import (
    ID_SIZE,
    NO_HASH,
    ChunkId,
    ChunkKind,
    FileHash,
    ManifestId,
    PackId,
    chunk_id,
)

PAGE: Final = DocumentKind("page", b"CSPG", 1, limits.MAX_PAGE_LENGTH, sealed=False)
MANIFEST: Final = DocumentKind("manifest", b"CSMF", 1, limits.MAX_MANIFEST_LENGTH, sealed=False)

PAGE_TARGET: Final = 64 * limits.KIB
INLINE_PAGES: Final = 64 * limits.KIB
"""Pages of a version that are shorter than this in all are kept inside the root."""

_ENTRY_FIELDS: Final = (9, 2, 3)  # of a file, folder, link
_LONGEST_PATH: Final = limits.MAX_PATH_LENGTH + 1  # a folder's slash is no part of its path


class EntryKind(IntEnum):
    """What stands at a path."""

    FILE = 0
    FOLDER = 1  # only empty folders have entries; their paths end with a slash
    LINK = 2


class Entry(NamedTuple):
    """One path of a version.

    Attributes:
        path: UTF-8, NFC, parts joined by slashes; an empty folder's ends with a slash.
        kind: file, empty folder or symbolic link.
        executable: whether the x bit is set (files only).
        mtime_ns: nanoseconds since the epoch (files only, else 0).
        file_hash: BLAKE3-256 of the whole file, what `b3sum` prints; empty unless a file.
        target: where a link points; empty unless a link.
        blob: the content of a file; the empty Blob otherwise.
    """

    path: str
    kind: EntryKind
    executable: bool = False
    mtime_ns: int = 0
    file_hash: FileHash = NO_HASH
    target: str = ""
    blob: Blob = EMPTY

    @property
    def size(self) -> int:
        """Bytes of the file; 0 for a link or folder."""
        return self.blob.size

    def same_content(self, other: Entry) -> bool:
        """Whether the two differ in nothing but their mtime."""
        return self._replace(mtime_ns=0) == other._replace(mtime_ns=0)


class PackHint(NamedTuple):
    """Where a pack's directory was at commit: enough for one exact ranged read of it."""

    pack_id: PackId
    length: int
    directory_offset: int


class PageRef(NamedTuple):
    """A page as the root names it.

    Attributes:
        page_id: the page's chunk id.
        first_path: path of its first entry.
        entries: how many entries it has.
        packs: numbers of PackHints where the page, its lists and its files' chunks lay.
        inline: the page's raw bytes where the root keeps them, else None.
    """

    page_id: ChunkId
    first_path: str
    entries: int
    packs: tuple[int, ...]
    inline: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The root of one version.

    Attributes:
        dataset: the dataset it was committed to.
        created_ns: nanoseconds since the epoch by the writer's clock.
        message: what the author says of it.
        parent: the manifest it was made from, or None.
        nonce: 16 random bytes, so that two commits never share a manifest.
        files: entries, links and empty folders included.
        size: bytes of all files.
        new_bytes: raw bytes of the chunks that the store lacked.
        packs: hints.
        pages: the pages in order.
    """

    dataset: str
    created_ns: int
    message: str
    parent: ManifestId | None
    nonce: bytes
    files: int
    size: int
    new_bytes: int
    packs: tuple[PackHint, ...]
    pages: tuple[PageRef, ...]


def encode_entry(entry: Entry) -> list[Any]:
    """Return the array that stands for `entry` in a page."""
    if entry.kind == EntryKind.FOLDER:
        return [entry.path, 1]
    if entry.kind == EntryKind.LINK:
        return [entry.path, 2, entry.target]
    blob = entry.blob
    return [
        entry.path,
        0,
        entry.executable,
        entry.mtime_ns,
        entry.file_hash,
        blob.size,
        blob.depth,
        blob.ids,
        blob.sizes,
    ]


def encode_page(entries: Sequence[Entry]) -> bytes:
    """Return the raw bytes of the page chunk of these entries."""
    return join_page([pack_entry(entry) for entry in entries])


def pack_entry(entry: Entry) -> bytes:
    """Return the bytes that stand for `entry` in a page."""
    return pack_value(encode_entry(entry))


def join_page(packed: Sequence[bytes]) -> bytes:
    """Return the raw bytes of the page chunk of entries that are packed already."""
    return join_document(PAGE, packed)


def ends_page(entry: Entry, length: int) -> bool:
    """Whether a page ends after `entry`, which takes `length` bytes.

    Chosen by a hash of the path with a chance in proportion to the entry's length, so that pages
    come to about 64 KiB and an insertion moves no boundary but its own.
    """
    draw = int.from_bytes(blake3(entry.path.encode()).digest(8), "big")
    return draw < (length << 64) // PAGE_TARGET


def decode_page(data: bytes, where: str) -> list[Entry]:
    """Return the entries of a page, each checked, their order included.

    Raises:
        CorruptObjectError: not a page.
        UnsupportedFormatError: a page of another format version.
    """
    fields = decode_document(PAGE, data, where)
    order = PathOrder()
    entries: list[Entry] = []
    for _ in range(fields.array(limits.MAX_PAGE_LENGTH)):
        entry = _decode_entry(fields, where)
        problem = order.problem(entry.path)
        if problem:
            corrupt(f"path {entry.path!r}: {problem}", where)
        entries.append(entry)
    fields.end()
    if not entries:
        corrupt("a page without entries", where)
    return entries


def _decode_entry(fields: Fields, where: str) -> Entry:
    count = fields.array(9)
    path = fields.text(_LONGEST_PATH)
    kind = fields.integer(0, 2)
    is_folder = kind == EntryKind.FOLDER
    if is_folder and not path.endswith("/"):
        corrupt(f"path {path!r}: a folder without a slash at its end", where)
    problem = path_problem(path[:-1] if is_folder else path)
    if problem:
        corrupt(f"path {path!r}: {problem}", where)
    if count != _ENTRY_FIELDS[kind]:
        corrupt(f"an entry of kind {kind} with {count} fields", where)
    if is_folder:
        return Entry(path, EntryKind.FOLDER)
    if kind == EntryKind.LINK:
        target = fields.text(limits.MAX_LINK_TARGET)
        if not target or "\0" in target:
            corrupt(f"link {path!r}: its target is empty or has a NUL", where)
        return Entry(path, EntryKind.LINK, target=target)
    return Entry(
        path,
        EntryKind.FILE,
        fields.boolean(),
        fields.integer(-(1 << 63), (1 << 63) - 1),
        FileHash(fields.binary(ID_SIZE)),
        "",
        check_blob(
            Blob(
                fields.integer(0, limits.MAX_FILE_SIZE),
                fields.integer(0, limits.MAX_BLOB_DEPTH),
                fields.bounded_binary(limits.MAX_INLINE_CHUNKS * ID_SIZE),
                fields.bounded_binary(limits.MAX_INLINE_CHUNKS * 8),
            ),
            where,
        ),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest object."""
    return encode_document(
        MANIFEST,
        [
            manifest.dataset,
            manifest.created_ns,
            manifest.message,
            manifest.parent,
            manifest.nonce,
            [manifest.files, manifest.size, manifest.new_bytes],
            [list(hint) for hint in manifest.packs],
            [
                [page.page_id, page.first_path, page.entries, list(page.packs), page.inline]
                for page in manifest.pages
            ],
        ],
    )


def fit_manifest(manifest: Manifest) -> Manifest:
    """Return `manifest`, without its hints where they would make it longer than allowed.

    Hints are a convenience: without them readers ask the index.
    """
    try:
        encode_manifest(manifest)
    except InvalidInputError:
        pages = tuple(page._replace(packs=()) for page in manifest.pages)
        return dataclasses.replace(manifest, packs=(), pages=pages)
    return manifest


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest that `data` holds; the pages kept inside it are not yet decoded.

    Raises:
        CorruptObjectError: not a manifest, or one that contradicts itself.
        UnsupportedFormatError: a manifest of another format version.
    """
    fields = decode_document(MANIFEST, data, where)
    fields.record(8)
    dataset = fields.name()
    created_ns = fields.integer(0, (1 << 63) - 1)
    message = fields.text(limits.MAX_MESSAGE_LENGTH)
    parent = None if fields.nil() else ManifestId(fields.binary(ID_SIZE))
    nonce = fields.binary(16)
    fields.record(3)
    files = fields.integer(0, limits.MAX_VERSION_FILES)
    size = fields.integer(0, (1 << 63) - 1)
    new_bytes = fields.integer(0, (1 << 63) - 1)
    packs = tuple(_decode_hint(fields) for _ in range(fields.array(limits.MAX_MANIFEST_LENGTH)))
    pages = tuple(
        _decode_page_ref(fields, len(packs), where)
        for _ in range(fields.array(limits.MAX_MANIFEST_LENGTH))
    )
    fields.end()
    if sum(page.entries for page in pages) != files:
        corrupt("the pages' entries do not add up", where)
    paths = [page.first_path.encode() for page in pages]
    if any(after <= before for before, after in itertools.pairwise(paths)):
        corrupt("the pages are not sorted", where)
    return Manifest(
        dataset=dataset,
        created_ns=created_ns,
        message=message,
        parent=parent,
        nonce=nonce,
        files=files,
        size=size,
        new_bytes=new_bytes,
        packs=packs,
        pages=pages,
    )


def _decode_hint(fields: Fields) -> PackHint:
    fields.record(3)
    pack = PackId(fields.binary(ID_SIZE))
    length = fields.integer(HEADER_LENGTH + TRAILER_LENGTH, limits.MAX_PACK_LENGTH)
    low = max(HEADER_LENGTH, length - TRAILER_LENGTH - limits.MAX_DIRECTORY_LENGTH)
    return PackHint(pack, length, fields.integer(low, length - TRAILER_LENGTH))


def _decode_page_ref(fields: Fields, packs: int, where: str) -> PageRef:
    fields.record(5)
    page_id = ChunkId(fields.binary(ID_SIZE))
    first_path = fields.text(_LONGEST_PATH)
    problem = path_problem(first_path.removesuffix("/"))
    if problem:
        corrupt(f"a page begins with the path {first_path!r}: {problem}", where)
    entries = fields.integer(1, limits.MAX_PAGE_LENGTH)
    numbers: list[int] = []
    for _ in range(fields.array(packs)):
        numbers.append(fields.integer(numbers[-1] + 1 if numbers else 0, packs - 1))
    inline = None if fields.nil() else fields.bounded_binary(limits.MAX_PAGE_LENGTH)
    if inline is not None and chunk_id(ChunkKind.PAGE, inline) != page_id:
        corrupt("a page kept inside the root does not have its id", where)
    return PageRef(page_id, first_path, entries, tuple(numbers), inline)
