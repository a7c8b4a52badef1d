"""The config: what a store is, written once by init and never changed.

Implements section 4, "Config", of docs/design/format.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chunkstore import limits
from chunkstore.errors import InvalidInputError, UnsupportedFormatError
from chunkstore.format.document import (
    DocumentKind,
    Fields,
    corrupt,
    decode_document,
    encode_document,
)

CONFIG: Final = DocumentKind("config", b"CSCF", 1, limits.MAX_CONFIG_LENGTH, sealed=True)

SINGLE_WRITER: Final = "single-writer"
"""Needed to write: the storage ignores conditional writes, so one writer at a time."""

KNOWN_FEATURES: Final = frozenset({SINGLE_WRITER})
DEFAULT_FRAME_SIZE: Final = limits.MIB
DEFAULT_PACK_LENGTH: Final = 32 * limits.MIB
CHUNKERS: Final = ("fastcdc", "pyfastcdc")
_MAX_FEATURES: Final = 64
_MOST_MIN_SIZE: Final = limits.MIB  # pyfastcdc takes no more


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkerSpec:
    """Which chunker cuts, and its smallest, average and largest chunk in bytes."""

    name: str = "fastcdc"
    min_size: int = 16 * limits.KIB
    avg_size: int = 64 * limits.KIB
    max_size: int = 256 * limits.KIB

    def __post_init__(self) -> None:
        if self.name not in CHUNKERS:
            raise InvalidInputError(
                f"unknown chunker {self.name!r}", hint=f"known: {', '.join(CHUNKERS)}"
            )
        ascending = self.min_size < self.avg_size < self.max_size <= limits.MAX_CHUNK_SIZE
        if not (1024 <= self.min_size <= _MOST_MIN_SIZE and ascending):
            raise InvalidInputError(
                f"chunk sizes {self.min_size}/{self.avg_size}/{self.max_size} are not usable",
                hint="needed: 1024 <= min <= 1 MiB, min < average < max <= 8 MiB",
            )
        if self.avg_size & (self.avg_size - 1):
            raise InvalidInputError(f"average chunk size {self.avg_size} is not a power of two")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a store is.

    Attributes:
        store_id: 16 random bytes; names the store in local caches.
        created_ns: when init wrote it, nanoseconds since the epoch.
        chunker: how files are cut.
        frame_size: raw bytes that a frame aims at.
        pack_length: stored bytes that a pack aims at.
        read_features: features without which the store cannot be read.
        write_features: features without which it cannot be written.
        gc_features: features without which it cannot be collected.
    """

    store_id: bytes
    created_ns: int
    chunker: ChunkerSpec = ChunkerSpec()
    frame_size: int = DEFAULT_FRAME_SIZE
    pack_length: int = DEFAULT_PACK_LENGTH
    read_features: frozenset[str] = frozenset()
    write_features: frozenset[str] = frozenset()
    gc_features: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(self.store_id) != 16:
            raise InvalidInputError("a store id has 16 bytes")
        low, high = self.chunker.max_size, limits.MAX_FRAME_SIZE - limits.MAX_CHUNK_SIZE
        if not low <= self.frame_size <= high:
            raise InvalidInputError(
                f"frame size {self.frame_size} is not usable", hint=f"from {low} to {high} bytes"
            )
        low, high = self.frame_size, limits.MAX_PACK_LENGTH - limits.MAX_FRAME_SIZE * 2
        if not low <= self.pack_length <= high:
            raise InvalidInputError(
                f"pack length {self.pack_length} is not usable", hint=f"from {low} to {high} bytes"
            )

    def check_readable(self) -> None:
        """Raise UnsupportedFormatError where reading needs a feature unknown here."""
        _check_features("read", self.read_features)

    def check_writable(self) -> None:
        """Raise UnsupportedFormatError where writing needs a feature unknown here."""
        _check_features("written", self.read_features | self.write_features)

    def check_collectable(self) -> None:
        """Raise UnsupportedFormatError where collecting needs a feature unknown here."""
        needed = self.read_features | self.write_features | self.gc_features
        _check_features("collected", needed)


def _check_features(verb: str, needed: frozenset[str]) -> None:
    unknown = sorted(needed - KNOWN_FEATURES)
    if unknown:
        raise UnsupportedFormatError(
            f"the store can only be {verb} with features unknown here: {', '.join(unknown)}",
            hint="use a newer chunkstore",
        )


def encode_config(config: Config) -> bytes:
    """Return the bytes of the config object."""
    chunker = config.chunker
    return encode_document(
        CONFIG,
        [
            config.store_id,
            config.created_ns,
            "blake3",
            None,  # the slot of a per-store key for the ids: none in version 1
            [chunker.name, chunker.min_size, chunker.avg_size, chunker.max_size],
            config.frame_size,
            config.pack_length,
            sorted(config.read_features),
            sorted(config.write_features),
            sorted(config.gc_features),
        ],
    )


def decode_config(data: bytes, where: str = "config") -> Config:
    """Return the config that `data` holds.

    Raises:
        CorruptObjectError: not a config.
        UnsupportedFormatError: another format version, hash, chunker or keyed ids.
    """
    fields = decode_document(CONFIG, data, where)
    fields.record(10)
    store_id = fields.binary(16)
    created_ns = fields.integer(0, (1 << 63) - 1)
    hash_name = fields.text(64)
    keyed = not fields.nil()
    if hash_name != "blake3" or keyed:
        raise UnsupportedFormatError(
            f"{where}: ids by {hash_name!r}, keyed: {keyed}; known: blake3, no key",
            hint="use a newer chunkstore",
        )
    fields.record(4)
    name = fields.text(64)
    if name not in CHUNKERS:
        raise UnsupportedFormatError(
            f"{where}: the store is cut by the unknown chunker {name!r}",
            hint="use a newer chunkstore",
        )
    sizes = [fields.integer(1, limits.MAX_CHUNK_SIZE) for _ in range(3)]
    frame_size = fields.integer(1, limits.MAX_FRAME_SIZE)
    pack_length = fields.integer(1, limits.MAX_PACK_LENGTH)
    features = [_features(fields) for _ in range(3)]
    fields.end()
    try:
        return Config(
            store_id=store_id,
            created_ns=created_ns,
            chunker=ChunkerSpec(name=name, min_size=sizes[0], avg_size=sizes[1], max_size=sizes[2]),
            frame_size=frame_size,
            pack_length=pack_length,
            read_features=features[0],
            write_features=features[1],
            gc_features=features[2],
        )
    except InvalidInputError as error:
        corrupt(error.message, where)


def _features(fields: Fields) -> frozenset[str]:
    found = [fields.text(64) for _ in range(fields.array(_MAX_FEATURES))]
    if found != sorted(set(found)):
        fields.wrong("sorted features")
    return frozenset(found)
