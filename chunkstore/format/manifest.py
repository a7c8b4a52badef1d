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
from chunkstore.format.blob import EMPTY, Blob, check_blob
from chunkstore.format.document import (
    DocumentKind,
    Fields,
    corrupt,
    decode_document,
    encode_document,
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

_PAGE_OVERHEAD: Final = 16


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
    return encode_document(PAGE, [encode_entry(entry) for entry in entries])


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
    order = PathOrder()
    entries: list[Entry] = []
    for values in decode_document(PAGE, data, where):
        entry = _decode_entry(values, where)
        problem = order.problem(entry.path)
        if problem:
            corrupt(f"path {entry.path!r}: {problem}", where)
        entries.append(entry)
    if not entries:
        corrupt("a page without entries", where)
    return entries


def _decode_entry(values: object, where: str) -> Entry:
    if not isinstance(values, list) or len(values) < 2 or type(values[0]) is not str:
        corrupt("an entry is not an array that begins with a path", where)
    path, kind = values[0], values[1]
    is_folder = kind == EntryKind.FOLDER
    problem = path_problem(path[:-1] if is_folder and path.endswith("/") else path)
    if problem or (is_folder and not path.endswith("/")):
        corrupt(f"path {path[:300]!r}: {problem or 'a folder without a slash at its end'}", where)
    if type(kind) is not int:
        corrupt("an entry's kind is not an integer", where)
    if is_folder and len(values) == 2:
        return Entry(path, EntryKind.FOLDER)
    if kind == EntryKind.LINK and len(values) == 3:
        return Entry(path, EntryKind.LINK, target=_link_target(values[2], where))
    if kind == EntryKind.FILE and len(values) == 9:
        return _decode_file(path, values, where)
    corrupt(f"an entry of kind {kind} with {len(values)} fields", where)


def _link_target(target: object, where: str) -> str:
    if (
        type(target) is not str
        or not target
        or "\0" in target
        or len(target.encode("utf-8", "surrogatepass")) > limits.MAX_LINK_TARGET
    ):
        corrupt("a link's target is not text of 1 to 4,096 bytes", where)
    return target


def _decode_file(path: str, values: list[Any], where: str) -> Entry:
    _, _, executable, mtime_ns, file_hash, size, depth, ids, sizes = values
    if (
        type(executable) is not bool
        or type(mtime_ns) is not int
        or not -(1 << 63) <= mtime_ns < 1 << 63
        or type(file_hash) is not bytes
        or len(file_hash) != ID_SIZE
        or type(size) is not int
        or type(depth) is not int
        or type(ids) is not bytes
        or type(sizes) is not bytes
        or size < 0
    ):
        corrupt(f"the fields of file {path!r} have wrong types or lengths", where)
    blob = check_blob(Blob(size, depth, ids, sizes), where)
    return Entry(path, EntryKind.FILE, executable, mtime_ns, FileHash(file_hash), "", blob)


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
    if len(encode_manifest(manifest)) <= limits.MAX_MANIFEST_LENGTH:
        return manifest
    pages = tuple(page._replace(packs=()) for page in manifest.pages)
    return dataclasses.replace(manifest, packs=(), pages=pages)


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest that `data` holds; the pages kept inside it are not yet decoded.

    Raises:
        CorruptObjectError: not a manifest, or one that contradicts itself.
        UnsupportedFormatError: a manifest of another format version.
    """
    fields = Fields(decode_document(MANIFEST, data, where), 8, "manifest", where)
    dataset = fields.text(limits.MAX_NAME_LENGTH)
    created_ns = fields.integer(0, (1 << 63) - 1)
    message = fields.text(limits.MAX_MESSAGE_LENGTH)
    parent = fields.optional_binary(ID_SIZE)
    nonce = fields.binary(16)
    totals = Fields(fields.array(), 3, "totals", where)
    files = totals.integer(0, limits.MAX_VERSION_FILES)
    size = totals.integer(0, limits.MAX_VERSION_FILES * limits.MAX_FILE_SIZE)
    new_bytes = totals.integer(0, limits.MAX_VERSION_FILES * limits.MAX_FILE_SIZE)
    packs = tuple(_decode_hint(values, where) for values in fields.array())
    pages = tuple(_decode_page_ref(values, len(packs), where) for values in fields.array())
    if sum(page.entries for page in pages) != files:
        corrupt("the pages' entries do not add up", where)
    paths = [page.first_path.encode() for page in pages]
    if any(after <= before for before, after in itertools.pairwise(paths)):
        corrupt("the pages are not sorted", where)
    return Manifest(
        dataset=dataset,
        created_ns=created_ns,
        message=message,
        parent=None if parent is None else ManifestId(parent),
        nonce=nonce,
        files=files,
        size=size,
        new_bytes=new_bytes,
        packs=packs,
        pages=pages,
    )


def _decode_hint(values: object, where: str) -> PackHint:
    fields = Fields(values, 3, "pack hint", where)
    pack = PackId(fields.binary(ID_SIZE))
    length = fields.integer(HEADER_LENGTH + TRAILER_LENGTH, limits.MAX_PACK_LENGTH)
    low = max(HEADER_LENGTH, length - TRAILER_LENGTH - limits.MAX_DIRECTORY_LENGTH)
    return PackHint(pack, length, fields.integer(low, length - TRAILER_LENGTH))


def _decode_page_ref(values: object, packs: int, where: str) -> PageRef:
    fields = Fields(values, 5, "page", where)
    page_id = ChunkId(fields.binary(ID_SIZE))
    first_path = fields.text(limits.MAX_PATH_LENGTH)
    problem = path_problem(first_path.removesuffix("/"))
    if problem:
        corrupt(f"a page begins with the path {first_path!r}: {problem}", where)
    entries = fields.integer(1, limits.MAX_PAGE_LENGTH)
    numbers = fields.array()
    if any(type(number) is not int or not 0 <= number < packs for number in numbers):
        corrupt("a page names a pack that is not there", where)
    inline = values[4] if isinstance(values, list) else None
    if inline is not None:
        inline = fields.bounded_binary(limits.MAX_PAGE_LENGTH)
        if chunk_id(ChunkKind.PAGE, inline) != page_id:
            corrupt("a page kept inside the root does not have its id", where)
    return PageRef(page_id, first_path, entries, tuple(numbers), inline)
