"""Every decoder of bytes that somebody else may have made, and what is known to be well formed.

A fuzzer cannot guess a checksum, so a sealed object is also tried with its seal made right.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import zstandard
from blake3 import blake3
from chunkstore_api.tokens import decode_tokens
from chunkstore_cli.settings_file import parse_settings

from chunkstore.address import parse_address
from chunkstore.compression import decompress_frame
from chunkstore.errors import (
    ChunkstoreError,
    CorruptObjectError,
    InvalidInputError,
    UnsupportedFormatError,
)
from chunkstore.format.blob import LIST, decode_list
from chunkstore.format.config import CONFIG, decode_config
from chunkstore.format.document import DocumentKind
from chunkstore.format.gc import CONDEMNED, GC_STATE, decode_condemned, decode_gc_state
from chunkstore.format.index import decode_segment
from chunkstore.format.manifest import MANIFEST, PAGE, decode_manifest, decode_page
from chunkstore.format.pack import TRAILER_MAGIC, Codec, check_header, decode_directory
from chunkstore.format.ref import REF, decode_ref
from chunkstore.lookup import SegmentInMemory
from chunkstore.tar_reader import TarReader
from tests.fuzz import corpus

Decode: TypeAlias = Callable[[bytes], object]

DAMAGE: Final = (CorruptObjectError, UnsupportedFormatError)
REFUSAL: Final = (InvalidInputError,)

_Form = TypeVar("_Form")


@dataclass(frozen=True)
class Target:
    """A decoder: what it may raise, and bytes that it takes, to begin with."""

    decode: Decode
    refuses: tuple[type[ChunkstoreError], ...]
    examples: Callable[[], list[bytes]]

    def try_one(self, data: bytes) -> bool:
        """Decode; return whether it was accepted. Whatever else it raises goes through."""
        try:
            self.decode(data)
        except self.refuses:
            return False
        return True


def any_of(decode: Callable[[_Form], object], forms: Iterable[_Form]) -> None:
    """Decode every form of one input; raise the last refusal where all forms are refused."""
    refusals: list[ChunkstoreError] = []
    taken = 0
    for form in forms:
        try:
            decode(form)
            taken += 1
        except DAMAGE as error:
            refusals.append(error)
    if not taken:
        raise refusals[-1]


def sealed(kind: DocumentKind, decode: Callable[[bytes, str], object]) -> Decode:
    """Try the bytes as they are, and as the body of a document of each version, rightly sealed."""
    versions = [kind.version, *([kind.extended] if kind.extended else [])]

    def each(data: bytes) -> None:
        bodies = [kind.magic + bytes([version]) + data for version in versions]
        whole = [body + blake3(body).digest() if kind.sealed else body for body in bodies]
        any_of(lambda tried: decode(tried, "fuzzed"), [data, *whole])

    return each


def _directory(data: bytes) -> None:
    """The first four bytes say where the directory begins; it is also tried with its seal right."""
    offset, directory = int.from_bytes(data[:4], "little"), data[4:]
    trailer = struct.pack("<II", offset, len(directory)) + blake3(directory).digest()
    any_of(
        lambda tried: decode_directory(tried, offset, "fuzzed"),
        [directory + trailer + TRAILER_MAGIC, directory],
    )


def _segment(data: bytes) -> None:
    segment = SegmentInMemory(decode_segment(data, "fuzzed"))
    ids = data[-64:].ljust(64, b"\0")
    segment.places(segment.matches(ids).at)
    segment.rows_between(0, 1 << 63)


def _frame(data: bytes) -> None:
    """The first three bytes say how large the frame is; it is also tried as large as it says."""
    stated = {int.from_bytes(data[:3], "little")}
    with contextlib.suppress(zstandard.ZstdError):
        stated.add(zstandard.get_frame_parameters(data[3:]).content_size)

    def decode(size: int) -> None:
        raw = decompress_frame(Codec.ZSTD, data[3:], size, "fuzzed")
        assert len(raw) == size

    any_of(decode, stated)


def _tar(data: bytes) -> None:
    for member in TarReader(io.BytesIO(data)):
        while member.content is not None and member.content.read(65536):
            pass


def _settings(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    parse_settings(text, "fuzzed", known=frozenset({"store", "level"}))


def _address(data: bytes) -> None:
    parse_address(data.decode("utf-8", "surrogateescape"))


TARGETS: Final = {
    "config": Target(sealed(CONFIG, decode_config), DAMAGE, corpus.configs),
    "ref": Target(sealed(REF, decode_ref), DAMAGE, corpus.refs),
    "manifest": Target(sealed(MANIFEST, decode_manifest), DAMAGE, corpus.manifests),
    "page": Target(sealed(PAGE, decode_page), DAMAGE, corpus.pages),
    "list": Target(sealed(LIST, decode_list), DAMAGE, corpus.lists),
    "gc-state": Target(sealed(GC_STATE, decode_gc_state), DAMAGE, corpus.gc_states),
    "condemned": Target(sealed(CONDEMNED, decode_condemned), DAMAGE, corpus.condemned_lists),
    "pack-header": Target(lambda data: check_header(data, "fuzzed"), DAMAGE, corpus.pack_headers),
    "directory": Target(_directory, DAMAGE, corpus.directories),
    "segment": Target(_segment, DAMAGE, corpus.segments),
    "frame": Target(_frame, DAMAGE, corpus.frames),
    "tar": Target(_tar, REFUSAL, corpus.archives),
    "tokens": Target(lambda data: decode_tokens(data, "fuzzed"), REFUSAL, corpus.token_files),
    "settings": Target(_settings, REFUSAL, corpus.settings_files),
    "address": Target(_address, REFUSAL, corpus.addresses),
}
