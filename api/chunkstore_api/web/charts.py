"""The picture of what deduplication saves: versions as copies beside what the store grew by. Pure.

Sizes are added up from the first version on. Widths are in percent and heights in pixels, so that
text keeps its size in a window of any width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chunkstore.values import Version
from chunkstore_api.web.texts import size_text

HEIGHT: Final = 240
TOP: Final = 20
BOTTOM: Final = 212
MOST_BARS: Final = 40
_MOST_LABELS: Final = 10
_WIDEST: Final = 9.0  # percent


@dataclass(frozen=True, slots=True)
class Bar:
    """All versions up to one.

    Attributes:
        number: of the last of them.
        copies: bytes of their files.
        stored: bytes that the store grew by.
        x: of its middle, percent from the left.
        copies_y: pixels from the top.
        stored_y: the same.
        label: whether the number stands below.
    """

    number: int
    copies: int
    stored: int
    x: float
    copies_y: float
    stored_y: float
    label: bool

    @property
    def saved(self) -> float:
        """Percent of the copies that need not be kept, below 0 where nothing is saved."""
        return 100 * (1 - self.stored / self.copies) if self.copies else 0.0


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture.

    Attributes:
        bars: from left to right.
        width: of a bar, in percent.
        lines: (pixels from the top, size) of the lines behind the bars.
        gaps: whether versions that were dropped are missing from the sums.
    """

    bars: tuple[Bar, ...]
    width: float
    lines: tuple[tuple[float, str], ...]
    gaps: bool


def savings_chart(versions: Sequence[Version]) -> Chart:
    """Return the picture of a dataset's versions, the oldest first; of many only some have bars."""
    copies = list(itertools.accumulate(version.size for version in versions))
    stored = list(itertools.accumulate(version.stored_bytes for version in versions))
    step = -(-len(versions) // MOST_BARS)
    chosen = range((len(versions) - 1) % step, len(versions), step)  # the last is among them
    tick = _tick(max(copies[-1], stored[-1], 1))
    most = tick * -(-max(copies[-1], stored[-1], 1) // tick)
    band = 100 / len(chosen)
    every = -(-len(chosen) // _MOST_LABELS)
    bars = tuple(
        Bar(
            number=versions[at].number,
            copies=copies[at],
            stored=stored[at],
            x=round(band * (place + 0.5), 3),
            copies_y=_height(copies[at], most),
            stored_y=_height(stored[at], most),
            label=(len(chosen) - 1 - place) % every == 0,
        )
        for place, at in enumerate(chosen)
    )
    lines = tuple((_height(size, most), size_text(size)) for size in range(0, most + 1, tick))
    gaps = versions[-1].number != len(versions)
    return Chart(bars, round(min(band * 0.7, _WIDEST), 3), lines, gaps)


def _height(size: int, most: int) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * size / most, 2)


def _tick(most: int) -> int:
    """Return the distance of at most four lines: 1, 2, 5, 10 ... of a unit of 1,024."""
    unit = 1 << (most.bit_length() - 1) // 10 * 10
    for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        if most <= 4 * factor * unit:
            return factor * unit
    return 1024 * unit
