"""Versions that no writer of chunkstore would make: encoded by hand, past every check."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from chunkstore import Store, layout
from chunkstore.backends.base import Overwrite
from chunkstore.backends.memory import MemoryBackend
from chunkstore.format.config import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_PACK_LENGTH,
    ChunkerSpec,
    Config,
)
from chunkstore.format.document import encode_document
from chunkstore.format.manifest import MANIFEST, PAGE
from chunkstore.format.pack import Codec, Frame, PackClass, encode_directory, new_header
from chunkstore.format.ref import VersionRecord, empty_ref, encode_ref
from chunkstore.ids import ChunkId, ChunkKind, ManifestId, PackId, chunk_id, content_hash
from chunkstore.objects import Objects

CONTENT = b"hello, world\n"


def data_id(data: bytes = CONTENT) -> bytes:
    """Return the chunk id of file content."""
    return chunk_id(ChunkKind.DATA, data)


def sizes(*numbers: int, width: int = 4) -> bytes:
    """Return sizes as a blob has them."""
    return b"".join(number.to_bytes(width, "little") for number in numbers)


def file(path: str, **changes: Any) -> list[Any]:
    """Return the fields of a good file entry with CONTENT, some of them changed."""
    fields = {
        "path": path,
        "kind": 0,
        "executable": False,
        "mtime": 0,
        "hash": blake3(CONTENT).digest(),
        "size": len(CONTENT),
        "depth": 0,
        "ids": data_id(),
        "sizes": sizes(len(CONTENT)),
    }
    return list((fields | changes).values())


def link(path: str, target: str) -> list[Any]:
    """Return the fields of a link entry."""
    return [path, 2, target]


def folder(path: str) -> list[Any]:
    """Return the fields of an empty folder's entry."""
    return [path, 1]


@dataclass
class Forged:
    """What stands in a version: pages of entries, and what its root says of them.

    Attributes:
        pages: the entries of each page.
        chunks: chunks besides CONTENT that the store shall have.
        root: fields of the root, by number, that are not what they should be.
        page: fields of each page in the root, by number, that are not what they should be.
    """

    pages: Sequence[Sequence[list[Any]]]
    chunks: Sequence[tuple[ChunkKind, bytes]] = ()
    root: dict[int, Any] = field(default_factory=dict)
    page: dict[int, Any] = field(default_factory=dict)


def put_pack(
    backend: MemoryBackend, chunks: Sequence[tuple[ChunkKind, bytes]], ids: Sequence[bytes] = ()
) -> list[Any]:
    """Store a pack of these chunks and return its hint; `ids` lie about what they are."""
    names = [ChunkId(i) for i in ids] or [chunk_id(kind, data) for kind, data in chunks]
    raw = b"".join(data for _, data in chunks)
    frame = Frame(
        len(raw), Codec.RAW, len(raw), names, [len(d) for _, d in chunks], [k for k, _ in chunks]
    )
    head = new_header(PackClass.DATA) + raw
    pack = head + encode_directory([frame])
    identifier = PackId(content_hash([pack]))
    backend.put(layout.pack_key(identifier), [pack], Overwrite())
    return [identifier, len(pack), len(head)]


def forge(version: Forged, *, ids: Sequence[bytes] = ()) -> Store:
    """Return a new store in memory with `version` in the dataset `data`; for `ids` see put_pack."""
    config = Config(
        store_id=bytes(16),
        created_ns=1,
        chunker=ChunkerSpec(),
        frame_size=DEFAULT_FRAME_SIZE,
        pack_length=DEFAULT_PACK_LENGTH,
    )
    backend = MemoryBackend()
    Objects(backend).create_config(config)
    hint = put_pack(backend, [(ChunkKind.DATA, CONTENT), *version.chunks], ids)
    entries = [entry for page in version.pages for entry in page]
    listed = []
    for page in version.pages:
        data = encode_document(PAGE, list(page))
        first = page[0][0] if page else "a"
        ref_fields: list[Any] = [
            chunk_id(ChunkKind.PAGE, data),
            first,
            max(1, len(page)),
            [0],
            data,
        ]
        for number, value in version.page.items():
            ref_fields[number] = value
        listed.append(ref_fields)
    size = sum(entry[5] for entry in entries if len(entry) == 9 and isinstance(entry[5], int))
    root = ["data", 1, "", None, bytes(16), [len(entries), size, 0], [hint], listed]
    for number, value in version.root.items():
        root[number] = value
    data = encode_document(MANIFEST, root)
    manifest = ManifestId(content_hash([data]))
    backend.put(layout.manifest_key(manifest), [data], Overwrite())
    record = VersionRecord(1, manifest, 1, "", len(entries), size, 0, 0)
    ref = dataclasses.replace(empty_ref("data"), versions=(record,), next_number=2)
    backend.put(layout.ref_key("data"), [encode_ref(ref)], Overwrite())
    return Store(backend, config, None)
