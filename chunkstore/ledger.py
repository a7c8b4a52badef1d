"""What a push adds, by kind of file, and what about it could be deduplicated better.

Neighbour: `ingest` tells it of chunks and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chunkstore.events import Notice
from chunkstore.kinds import counted_as
from chunkstore.limits import MIB
from chunkstore.values import PushedKind

LEAST_SIZE: Final = 4 * MIB
LEAST_SHARE: Final = 0.3
"""A changed file that is smaller, or of which less is new, gives no reason for a hint.

After an insertion in the middle of 20 and of 96 MB of Parquet half of the file is new, written by
content about a fifth (bench/bench_formats.py).
"""

_PARQUET: Final = "content_defined_chunking"
"""Name of a value in the footer of Parquet files that Hugging Face's `datasets` has written by
content. pyarrow itself leaves no trace, as a look at files of its version 26 shows."""

_ADVICE: Final = {
    ".parquet": "if only some rows differ, write the file with use_content_defined_chunking=True, "
    "by pyarrow 21 or newer",
    **dict.fromkeys(
        (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst", ".7z"),
        "if only parts differ, push what is packed in it instead; chunkstore compresses it itself",
    ),
}
_PAGE: Final = "docs/howto/deduplicate-well.md"


@dataclass(slots=True)
class Totals:
    """What a push has counted so far; sizes in bytes."""

    read_bytes: int = 0
    new_files: int = 0
    new_bytes: int = 0
    again_bytes: int = 0
    sent_bytes: int = 0
    done_files: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    failure_count: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Kind:
    files: int = 0
    size: int = 0
    new_bytes: int = 0


@dataclass(slots=True)
class _Poor:
    """Changed files of one kind that are mostly new."""

    files: int = 0
    size: int = 0
    new_bytes: int = 0
    first: str = ""


@dataclass(slots=True)
class Ledger:
    """Counts what one push adds. Its methods are called by one thread."""

    _kinds: dict[str, _Kind] = field(default_factory=dict)
    _poor: dict[str, _Poor] = field(default_factory=dict)

    def label(self, kind: str) -> str:
        """Return the kind under which one more counts."""
        return counted_as(kind, self._kinds)

    def add_chunks(self, kind: str, new_bytes: int) -> None:
        """Count raw bytes that the store lacked."""
        self._of(kind).new_bytes += new_bytes

    def add_file(self, kind: str, size: int) -> None:
        """Count a file that is new or changed."""
        counted = self._of(kind)
        counted.files += 1
        counted.size += size

    def add_changed(
        self, kind: str, path: str, size: int, new_bytes: int, end: bytes | memoryview
    ) -> None:
        """Look at a file that replaces an older one; `end` is its last chunk."""
        if kind not in _ADVICE or size < LEAST_SIZE or new_bytes <= size * LEAST_SHARE:
            return
        if kind == ".parquet" and _PARQUET.encode() in bytes(end):
            return
        poor = self._poor.setdefault(kind, _Poor(first=path))
        poor.files += 1
        poor.size += size
        poor.new_bytes += new_bytes

    def kinds(self, stored: Mapping[str, float]) -> tuple[PushedKind, ...]:
        """Return what was counted; `stored` has the stored bytes of each kind."""
        found = [
            PushedKind(
                kind=kind,
                files=counted.files,
                size=counted.size,
                new_bytes=counted.new_bytes,
                stored_bytes=round(stored.get(kind, 0)),
            )
            for kind, counted in self._kinds.items()
        ]
        return tuple(sorted(found, key=lambda kind: (-kind.stored_bytes, -kind.size, kind.kind)))

    def notices(self) -> list[Notice]:
        """Return one Notice for each kind of which files could be deduplicated better."""
        return [
            Notice(
                message=f"{_subject(kind, poor)}, and {poor.new_bytes / poor.size:.0%} of "
                f"{poor.size / MIB:,.1f} MiB had to be stored anew",
                hint=f"{_ADVICE[kind]}; see {_PAGE}",
            )
            for kind, poor in self._poor.items()
        ]

    def _of(self, kind: str) -> _Kind:
        return self._kinds.setdefault(kind, _Kind())


def _subject(kind: str, poor: _Poor) -> str:
    if poor.files == 1:
        return f"{poor.first} has changed"
    return f"{poor.files:,} {kind} files have changed, such as {poor.first}"
