"""Ranges and conditions mean what RFC 9110 says."""

from __future__ import annotations

import pytest
from chunkstore_api.conditions import (
    ByteRange,
    UnsatisfiableError,
    names_tag,
    parse_range,
    range_still_holds,
)
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(0, 300)


@given(size=SIZES, first=st.none() | SIZES, last=st.none() | SIZES)
def test_a_range_is_the_slice(size: int, first: int | None, last: int | None) -> None:
    """`A-B`, `A-` and `-N` are the bytes that the slice of the file is, or unsatisfiable."""
    data = bytes(number % 251 for number in range(size))
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is None:
        wanted = data[-last:] if last else b""
    else:
        wanted = data[first:] if last is None else data[first : last + 1]
    ignored = (first is None and last is None) or (
        first is not None and last is not None and last < first
    )
    try:
        found = parse_range(text, size)
    except UnsatisfiableError:
        assert not wanted
        assert not ignored
        return
    if ignored:
        assert found is None
    else:
        assert found is not None
        assert data[found.start : found.end] == wanted
        assert wanted


@given(st.text(max_size=40) | st.from_regex(r"bytes=[0-9,-]*"), SIZES)
def test_no_text_breaks_the_parser(text: str, size: int) -> None:
    """Whatever the header holds, the outcome is a range within the file, or none."""
    try:
        found = parse_range(text, size)
    except UnsatisfiableError:
        return
    assert found is None or 0 <= found.start < found.end <= size


@pytest.mark.parametrize(
    "text", ["", None, "bytes", "bytes=", "bytes=-", "bytes=5-4", "lines=0-1", "bytes=0-1,3-4"]
)
def test_what_is_ignored(text: str | None) -> None:
    """What is malformed, in another unit or several ranges leaves the whole file."""
    assert parse_range(text, 10) is None


def test_content_range() -> None:
    """Content-Range counts both ends."""
    assert ByteRange(0, 10).content_range(100) == "bytes 0-9/100"
    assert ByteRange(0, 10).content_range(None) == "bytes 0-9/*"


@pytest.mark.parametrize(
    ("field", "strong", "weak"),
    [
        (None, False, False),
        ("*", True, True),
        ('"a"', True, True),
        ('W/"a"', False, True),
        ('"b", "a"', True, True),
        ('W/"a", "a"', True, True),
        ('W/"a", "b"', False, True),
        ('"b","c"', False, False),
        ("a", False, False),
        ('"a', False, False),
    ],
)
def test_tags(field: str | None, strong: bool, weak: bool) -> None:
    """A list of tags is read as such; weak ones are only compared where that is allowed."""
    assert names_tag(field, {"a"}, weak=False) is strong
    assert names_tag(field, {"a"}, weak=True) is weak


@pytest.mark.parametrize(
    ("field", "holds"),
    [
        (None, True),
        ('"a"', True),
        ('W/"a"', False),
        ('"b"', False),
        ("Wed, 25 Nov 2026 14:24:50 GMT", False),
    ],
)
def test_if_range(field: str | None, holds: bool) -> None:
    """Only the strong tag of the file allows a part of it."""
    assert range_still_holds(field, "a") is holds
