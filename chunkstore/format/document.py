"""Small msgpack documents: magic, version, one canonical array and, where sealed, a checksum.

Config, ref, manifest, list, page and the collector's objects are such documents; pack and index
segment are not. Implements section 3, "Documents", of docs/design/format.md. Pure; decoding
raises only CorruptObjectError and UnsupportedFormatError, whatever the bytes.

The msgpack package writes documents but does not read them: it builds a whole value before
anybody can look at it, and 16 MiB of empty arrays take it 10 s and 1.1 GiB. Fields reads value by
value what a kind expects, so that nothing is allocated for what should not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

import msgpack
from blake3 import blake3

from chunkstore import limits
from chunkstore.errors import CorruptObjectError, InvalidInputError, UnsupportedFormatError

CHECKSUM_LENGTH: Final = 32
HEAD_LENGTH: Final = 5  # magic and version


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """One kind of document.

    Attributes:
        name: the word for it in messages.
        magic: its first four bytes.
        version: the version byte that this chunkstore writes and reads.
        limit: most encoded bytes, checksum included.
        sealed: whether BLAKE3-256 of all before it ends the document. Kinds that are named
            by the hash of their bytes need no seal.
        extended: the version byte of those that hold more than `version` has fields for, 0 where
            there are none. What `version` can say is never written in it.
    """

    name: str
    magic: bytes
    version: int
    limit: int
    sealed: bool
    extended: int = 0


def corrupt(what: str, where: str) -> NoReturn:
    """Raise CorruptObjectError: `what` is wrong with the object at `where`."""
    raise CorruptObjectError(f"corrupt object {where}: {what}", key=where)


def encode_document(kind: DocumentKind, body: list[Any], *, extended: bool = False) -> bytes:
    """Return the document's bytes; the same body always gives the same bytes.

    Raises:
        InvalidInputError: they are more than the kind allows, so that nobody could read them.
    """
    version = kind.extended if extended else kind.version
    return _finished(kind, msgpack.packb(body, use_bin_type=True), version)


def pack_value(value: list[Any]) -> bytes:
    """Return the msgpack bytes of one value of a document."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def join_document(kind: DocumentKind, values: Sequence[bytes]) -> bytes:
    """Return the bytes of a document whose values are packed already; see `encode_document`."""
    body = msgpack.Packer().pack_array_header(len(values)) + b"".join(values)
    return _finished(kind, body, kind.version)


def _finished(kind: DocumentKind, body: bytes, version: int) -> bytes:
    data = b"%b%c%b" % (kind.magic, version, body)
    if kind.sealed:
        data += blake3(data).digest()
    if len(data) > kind.limit:
        raise InvalidInputError(
            f"this would take a {kind.name} of {len(data)} bytes; it may have {kind.limit}",
            hint="use several datasets, or drop versions that are no longer needed",
        )
    return data


def decode_document(kind: DocumentKind, data: bytes, where: str) -> Fields:
    """Return the values of the document; `where` names the object in errors.

    Raises:
        CorruptObjectError: not such a document, too long, or its checksum does not match.
        UnsupportedFormatError: a version that this chunkstore does not read.
    """
    if len(data) > kind.limit:
        corrupt(f"{len(data)} bytes, more than {kind.limit} for a {kind.name}", where)
    if len(data) < HEAD_LENGTH or data[:4] != kind.magic:
        corrupt(f"this is no {kind.name}", where)
    extended = (kind.extended,) if kind.extended else ()
    check_version(kind.name, data[4], (kind.version, *extended), where)
    end = len(data)
    if kind.sealed:
        end -= CHECKSUM_LENGTH
        if end < HEAD_LENGTH or blake3(memoryview(data)[:end]).digest() != data[end:]:
            corrupt("the checksum does not match", where)
    return Fields(data, HEAD_LENGTH, end, where)


def is_extended(kind: DocumentKind, data: bytes) -> bool:
    """Whether a document is of the version of its kind that holds more."""
    return kind.extended != 0 and data[4] == kind.extended


def check_version(name: str, found: int, known: Sequence[int], where: str) -> None:
    """Refuse a version byte that is none of those this chunkstore knows.

    Raises:
        UnsupportedFormatError: another version.
    """
    if found not in known:
        versions = " or ".join(map(str, known))
        raise UnsupportedFormatError(
            f"{where}: {name} of format version {found}; this chunkstore reads version {versions}",
            hint="use a chunkstore of the version that wrote the store",
        )


class _Form(NamedTuple):
    """How msgpack writes the lengths of one type.

    Attributes:
        name: what such values are called.
        short: first bytes that hold the length themselves.
        long: other first bytes, each with the bytes of the length that follows and the least
            length that needs them.
    """

    name: str
    short: range
    long: dict[int, tuple[int, int]]


_TEXT: Final = _Form(
    "text", range(0xA0, 0xC0), {0xD9: (1, 32), 0xDA: (2, 1 << 8), 0xDB: (4, 1 << 16)}
)
_BINARY: Final = _Form("bytes", range(0), {0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)})
_ARRAY: Final = _Form("an array", range(0x90, 0xA0), {0xDC: (2, 16), 0xDD: (4, 1 << 16)})

# First bytes of the longer integers: the bytes that follow, and the values that need them.
_INTEGERS: Final = {
    0xCC: (1, 1 << 7, (1 << 8) - 1),
    0xCD: (2, 1 << 8, (1 << 16) - 1),
    0xCE: (4, 1 << 16, (1 << 32) - 1),
    0xCF: (8, 1 << 32, (1 << 64) - 1),
    0xD0: (1, -(1 << 7), -(1 << 5) - 1),
    0xD1: (2, -(1 << 15), -(1 << 7) - 1),
    0xD2: (4, -(1 << 31), -(1 << 15) - 1),
    0xD3: (8, -(1 << 63), -(1 << 31) - 1),
}
_NIL: Final = 0xC0
_NEVER: Final = 0xC1  # begins no msgpack value: what stands behind the last one
_FALSE: Final = 0xC2
_TRUE: Final = 0xC3


class Fields:
    """The values of one document, taken in order, each checked for type, range and shortest form.

    Every method raises CorruptObjectError where the next value is not what it takes.
    """

    __slots__ = ("_at", "_data", "_end", "_where")

    def __init__(self, data: bytes, start: int, end: int, where: str) -> None:
        """Take the values in `data[start:end]`; `where` names the object in errors."""
        self._data = data
        self._at = start
        self._end = end
        self._where = where

    def _tag(self) -> int:
        return self._data[self._at] if self._at < self._end else _NEVER

    def wrong(self, needed: str) -> NoReturn:
        """Raise CorruptObjectError: the value that ends or begins here is not `needed`."""
        corrupt(f"at byte {self._at}: not {needed}", self._where)

    def _length(self, form: _Form, longest: int) -> int:
        tag, start = self._tag(), self._at + 1
        if tag in form.short:
            length = tag - form.short.start
        elif tag in form.long:
            width, least = form.long[tag]
            length = int.from_bytes(self._data[start : start + width], "big")
            start += width
            if length < least:
                self.wrong(f"{form.name} in its shortest form")
        else:
            self.wrong(form.name)
        if length > longest or start + length > self._end:  # an array's values take a byte each
            self.wrong(f"{form.name} of at most {longest} bytes or values")
        self._at = start
        return length

    def _bytes(self, form: _Form, longest: int) -> bytes:
        length = self._length(form, longest)
        start = self._at
        self._at = start + length
        return self._data[start : self._at]

    def array(self, most: int) -> int:
        """Enter an array of at most `most` values and return how many it has."""
        return self._length(_ARRAY, most)

    def record(self, count: int) -> None:
        """Enter an array of exactly `count` values."""
        if self._length(_ARRAY, count) != count:
            self.wrong(f"an array of {count} values")

    def end(self) -> None:
        """Check that no value is left."""
        if self._at != self._end:
            self.wrong("the end of the document")

    def integer(self, low: int, high: int) -> int:
        """Take an integer in [low, high]."""
        value, start = self._tag(), self._at + 1
        if value >= 0xE0:
            value -= 0x100
        elif value >= 0x80:
            width, least, most = _INTEGERS.get(value, (0, 0, -1))
            following = self._data[start : start + width]
            value = int.from_bytes(following, "big", signed=least < 0)
            start += width
            if start > self._end or not least <= value <= most:
                self.wrong("an integer in its shortest form")
        if not low <= value <= high:
            self.wrong(f"an integer from {low} to {high}")
        self._at = start
        return value

    def boolean(self) -> bool:
        """Take a boolean."""
        tag = self._tag()
        if tag not in (_FALSE, _TRUE):
            self.wrong("a boolean")
        self._at += 1
        return tag == _TRUE

    def nil(self) -> bool:
        """Take a nil, if one is next, and return whether it was."""
        if self._tag() != _NIL:
            return False
        self._at += 1
        return True

    def text(self, longest: int) -> str:
        """Take text of at most `longest` bytes of UTF-8."""
        try:
            return str(self._bytes(_TEXT, longest), "utf-8")
        except UnicodeDecodeError:
            self.wrong("text in UTF-8")

    def name(self) -> str:
        """Take the name of a dataset or tag."""
        value = self.text(limits.MAX_NAME_LENGTH)
        if not limits.NAME.fullmatch(value):
            self.wrong("the name of a dataset or tag")
        return value

    def binary(self, length: int) -> bytes:
        """Take exactly `length` bytes."""
        value = self._bytes(_BINARY, length)
        if len(value) != length:
            self.wrong(f"{length} bytes")
        return value

    def bounded_binary(self, longest: int) -> bytes:
        """Take at most `longest` bytes."""
        return self._bytes(_BINARY, longest)
