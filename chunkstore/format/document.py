"""Small msgpack documents: magic, version, one canonical array and, where sealed, a checksum.

Config, ref, manifest, list and page are such documents; pack and index segment are not.
Implements section 3, "Documents", of docs/design/format.md. Pure; decoding raises only
CorruptObjectError and UnsupportedFormatError, whatever the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgpack
from blake3 import blake3

from chunkstore.errors import CorruptObjectError, UnsupportedFormatError

CHECKSUM_LENGTH: Final = 32
_HEAD_LENGTH: Final = 5  # magic and version


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
    """

    name: str
    magic: bytes
    version: int
    limit: int
    sealed: bool


def corrupt(what: str, where: str) -> NoReturn:
    """Raise CorruptObjectError: `what` is wrong with the object at `where`."""
    raise CorruptObjectError(f"corrupt object {where}: {what}", key=where)


def encode_document(kind: DocumentKind, body: list[Any]) -> bytes:
    """Return the document's bytes; the same body always gives the same bytes."""
    data = b"%b%c%b" % (kind.magic, kind.version, _pack(body))
    return data + blake3(data).digest() if kind.sealed else data


def decode_document(kind: DocumentKind, data: bytes, where: str) -> list[Any]:
    """Return the document's array; `where` names the object in errors.

    Raises:
        CorruptObjectError: not such a document, too long, or not in canonical form.
        UnsupportedFormatError: a version that this chunkstore does not read.
    """
    if len(data) > kind.limit:
        corrupt(f"{len(data)} bytes, more than {kind.limit} for a {kind.name}", where)
    if len(data) < _HEAD_LENGTH or data[:4] != kind.magic:
        corrupt(f"this is no {kind.name}", where)
    check_version(kind.name, data[4], kind.version, where)
    body = data[_HEAD_LENGTH:]
    if kind.sealed:
        body = data[_HEAD_LENGTH:-CHECKSUM_LENGTH]
        seal = data[-CHECKSUM_LENGTH:]
        if blake3(data[:-CHECKSUM_LENGTH]).digest() != seal:
            corrupt("the checksum does not match", where)
    return _unpack(body, kind, where)


def check_version(name: str, found: int, known: int, where: str) -> None:
    """Refuse a version byte other than the one this chunkstore knows.

    Raises:
        UnsupportedFormatError: another version.
    """
    if found != known:
        raise UnsupportedFormatError(
            f"{where}: {name} of format version {found}; this chunkstore reads version {known}",
            hint="use a chunkstore of the version that wrote the store",
        )


def _pack(body: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(body, use_bin_type=True)
    return packed


def _unpack(body: bytes, kind: DocumentKind, where: str) -> list[Any]:
    # Every array element and every byte of text takes at least one byte of input, so the
    # input's own length, already bounded, bounds what the parser may allocate.
    bound = len(body)
    try:
        value = msgpack.unpackb(
            body,
            raw=False,
            use_list=True,
            max_str_len=bound,
            max_bin_len=bound,
            max_array_len=bound,
            max_map_len=0,
            max_ext_len=0,
        )
        canonical = _pack(value) == body
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        corrupt(f"not a msgpack document: {error}", where)
    except msgpack.exceptions.UnpackException as error:
        corrupt(f"not a msgpack document: {error}", where)
    if not isinstance(value, list):
        corrupt(f"a {kind.name} is an array", where)
    if not canonical:
        corrupt("not in canonical form", where)
    return value


class Fields:
    """One decoded array whose fields are taken in order, each checked for type and range."""

    __slots__ = ("_at", "_values", "_what", "_where")

    def __init__(self, values: object, count: int, what: str, where: str) -> None:
        """Check that `values` is an array of `count` fields; `what` and `where` are for errors.

        Raises:
            CorruptObjectError: it is not.
        """
        if not isinstance(values, list) or len(values) != count:
            corrupt(f"{what} is not an array of {count} fields", where)
        self._values: list[Any] = values
        self._at = 0
        self._what = what
        self._where = where

    def _next(self) -> object:
        value = self._values[self._at]
        self._at += 1
        return value

    def _wrong(self, needed: str) -> NoReturn:
        corrupt(f"field {self._at} of {self._what} is not {needed}", self._where)

    def integer(self, low: int, high: int) -> int:
        """Take an integer in [low, high]."""
        value = self._next()
        if type(value) is not int or not low <= value <= high:
            self._wrong(f"an integer from {low} to {high}")
        return value

    def boolean(self) -> bool:
        """Take a boolean."""
        value = self._next()
        if type(value) is not bool:
            self._wrong("a boolean")
        return value

    def text(self, longest: int) -> str:
        """Take text of at most `longest` bytes of UTF-8."""
        value = self._next()
        if type(value) is not str or len(value.encode("utf-8", "surrogatepass")) > longest:
            self._wrong(f"text of at most {longest} bytes")
        return value

    def binary(self, length: int) -> bytes:
        """Take exactly `length` bytes."""
        value = self._next()
        if type(value) is not bytes or len(value) != length:
            self._wrong(f"{length} bytes")
        return value

    def optional_binary(self, length: int) -> bytes | None:
        """Take exactly `length` bytes, or nil."""
        if self._values[self._at] is None:
            self._at += 1
            return None
        return self.binary(length)

    def bounded_binary(self, longest: int) -> bytes:
        """Take at most `longest` bytes."""
        value = self._next()
        if type(value) is not bytes or len(value) > longest:
            self._wrong(f"at most {longest} bytes")
        return value

    def array(self) -> list[Any]:
        """Take an array of any length."""
        value = self._next()
        if type(value) is not list:
            self._wrong("an array")
        return value
