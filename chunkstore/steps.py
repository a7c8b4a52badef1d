"""What a push consists of: steps in the order of paths, in batches. Values only.

Neighbours: `slicer` makes them, `ingest` takes them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from blake3 import blake3

from chunkstore.chunker import WINDOW_SIZE
from chunkstore.format.manifest import Entry
from chunkstore.ids import NO_HASH, FileHash
from chunkstore.kinds import kind_of
from chunkstore.takeover import SamePage
from chunkstore.walk import FileState, LeftOut

BATCH_SIZE: Final = WINDOW_SIZE
BATCH_FILES: Final = 1024


@dataclass(slots=True)
class SourceFile:
    """One file on its way into the store.

    Attributes:
        path: its path in the version.
        before: its entry in the parent version, if it has one.
        executable: whether its x bit is set.
        mtime_ns: its modification time.
        state: what the file system said of it, None for a stream.
        apart: it comes in no order, so its entry is gathered rather than taken in.
        hasher: hashes the whole file; whoever takes its pieces gives it their bytes.
        file_hash: what came out of that, known once the last piece has been taken.
    """

    path: str
    before: Entry | None
    executable: bool = False
    mtime_ns: int = 0
    state: FileState | None = None
    apart: bool = False
    hasher: blake3 = field(default_factory=blake3)
    file_hash: FileHash = NO_HASH


@dataclass(slots=True)
class Piece:
    """Consecutive chunks of one file: `chunks[start:end]` of the batch.

    Attributes:
        file: whose they are.
        start: number of its first chunk in the batch.
        end: number after its last chunk.
        first: the file begins here; what was seen of it before is void.
        last: the file ends here.
        fresh: what was read for it, which the hash of the whole file goes on with.
    """

    file: SourceFile
    start: int
    end: int
    first: bool
    last: bool
    fresh: memoryview


@dataclass(slots=True)
class Ready:
    """An entry that needs no data: a link, an empty folder, an unchanged file.

    Attributes:
        entry: the entry of the new version.
        before: the parent version's entry at the same path.
        state: the file's state where it is an unchanged file.
        packs: numbers of the packs that hold its chunks.
    """

    entry: Entry
    before: Entry | None
    state: FileState | None = None
    packs: frozenset[int] = frozenset()


@dataclass(slots=True)
class Taken:
    """A page of the parent version that is taken over.

    Attributes:
        page: which one.
        entries: gives its entries one by one, for who cannot take it as a whole.
        fetch: gives its bytes.
    """

    page: SamePage
    entries: Callable[[], Iterator[Ready]]
    fetch: Callable[[], bytes]

    def chunks(self, label: Callable[[str], str]) -> list[tuple[bytes, str]]:
        """Return joined ids of each file and what `label` says of its kind.

        Nothing where a file has lists: to read them costs more than is known by them.
        """
        entries = [ready.entry for ready in self.entries()]
        if any(entry.blob.depth for entry in entries):
            return []
        return [(entry.blob.ids, label(kind_of(entry.path))) for entry in entries]


@dataclass(slots=True)
class Gone:
    """An entry of the parent version that the new one has not."""

    entry: Entry


Step: TypeAlias = Piece | Ready | Taken | Gone | LeftOut


@dataclass(slots=True)
class Batch:
    """Some steps of a push in the order of paths, with the chunks that they need.

    Chunks lie in the slicer's buffer: they are overwritten once the batch has been taken.
    """

    steps: list[Step] = field(default_factory=list)
    chunks: list[memoryview] = field(default_factory=list)
    size: int = 0
    files: int = 0

    @property
    def full(self) -> bool:
        """Whether it is time for the next batch."""
        return self.size >= BATCH_SIZE or self.files >= BATCH_FILES
