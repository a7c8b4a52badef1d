"""Kind and id to key, and back: where each object of a store lies.

Implements section 1, "Objects and keys", of docs/design/format.md. The same keys in a folder
and in a bucket.
"""

from __future__ import annotations

import re
from typing import Final

from chunkstore.errors import InvalidInputError
from chunkstore.ids import ChunkId, ChunkKind, ManifestId, PackId, SegmentId
from chunkstore.limits import NAME

CONFIG: Final = "config"
PACKS: Final = "packs/"
INDEX: Final = "index/"
MANIFESTS: Final = "manifests/"
REFS: Final = "refs/"
GC_CURRENT: Final = "gc/current"
CONDEMNED: Final = "gc/condemned/"
NOTES: Final = "uploads/"

_PACK_KEY: Final = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_SEGMENT_KEY: Final = re.compile(r"index/([0-9a-f]{64})")
_CONDEMNED_KEY: Final = re.compile(r"gc/condemned/([0-9]{1,19})-[0-9A-Za-z_-]{1,200}")
_MANIFEST_KEY: Final = re.compile(r"manifests/([0-9a-f]{64})")
_NOTE_KEY: Final = re.compile(r"uploads/([a-z0-9._~-]{1,255})/([0-9a-f]{64})")


def pack_key(pack: PackId) -> str:
    """Return the key of a pack."""
    name = pack.hex()
    return f"packs/{name[:2]}/{name}"


def segment_key(segment: SegmentId) -> str:
    """Return the key of an index segment."""
    return f"index/{segment.hex()}"


def manifest_key(manifest: ManifestId) -> str:
    """Return the key of a manifest."""
    return f"manifests/{manifest.hex()}"


def chunk_key(kind: ChunkKind, chunk: ChunkId) -> str:
    """Return the key by which a server gives a single chunk; no storage has such an object."""
    return f"chunks/{kind.name.lower()}/{chunk.hex()}"


def ref_key(dataset: str) -> str:
    """Return the key of a dataset's ref: the name with `~`, which no name has, for each slash.

    So the ref of `a` never stands where the folder of `a/b` would have to be.

    Raises:
        InvalidInputError: not a dataset name.
    """
    return REFS + check_name(dataset, "dataset").replace("/", "~")


def dataset_of(key: str) -> str | None:
    """Return the dataset whose ref has that key, or None where it is no ref's key."""
    name = key.removeprefix(REFS).replace("~", "/")
    return name if NAME.fullmatch(name) and key == ref_key(name) else None


def pack_of(key: str) -> PackId | None:
    """Return the pack that has that key, or None where it is no pack's key."""
    match = _PACK_KEY.fullmatch(key)
    return PackId(bytes.fromhex(match[2])) if match else None


def segment_of(key: str) -> SegmentId | None:
    """Return the index segment that has that key, or None where it is no segment's key."""
    match = _SEGMENT_KEY.fullmatch(key)
    return SegmentId(bytes.fromhex(match[1])) if match else None


def manifest_of(key: str) -> ManifestId | None:
    """Return the manifest that has that key, or None where it is no manifest's key."""
    match = _MANIFEST_KEY.fullmatch(key)
    return ManifestId(bytes.fromhex(match[1])) if match else None


def condemned_key(generation: int, nonce: str) -> str:
    """Return the key of a condemned list: of the generation that begins with it."""
    return f"{CONDEMNED}{generation}-{nonce}"


def generation_of(key: str) -> int | None:
    """Return the generation of the condemned list with that key, or None where it is none's key."""
    match = _CONDEMNED_KEY.fullmatch(key)
    return int(match[1]) if match else None


def note_key(dataset: str, segment: SegmentId) -> str:
    """Return the key of the note that an index segment was sent for a dataset.

    Raises:
        InvalidInputError: not a dataset name.
    """
    return f"{notes_of(dataset)}{segment.hex()}"


def notes_of(dataset: str) -> str:
    """Return what the keys of all such notes for a dataset begin with."""
    return f"{NOTES}{check_name(dataset, 'dataset').replace('/', '~')}/"


def note_of(key: str) -> tuple[str, SegmentId] | None:
    """Return dataset and segment of the note that has that key, or None where it is no note's."""
    match = _NOTE_KEY.fullmatch(key)
    name = match[1].replace("~", "/") if match else ""
    if match is None or not NAME.fullmatch(name):
        return None
    return name, SegmentId(bytes.fromhex(match[2]))


def check_name(name: str, what: str) -> str:
    """Return `name` if a dataset or tag (`what`) may be called so.

    Raises:
        InvalidInputError: other characters than `a-z 0-9 . _ - /`, not beginning with a letter
            or digit, `..` or `//` in it, a slash at the end, or more than 201 characters.
    """
    if not NAME.fullmatch(name):
        raise InvalidInputError(
            f"not a {what} name: {name!r}",
            hint="use lower-case letters, digits, '.', '_', '-' and '/', beginning with a "
            "letter or digit, at most 201 characters",
        )
    return name
