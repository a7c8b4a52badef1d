"""What the command prints: data on stdout, everything else on stderr.

Sizes are printed in KiB, MiB and GiB, ids as 12 hex digits; JSON has plain numbers and whole
ids. Text that comes from a store or a folder is made printable, so that no name or message can
play tricks on a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from chunkstore.errors import FilesystemError

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TRICKY_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_TRICKY: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class OutputClosedError(Exception):
    """Whoever was reading stdout has stopped, as `head` does."""


# text


def printable(text: str) -> str:
    """Return `text` with control characters and changes of direction written as escapes."""
    return _TRICKY.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def size_text(size: int) -> str:
    """Return a size in bytes for people: "17 B", "1.5 KiB", "3.1 GiB"."""
    unit = _unit_of(size)
    return f"{_in_unit(size, unit)} {_UNITS[unit]}"


def part_text(done: int, total: int | None) -> str:
    """Return how much of a size is done: "3.1 of 8.0 GiB", or "3.1 GiB" without a total."""
    if total is None or done > total:
        return size_text(done)
    unit = _unit_of(total)
    return f"{_in_unit(done, unit)} of {_in_unit(total, unit)} {_UNITS[unit]}"


def _unit_of(size: int) -> int:
    unit = 0
    while size >= 1023.95 * 1024**unit and unit + 1 < len(_UNITS):  # 1,023.95 would print as 1024.0
        unit += 1
    return unit


def _in_unit(size: int, unit: int) -> str:
    return f"{size}" if unit == 0 else f"{size / 1024**unit:.1f}"


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun: "1 file", "12,345 files"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short_id(identifier: bytes) -> str:
    """Return an id as tables print it."""
    return identifier.hex()[:12]


def time_text(nanoseconds: int) -> str:
    """Return a time, UTC, as tables print it."""
    return _utc(nanoseconds).strftime("%Y-%m-%d %H:%M:%S")


def time_json(nanoseconds: int) -> str:
    """Return a time as JSON has it: RFC 3339, UTC."""
    return _utc(nanoseconds).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 1000 / 1_000_000, UTC)


# stdout


def line(text: str = "") -> None:
    """Print one line of data."""
    _write(printable(text) + "\n")


def raw_line(text: str) -> None:
    """Print one line of text of our own, tabs and all."""
    _write(text + "\n")


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()
) -> None:
    """Print aligned columns; those numbered in `right` are aligned to the right."""
    for text in _aligned([headers, *rows], right):
        line(text)


def _aligned(rows: Iterable[Sequence[str]], right: Iterable[int]) -> Iterator[str]:
    lines = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    flush_right = set(right)
    for row in lines:
        cells = (
            cell.rjust(width) if column in flush_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Print lines of a label and a value."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        line(f"{label.ljust(width)}  {value}")


def document(value: Mapping[str, Any]) -> None:
    """Print the one JSON document of a short verb."""
    _write(_json(value, indent=2) + "\n")


def json_line(value: Mapping[str, Any]) -> None:
    """Print one line of JSON at once, whoever is reading."""
    _write(_json(value) + "\n")
    flush()


def long_document(head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON document whose last member is a list that is never held in memory."""
    opening = _json(head, indent=2).removesuffix("}").rstrip()
    _write(opening + ("," if head else "") + f'\n  "{name}": [')
    separator = "\n    "
    for item in items:
        _write(separator + _json(item))
        separator = ",\n    "
    _write("\n  ]\n}\n")


def _json(value: Mapping[str, Any], indent: int | None = None) -> str:
    """Return JSON that plays no tricks either, and is ASCII where stdout cannot take all of UTF-8.

    The escapes change no value: a parser gives back what was written.
    """
    everything = sys.stdout is not None and sys.stdout.encoding.lower() in ("utf-8", "utf8")
    text = json.dumps(value, indent=indent, ensure_ascii=not everything)
    return _TRICKY_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def binary(data: bytes | memoryview) -> None:
    """Write bytes as they are."""
    if sys.stdout is not None:
        with _failures():
            sys.stdout.buffer.write(data)


def flush() -> None:
    """Hand over what is buffered.

    Raises:
        OutputClosedError: nobody reads it any more.
        FilesystemError: it cannot be written, for instance because a disk is full.
    """
    if sys.stdout is not None:
        with _failures():
            sys.stdout.flush()


def discard() -> None:
    """Send what is still buffered nowhere, so that the end of the process does not stumble."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _write(text: str) -> None:
    if sys.stdout is not None:  # None where the shell closed it: >&-
        with _failures():
            sys.stdout.write(text)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        discard()
        raise OutputClosedError from error
    except OSError as error:
        discard()
        raise FilesystemError(f"cannot write the output: {error.strerror}") from error


# stderr


def note(text: str) -> None:
    """Print a line that is not data."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # a full disk or a closed pipe: there is no other place
            sys.stderr.write(printable(text) + "\n")
            sys.stderr.flush()


def json_note(value: Mapping[str, Any]) -> None:
    """Print a line of JSON of its own, whatever stood on the last line before."""
    note("")
    note(_json(value))


def notes(text: str) -> None:
    """Print lines that are not data."""
    for each in text.splitlines():
        note(each)


def note_table(rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print aligned columns that are not data; those numbered in `right` are flush right."""
    for text in _aligned(rows, right):
        note(text)


def hint(text: str | None) -> None:
    """Print what to do next, if there is something to say."""
    if text:
        note(f"hint: {text}")
