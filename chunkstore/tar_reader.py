"""A tar stream in, its members out, by rules of our own: nothing is ever extracted.

Reads what tar, bsdtar, docker and Python write: ustar, pax headers, GNU long names. What no version
can hold is refused: devices, pipes, absolute paths, `..`. So is what cannot be trusted: a wrong
checksum, an archive that is cut off, headers without bounds. Neighbour: `source` pushes the
members.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn, Protocol

from chunkstore.errors import InvalidInputError
from chunkstore.format.manifest import EntryKind
from chunkstore.format.path import path_problem
from chunkstore.limits import KIB, MAX_FILE_SIZE, MAX_LINK_TARGET
from chunkstore.walk import part_problem

BLOCK: Final = 512

_MOST_HEADER: Final = 64 * KIB
"""Bytes of a pax header or long name; paths have at most 4 KiB."""

_MOST_MTIME: Final = 1 << 62  # nanoseconds, about 146 years from the epoch
_FILE, _HARD_LINK, _LINK, _FOLDER = b"0", b"1", b"2", b"5"
_PAX, _GLOBAL_PAX, _LONG_NAME, _LONG_TARGET = b"x", b"g", b"L", b"K"
_REFUSED: Final = {
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_PACKED: Final = {  # how what is packed begins, which no name of a member does
    b"\x1f\x8b": "gzip",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


class Readable(Protocol):
    """Anything that gives bytes when it is asked for some."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive.

    Attributes:
        path: its path in the version; a folder's ends with a slash.
        kind: file, folder or link.
        executable: whether its owner may run it.
        mtime_ns: nanoseconds since the epoch.
        target: where a link points.
        same_as: path of an earlier file of the archive that this file is, as a hard link.
        content: the bytes of a file; read them before the next member is taken.
    """

    path: str
    kind: EntryKind
    executable: bool = False
    mtime_ns: int = 0
    target: str = ""
    same_as: str = ""
    content: Readable | None = None


@dataclass(slots=True)
class _More:
    """What extended headers say of the next member."""

    path: bytes | None = None
    target: bytes | None = None
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(slots=True)
class _Content:
    """The bytes of the member that is being read, then its padding."""

    stream: Readable
    left: int = 0
    padding: int = 0

    def read(self, size: int, /) -> bytes:
        if not self.left:
            return b""
        data = self.stream.read(min(size, self.left))
        if not data:
            refuse("it is cut off in the middle of a file")
        self.left -= len(data)
        return data

    def skip(self) -> None:
        self.left, self.padding = self.left + self.padding, 0
        while self.read(64 * KIB):
            pass


@dataclass(slots=True)
class TarReader:
    """Reads the members of one archive.

    Attributes:
        stream: the archive.
        unwrap: all that it has lies in one folder at its top, which is left out of the paths, as
            `docker cp box:/out -` writes it; or it is a single file.
        members: how many members there were.
    """

    stream: Readable
    unwrap: bool = False
    members: int = 0
    _top: str = ""
    _content: _Content = field(init=False)

    def __post_init__(self) -> None:
        self._content = _Content(self.stream)

    def __iter__(self) -> Iterator[Member]:
        """Yield the members.

        Raises:
            InvalidInputError: it is no tar archive, is cut off, or has a member that no version
                can hold.
        """
        more = _More()
        while (header := self._header()) is not None:
            kind, size = header[156:157], _bounded(_number(header[124:136]))
            if kind in (_PAX, _GLOBAL_PAX, _LONG_NAME, _LONG_TARGET):
                self._extend(more, kind, self._extended(size))
                continue
            self.members += 1
            member = self._member(header, kind, size, more)
            more = _More()
            if member is not None:
                yield member
            self._content.skip()
        while rest := self.stream.read(64 * KIB):
            if rest.count(0) != len(rest):
                refuse("something comes after its end")

    def _header(self) -> bytes | None:
        """Return the next header, None at the end."""
        header = self._exactly(BLOCK)
        if header is None:
            refuse("it is cut off" if self.members else "it is empty or cut off")
        if header.count(0) == BLOCK:
            return None
        for magic, packer in _PACKED.items():
            if header.startswith(magic) and not self.members:
                refuse(f"it is packed by {packer}; unpack it into a pipe, and push that")
        total = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
        if _number(header[148:156]) != total:
            refuse(f"header {self.members + 1} does not have its checksum")
        return header

    def _exactly(self, size: int) -> bytes | None:
        """Return that many bytes, None where the stream ends before."""
        parts, left = [], size
        while left:
            data = self.stream.read(left)
            if not data:
                return None
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def _extended(self, size: int) -> bytes:
        if size > _MOST_HEADER:
            refuse(f"a header has {size} bytes; at most {_MOST_HEADER} are read")
        data = self._exactly(-(-size // BLOCK) * BLOCK)
        if data is None:
            refuse("it is cut off in a header")
        return data[:size]

    def _extend(self, more: _More, kind: bytes, data: bytes) -> None:
        if kind == _LONG_NAME:
            more.path = data.rstrip(b"\0")
        elif kind == _LONG_TARGET:
            more.target = data.rstrip(b"\0")
        else:
            _read_pax(more, data, everywhere=kind == _GLOBAL_PAX)

    def _member(self, header: bytes, kind: bytes, size: int, more: _More) -> Member | None:
        raw = _name(header) if more.path is None else more.path
        if kind in (b"\0", b"7"):  # before POSIX, and a file in one piece
            kind = _FOLDER if raw.endswith(b"/") else _FILE
        size = size if more.size is None else more.size
        path = self._path(raw, folder=kind == _FOLDER)
        if kind in _REFUSED:
            refuse(f"{path!r} is {_REFUSED[kind]}")
        if kind not in (_FILE, _HARD_LINK, _LINK, _FOLDER):
            refuse(f"{path!r} is of the kind {kind!r}, which is not known")
        if kind != _FILE:
            size = 0  # some writers give links the size of what they point to
        self._content.left, self._content.padding = size, -size % BLOCK
        target = _field(header, 157, 100) if more.target is None else more.target
        if kind == _FOLDER:
            return Member(f"{path}/", EntryKind.FOLDER) if path else None
        if kind == _LINK:
            return Member(path, EntryKind.LINK, target=_target(path, target))
        mtime_ns = _number(header[136:148]) * 10**9 if more.mtime_ns is None else more.mtime_ns
        if abs(mtime_ns) > _MOST_MTIME:
            refuse(f"{path!r} has a time out of all bounds")
        executable = bool(_number(header[100:108]) & 0o100)
        same_as = self._path(target, folder=False) if kind == _HARD_LINK else ""
        content = None if same_as else self._content
        return Member(path, EntryKind.FILE, executable, mtime_ns, "", same_as, content)

    def _path(self, raw: bytes, *, folder: bool) -> str:
        """Return the path in the version; "" for the archive's own root folder."""
        try:
            text = unicodedata.normalize("NFC", raw.decode())
        except UnicodeDecodeError:
            refuse(f"the name of member {self.members}, {raw[:100]!r}, is not UTF-8")
        while text.startswith("./"):
            text = text[2:]
        if folder:
            text = text.rstrip("/") if text.strip("/") else text
            if text in ("", "."):
                return ""
        problem = path_problem(text) or part_problem(text)
        if problem:
            refuse(f"the name of member {self.members}, {text[:200]!r}, cannot be: {problem}")
        return self._unwrapped(text, folder=folder) if self.unwrap else text

    def _unwrapped(self, path: str, *, folder: bool) -> str:
        top, _, rest = path.partition("/")
        self._top = self._top or top
        if top != self._top:
            refuse(f"there are {self._top!r} and {top!r} at its top, not one folder")
        return rest or ("" if folder else top)


def refuse(reason: str) -> NoReturn:
    """Raise InvalidInputError for an archive."""
    raise InvalidInputError(
        f"the tar archive is not taken: {reason}", hint="nothing of it became a version"
    )


def _field(header: bytes, start: int, length: int) -> bytes:
    return header[start : start + length].partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    name, prefix = _field(header, 0, 100), _field(header, 345, 155)
    is_posix = header[257:263] == b"ustar\0"  # GNU's own headers have other things there
    return prefix + b"/" + name if prefix and is_posix else name


def _number(text: bytes) -> int:
    """Return a number in octal, or in GNU's binary form where its first bit is set."""
    if text[:1] in (b"\x80", b"\xff"):
        number = int.from_bytes(text[1:], "big")
        return number - (256 ** (len(text) - 1) if text[0] == 0xFF else 0)
    digits = text.strip(b"\0 ")
    if digits and (not digits.isdigit() or b"8" in digits or b"9" in digits):
        refuse("a number in a header is none")
    return int(digits or b"0", 8)


def _bounded(number: int) -> int:
    if not 0 <= number <= MAX_FILE_SIZE:
        refuse("a number in a header is out of all bounds")
    return number


def _read_pax(more: _More, data: bytes, *, everywhere: bool) -> None:
    """Read the records of a pax header: `length key=value` and a newline each."""
    while data:
        digits, blank, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        record = data[len(digits) + 1 : length]
        key, sign, value = record[:-1].partition(b"=")
        if not blank or not sign or length > len(data) or record[-1:] != b"\n":
            refuse("a pax header is malformed")
        data = data[length:]
        if key.startswith(b"GNU.sparse"):
            refuse("it has sparse files")
        if key not in (b"path", b"linkpath", b"size", b"mtime"):
            continue
        if everywhere:
            refuse(f"it gives all members the same {key.decode()}")
        if key == b"path":
            more.path = value
        elif key == b"linkpath":
            more.target = value
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                refuse("a size in a pax header is none")
            more.size = _bounded(int(value))
        else:
            more.mtime_ns = _nanoseconds(value)


def _nanoseconds(value: bytes) -> int:
    try:
        seconds = Decimal(value[:40].decode("ascii"))
        if not seconds.is_finite() or abs(seconds) > _MOST_MTIME // 10**9:
            refuse("a time in a pax header is out of all bounds")
        return int(seconds * 10**9)
    except (InvalidOperation, UnicodeDecodeError):
        refuse("a time in a pax header is none")


def _target(path: str, raw: bytes) -> str:
    try:
        target = raw.decode()
    except UnicodeDecodeError:
        refuse(f"the target of {path!r} is not UTF-8")
    if not target or "\0" in target or len(raw) > MAX_LINK_TARGET:
        refuse(f"the target of {path!r} is empty, too long or has a NUL")
    return target
