"""The ref of a dataset: its versions and tags, the one small object that changes.

Implements section 10, "Ref", of docs/design/format.md. Pure; decoding raises only
CorruptObjectError and UnsupportedFormatError, whatever the bytes.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from chunkstore import limits
from chunkstore.errors import InvalidInputError
from chunkstore.format.document import (
    DocumentKind,
    Fields,
    corrupt,
    decode_document,
    encode_document,
    is_extended,
)
from chunkstore.ids import ID_SIZE, ManifestId

REF: Final = DocumentKind("ref", b"CSRF", 1, limits.MAX_REF_LENGTH, sealed=True, extended=2)

_MOST: Final = (1 << 63) - 1


class VersionRecord(NamedTuple):
    """One version as its ref lists it.

    Attributes:
        number: 1, 2, 3 ...; never given twice.
        manifest_id: its manifest.
        created_ns: nanoseconds since the epoch by the writer's clock.
        message: what the author says of it.
        files: entries, links and empty folders included.
        size: bytes of all files.
        new_bytes: raw bytes of the chunks that the store lacked at commit.
        stored_bytes: what the store grew by at commit.
    """

    number: int
    manifest_id: ManifestId
    created_ns: int
    message: str
    files: int
    size: int
    new_bytes: int
    stored_bytes: int


class DroppedVersion(NamedTuple):
    """A version that was dropped and can be brought back, since its chunks are kept for a while.

    Attributes:
        record: the version.
        dropped_ns: when, nanoseconds since the epoch by the clock of who dropped it.
        tags: the names it had, ascending.
    """

    record: VersionRecord
    dropped_ns: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """The state of a dataset.

    Attributes:
        dataset: its name.
        sequence: how often the ref was written.
        nonce: 16 random bytes, new at every write, so that no two writes have the same bytes.
        gc_generation: the collector's generation that last fenced the ref.
        next_number: the number of the next version.
        versions: ascending by number.
        tags: (name, version number), ascending by name.
        nonces: nonces of the last 64 writes, newest first, `nonce` included: how a writer that
            lost its answer finds out that it had won.
        dropped: versions that were dropped and can be brought back, ascending by number.
    """

    dataset: str
    sequence: int
    nonce: bytes
    gc_generation: int
    next_number: int
    versions: tuple[VersionRecord, ...]
    tags: tuple[tuple[str, int], ...]
    nonces: tuple[bytes, ...]
    dropped: tuple[DroppedVersion, ...] = ()

    @property
    def promised(self) -> list[VersionRecord]:
        """All versions whose chunks are kept: those that are there, then the dropped ones."""
        return [*self.versions, *(each.record for each in self.dropped)]


def empty_ref(dataset: str) -> Ref:
    """Return the ref of a dataset that has no versions yet, with a fresh nonce."""
    nonce = secrets.token_bytes(16)
    return Ref(
        dataset=dataset,
        sequence=1,
        nonce=nonce,
        gc_generation=0,
        next_number=1,
        versions=(),
        tags=(),
        nonces=(nonce,),
    )


def encode_ref(ref: Ref) -> bytes:
    """Return the bytes of a ref object: of version 2 only where versions were dropped."""
    body = [
        ref.dataset,
        ref.sequence,
        ref.nonce,
        ref.gc_generation,
        ref.next_number,
        [list(version) for version in ref.versions],
        [list(tag) for tag in ref.tags],
        list(ref.nonces),
    ]
    if ref.dropped:
        body.append([[list(each.record), each.dropped_ns, list(each.tags)] for each in ref.dropped])
    return encode_document(REF, body, extended=bool(ref.dropped))


def fit_ref(ref: Ref) -> Ref:
    """Return `ref` without as many of its dropped versions as make it longer than allowed.

    Those that were dropped first go first: they can be brought back no more.
    """
    dropped = ref.dropped
    while dropped and _is_too_long(dataclasses.replace(ref, dropped=dropped)):
        latest = sorted(dropped, key=lambda each: (each.dropped_ns, each.record.number))
        dropped = tuple(sorted(latest[len(latest) // 2 + 1 :]))
    return dataclasses.replace(ref, dropped=dropped)


def _is_too_long(ref: Ref) -> bool:
    try:
        encode_ref(ref)
    except InvalidInputError:
        return True
    return False


def decode_ref(data: bytes, where: str) -> Ref:
    """Return the ref that `data` holds.

    Raises:
        CorruptObjectError: not a ref, or one that contradicts itself.
        UnsupportedFormatError: a ref of another format version.
    """
    fields = decode_document(REF, data, where)
    extended = is_extended(REF, data)
    fields.record(9 if extended else 8)
    dataset = fields.name()
    sequence = fields.integer(1, _MOST)
    nonce = fields.binary(16)
    gc_generation = fields.integer(0, _MOST)
    next_number = fields.integer(1, _MOST)
    versions = tuple(_decode_version(fields) for _ in range(fields.array(limits.MAX_REF_LENGTH)))
    tags = tuple(_decode_tag(fields) for _ in range(fields.array(limits.MAX_REF_LENGTH)))
    nonces = tuple(fields.binary(16) for _ in range(fields.array(limits.MAX_COMMIT_NONCES)))
    dropped: tuple[DroppedVersion, ...] = ()
    if extended:
        count = fields.array(limits.MAX_REF_LENGTH)
        dropped = tuple(_decode_dropped(fields) for _ in range(count))
    fields.end()
    numbers = [version.number for version in versions]
    if any(after <= before for before, after in zip([0, *numbers], numbers, strict=False)):
        corrupt("the versions are not sorted", where)
    if numbers and numbers[-1] >= next_number:
        corrupt("the next version's number is taken", where)
    names = [name for name, _ in tags]
    if names != sorted(set(names)) or not {number for _, number in tags} <= set(numbers):
        corrupt("the tags are not sorted or name versions that are not there", where)
    if nonces[:1] != (nonce,):
        corrupt("the nonces do not begin with the ref's own", where)
    if extended:
        _check_dropped(dropped, numbers, next_number, where)
    return Ref(
        dataset=dataset,
        sequence=sequence,
        nonce=nonce,
        gc_generation=gc_generation,
        next_number=next_number,
        versions=versions,
        tags=tags,
        nonces=nonces,
        dropped=dropped,
    )


def _decode_dropped(fields: Fields) -> DroppedVersion:
    fields.record(3)
    record, dropped_ns = _decode_version(fields), fields.integer(0, _MOST)
    tags = tuple(fields.name() for _ in range(fields.array(limits.MAX_REF_LENGTH)))
    return DroppedVersion(record, dropped_ns, tags)


def _check_dropped(
    dropped: Sequence[DroppedVersion], versions: Sequence[int], next_number: int, where: str
) -> None:
    numbers = [each.record.number for each in dropped]
    if not numbers or numbers != sorted(set(numbers)) or numbers[-1] >= next_number:
        corrupt("the dropped versions are not sorted, or there are none", where)
    if not set(numbers).isdisjoint(versions):
        corrupt("a version is dropped and there", where)
    if any(list(each.tags) != sorted(set(each.tags)) for each in dropped):
        corrupt("the tags of a dropped version are not sorted", where)


def _decode_version(fields: Fields) -> VersionRecord:
    fields.record(8)
    return VersionRecord(
        number=fields.integer(1, _MOST),
        manifest_id=ManifestId(fields.binary(ID_SIZE)),
        created_ns=fields.integer(0, _MOST),
        message=fields.text(limits.MAX_MESSAGE_LENGTH),
        files=fields.integer(0, limits.MAX_VERSION_FILES),
        size=fields.integer(0, _MOST),
        new_bytes=fields.integer(0, _MOST),
        stored_bytes=fields.integer(0, _MOST),
    )


def _decode_tag(fields: Fields) -> tuple[str, int]:
    fields.record(2)
    return fields.name(), fields.integer(1, _MOST)
