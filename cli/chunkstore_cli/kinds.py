"""Tables of sizes by kind of file: the largest kinds, and the rest in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from chunkstore_cli import output

if TYPE_CHECKING:
    from chunkstore.values import KindStat, PushedKind

_SHOWN: Final = 10
_RIGHT: Final = (1, 2, 3, 4, 5)


def kind_stats(kinds: Sequence[KindStat]) -> None:
    """Print the sizes of files that are stored."""
    rows = [
        (_name(kind.kind), kind.files, kind.size, kind.unique_bytes, kind.stored_bytes)
        for kind in kinds
    ]
    lines = [(*_texts(row), f"{row[2] / row[4]:.1f}" if row[4] else "") for row in _shortened(rows)]
    output.line()
    output.table(("KIND", "FILES", "SIZE", "UNIQUE", "STORED", "TIMES LESS"), lines, right=_RIGHT)


def pushed_kinds(kinds: Sequence[PushedKind]) -> None:
    """Print what files would add, where there are any."""
    rows = [
        (_name(kind.kind), kind.files, kind.size, kind.new_bytes, kind.stored_bytes)
        for kind in kinds
    ]
    lines = [_texts(row) for row in _shortened(rows)]
    if lines:
        output.line()
        output.table(("KIND", "FILES", "SIZE", "NEW", "STORED, ABOUT"), lines, right=_RIGHT)
        output.line()


def times_less(size: int, stored: int) -> str:
    """Return how much less is stored than there is: ", 3.1 times less"; "" where it hardly is."""
    return f", {size / stored:.1f} times less" if stored and size >= stored * 1.05 else ""


def _name(kind: str) -> str:
    return kind or "no suffix"


Row = tuple[str, int, int, int, int]


def _shortened(rows: list[Row]) -> list[Row]:
    """Return the first rows, and the sums of the rest, unless that is a single one."""
    if len(rows) <= _SHOWN + 1:
        return rows
    rest = rows[_SHOWN:]
    _, files, sizes, unique, stored = zip(*rest, strict=True)
    sums = (sum(files), sum(sizes), sum(unique), sum(stored))
    return [*rows[:_SHOWN], (f"{len(rest):,} others", *sums)]


def _texts(row: Row) -> tuple[str, ...]:
    name, files, size, unique, stored = row
    return (name, f"{files:,}", *map(output.size_text, (size, unique, stored)))
