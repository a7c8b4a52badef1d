"""Objects that no honest client would send, and honest ones to compare with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import httpx

from chunkstore import layout
from chunkstore.format.document import encode_document
from chunkstore.format.index import IndexedPack, encode_segment
from chunkstore.format.manifest import MANIFEST, PAGE
from chunkstore.format.pack import (
    Codec,
    Frame,
    PackClass,
    decode_directory,
    encode_directory,
    new_header,
)
from chunkstore.format.ref import Ref, VersionRecord, encode_ref
from chunkstore.ids import ChunkId, ChunkKind, ManifestId, PackId, SegmentId, chunk_id, content_hash

OBJECTS = "/v1/objects"
FRESH = {"If-None-Match": "*"}


def frame_of(chunks: Sequence[bytes], kind: ChunkKind = ChunkKind.DATA, **changes: Any) -> Frame:
    """Return a raw frame of chunks, with fields changed."""
    sizes = [len(chunk) for chunk in chunks]
    frame = Frame(
        sum(sizes),
        Codec.RAW,
        sum(sizes),
        [chunk_id(kind, chunk) for chunk in chunks],
        sizes,
        [kind] * len(chunks),
    )
    return dataclasses.replace(frame, **changes)


def pack_of(
    *frames: tuple[Frame, bytes], pack_class: PackClass = PackClass.DATA
) -> tuple[str, bytes]:
    """Return key and bytes of a pack of frames and their stored bytes."""
    body = new_header(pack_class) + b"".join(stored for _, stored in frames)
    data = body + encode_directory([frame for frame, _ in frames])
    return layout.pack_key(PackId(content_hash([data]))), data


def indexed(data: bytes) -> IndexedPack:
    """Return a pack as an index lists it."""
    offset = int.from_bytes(data[-44:-40], "little")
    directory = decode_directory(data[offset:], offset, "pack")
    return IndexedPack(PackId(content_hash([data])), len(data), offset, directory)


def segment_of(*packs: IndexedPack) -> tuple[str, bytes]:
    """Return key and bytes of a segment."""
    data = encode_segment(packs)
    return layout.segment_key(SegmentId(content_hash([data]))), data


def put(client: httpx.Client, key: str, data: bytes, version: str | None = None) -> httpx.Response:
    """PUT an object that is new, or in place of a version."""
    headers = FRESH if version is None else {"If-Match": version}
    return client.put(f"{OBJECTS}/{key}", content=data, headers=headers)


def store_chunks(client: httpx.Client, *chunks: bytes) -> IndexedPack:
    """Put chunks of files into the store as an honest client does."""
    key, data = pack_of((frame_of(chunks), b"".join(chunks)))
    assert put(client, key, data).status_code == 201
    pack = indexed(data)
    assert put(client, *segment_of(pack)).status_code == 201
    return pack


def file_entry(path: str, content: bytes, **changes: Any) -> list[Any]:
    """Return a page's entry of a file of one chunk, with fields changed."""
    fields = {
        "path": path,
        "kind": 0,
        "executable": False,
        "mtime": 0,
        "hash": content_hash([content]),
        "size": len(content),
        "depth": 0,
        "ids": chunk_id(ChunkKind.DATA, content),
        "sizes": len(content).to_bytes(4, "little"),
    }
    return list((fields | changes).values())


@dataclasses.dataclass
class Draft:
    """A version that is to be committed; its pages are kept inside its root.

    Attributes:
        pages: the entries of each page.
        root: fields of the root, by number, that are not what they should be.
        record: fields of the ref's record that are not what they should be.
    """

    pages: Sequence[Sequence[list[Any]]]
    root: dict[int, Any] = dataclasses.field(default_factory=dict)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    dataset: str = "pets"

    def manifest(self) -> bytes:
        """Return the bytes of its manifest."""
        entries = [entry for page in self.pages for entry in page]
        pages = []
        for page in self.pages:
            data = encode_document(PAGE, list(page))
            pages.append([chunk_id(ChunkKind.PAGE, data), page[0][0], len(page), [], data])
        size = sum(entry[5] for entry in entries if len(entry) == 9)
        root = [self.dataset, 1, "", None, bytes(16), [len(entries), size, 0], [], pages]
        for number, value in self.root.items():
            root[number] = value
        return encode_document(MANIFEST, root)

    def recorded(self, number: int) -> VersionRecord:
        """Return what a ref says of it."""
        entries = [entry for page in self.pages for entry in page]
        size = sum(entry[5] for entry in entries if len(entry) == 9)
        manifest = ManifestId(content_hash([self.manifest()]))
        record = VersionRecord(number, manifest, 1, "", len(entries), size, 0, 0)
        return record._replace(**self.record)


def follow(ref: Ref, **changes: Any) -> Ref:
    """Return the ref that follows one, with fields changed."""
    nonce = content_hash([ref.nonce])[:16]
    after = dataclasses.replace(
        ref, sequence=ref.sequence + 1, nonce=nonce, nonces=(nonce, *ref.nonces)[:64]
    )
    return dataclasses.replace(after, **changes)


def with_version(ref: Ref, draft: Draft) -> Ref:
    """Return the ref that follows one and names a draft."""
    versions = (*ref.versions, draft.recorded(ref.next_number))
    return follow(ref, versions=versions, next_number=ref.next_number + 1)


def commit(client: httpx.Client, draft: Draft, ref: Ref, version: str) -> httpx.Response:
    """Put a draft's manifest, then the ref that names it in place of a version of the ref."""
    data = draft.manifest()
    manifest = layout.manifest_key(ManifestId(content_hash([data])))
    answer = put(client, manifest, data)
    assert answer.status_code in (200, 201), answer.text
    return put(client, layout.ref_key(draft.dataset), encode_ref(with_version(ref, draft)), version)


def chunk_key(kind: str, identifier: bytes) -> str:
    """Return the key of a single chunk."""
    return f"chunks/{kind}/{ChunkId(identifier).hex()}"
