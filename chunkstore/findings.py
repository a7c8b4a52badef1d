"""What `verify`, `repair` and `copy` return: plain values, as those of `values`."""

from __future__ import annotations

from dataclasses import dataclass

from chunkstore.ids import ManifestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One damaged or missing thing of a store.

    Attributes:
        kind: what it is: "ref", "manifest", "pack", "index segment", "gc state", "condemned list",
            or "chunk" where no pack is known that has, or had, the chunk.
        key: its key, or the id of the chunk.
        problem: what is wrong with it.
        versions: (dataset, version, number of paths) of every version that lost something with it.
        paths: the first of those paths, as `name@version:path`, at most 100.
        mend: the verb of the command line that mends it, with its options.
    """

    kind: str
    key: str
    problem: str
    versions: tuple[tuple[str, int, int], ...]
    paths: tuple[str, ...]
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What `verify` found.

    Attributes:
        level: how closely packs were looked at: "listing", "directories" or "data".
        part: (N, M) where only the Nth of M parts of the packs was, (1, 1) for all.
        versions: how many versions were gone through, dropped ones included.
        files: entries of those versions.
        packs: packs that were looked into.
        read_bytes: stored bytes of packs that were looked into; at the level "data" all of them
            were read.
        damage: what is damaged, in the order in which it was found.
        lost_paths: paths, of all versions together, that cannot be read whole.
        waiting_packs: packs that the collector has condemned and not deleted yet; no damage.
        unused_packs: damaged packs that neither the index lists nor a version needs; no damage.
        seconds: how long it took.
    """

    level: str
    part: tuple[int, int]
    versions: int
    files: int
    packs: int
    read_bytes: int
    damage: tuple[Damage, ...]
    lost_paths: int
    waiting_packs: int
    unused_packs: int
    seconds: float

    @property
    def well(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damage


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedVersion:
    """One version that was copied to another store, or was there.

    Attributes:
        source_dataset: its dataset where it came from.
        source_version: its number there.
        dataset: its dataset where it is now.
        version: its number there, None in a dry run of a version that is not there.
        manifest_id: its manifest there; the same as where it came from, unless the dataset has
            another name, or something was collected in that store. In a dry run of a version that
            is not there, what it would be if nothing was.
        new: whether it was not there before.
    """

    source_dataset: str
    source_version: int
    dataset: str
    version: int | None
    manifest_id: ManifestId
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What `copy` did.

    Attributes:
        versions: the versions that are now in the other store.
        failed: (dataset, version, reason) of those that are damaged here; nothing of them is there.
        new_bytes: bytes of files for which the other store lacked the chunks.
        sent_bytes: stored bytes that were sent.
        seconds: how long it took.
    """

    versions: tuple[CopiedVersion, ...]
    failed: tuple[tuple[str, int, str], ...]
    new_bytes: int
    sent_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One thing that `repair` did, or would do.

    Attributes:
        kind: of what: as of a `Damage`.
        key: its key; of lost chunks their kind.
        how: what is done.
    """

    kind: str
    key: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What `repair` found, did and could not do.

    Attributes:
        before: what was damaged.
        after: what still is, after all that was done; the same as `before` in a dry run.
        mended: what was done, in a dry run what would be.
        packs: packs that were fetched whole.
        chunks: chunks that were packed again, one by one.
        sent_bytes: stored bytes that were written.
        seconds: how long it took.
    """

    before: VerifyResult
    after: VerifyResult
    mended: tuple[Mended, ...]
    packs: int
    chunks: int
    sent_bytes: int
    seconds: float
