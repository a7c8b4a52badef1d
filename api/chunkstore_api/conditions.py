"""Conditional and range requests: what the headers of RFC 9110, sections 13 and 14, ask for. Pure.

ETags are strong: the hash of the file, and for a compressed answer its coding behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from `start` up to, without, `end`."""

    start: int
    end: int

    def content_range(self, size: int | None) -> str:
        """Return the value of Content-Range for a file of `size` bytes, None if not known."""
        return f"bytes {self.start}-{self.end - 1}/{'*' if size is None else size}"


class UnsatisfiableError(Exception):
    """A range of bytes that the file does not have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A range that is asked for, of whatever size.

    Attributes:
        start: offset of the first byte, None for one counted from the end.
        end: offset behind the last one, None for all from `start`; else how many at the end.
    """

    start: int | None
    end: int | None

    def within(self, size: int) -> ByteRange:
        """Return what there is of it in a file of `size` bytes.

        Raises:
            UnsatisfiableError: nothing.
        """
        if self.start is None:
            start, end = max(0, size - (self.end or 0)), size
        else:
            start, end = self.start, size if self.end is None else min(self.end, size)
        if start >= end:
            raise UnsatisfiableError
        return ByteRange(start, end)


def wanted_range(text: str | None) -> Wanted | None:
    """Return the one range that a Range header asks for, None where the whole is to be sent.

    What is malformed, has another unit or several ranges is ignored, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(text or "")
    first, last = match.groups() if match else ("", "")
    if not first:
        return Wanted(None, int(last)) if last else None
    if last and int(last) < int(first):
        return None
    return Wanted(int(first), int(last) + 1 if last else None)


def parse_range(text: str | None, size: int) -> ByteRange | None:
    """Return the range that a Range header asks for of a file, None for the whole.

    Raises:
        UnsatisfiableError: the file has none of these bytes.
    """
    wanted = wanted_range(text)
    return None if wanted is None else wanted.within(size)


def names_tag(field: str | None, tags: set[str], *, weak: bool) -> bool:
    """Whether a header names one of `tags`, or any by `*`.

    Args:
        field: its value; None where there is none.
        tags: without quotes.
        weak: whether a weak tag names one too: it does in If-None-Match, not in If-Match.
    """
    if field is None:
        return False
    if field.strip() == "*":
        return True
    return any(tag in tags for mark, tag in _TAG.findall(field) if weak or not mark)


def range_still_holds(if_range: str | None, tag: str) -> bool:
    """Whether If-Range allows a part of the file with this tag; a date never does."""
    return if_range is None or if_range.strip() == f'"{tag}"'
