"""What the library returns: small, frozen values. All sizes in bytes, all times in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from chunkstore.format.manifest import Entry
from chunkstore.ids import ManifestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a dataset.

    Attributes:
        dataset: its dataset.
        number: 1, 2, 3 ...
        manifest_id: 32 bytes; `manifest_id.hex()` is what commands print.
        created_ns: nanoseconds since the epoch, by the writer's clock.
        message: what the author says of it.
        files: files, links and empty folders.
        size: bytes of all files.
        new_bytes: raw bytes of chunks that the store lacked at commit.
        stored_bytes: what the store grew by at commit.
        tags: names of this version, `latest` among them where it is.
    """

    dataset: str
    number: int
    manifest_id: ManifestId
    created_ns: int
    message: str
    files: int
    size: int
    new_bytes: int
    stored_bytes: int
    tags: tuple[str, ...]

    @property
    def created(self) -> datetime:
        """When it was committed, by the writer's clock."""
        return datetime.fromtimestamp(self.created_ns / 1e9, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """The versions of a dataset after a rule said which to keep.

    Attributes:
        dropped: what is dropped, oldest first; in a dry run what would be.
        kept: what is kept, oldest first, each with the reason.
    """

    dropped: tuple[Version, ...]
    kept: tuple[tuple[Version, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset.

    Attributes:
        name: its name.
        versions: its versions, oldest first.
    """

    name: str
    versions: tuple[Version, ...]

    @property
    def latest(self) -> Version | None:
        """The newest version, None where there is none."""
        return self.versions[-1] if self.versions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedKind:
    """What files of one kind brought into the store.

    Attributes:
        kind: their suffix, such as ".csv"; "" without one, "other" beyond a thousand kinds.
        files: files that are new or changed against the version before.
        size: bytes of them.
        new_bytes: raw bytes of chunks that the store lacked; those that several kinds have count
            for the first.
        stored_bytes: what these chunks take up: of each frame the part that they have of its raw
            bytes. In a dry run about that; 0 of a status.
    """

    kind: str
    files: int
    size: int
    new_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStats:
    """What a push did.

    Attributes:
        files: entries of the version.
        size: bytes of its files.
        new_files: entries that are new or changed against the version before.
        new_bytes: raw bytes of chunks that the store lacked.
        again_bytes: raw bytes of chunks that lay scattered in the store and were stored again, so
            that a pull reads less.
        stored_bytes: what the store grew by; in a dry run about that, 0 of a status.
        sent_bytes: what left this process for the backend.
        seconds: how long it took.
        kinds: the same by kind of file, those that take up most first. Their `new_bytes` add up;
            `stored_bytes` has the lists of files and chunks too.
    """

    files: int
    size: int
    new_files: int
    new_bytes: int
    again_bytes: int
    stored_bytes: int
    sent_bytes: int
    seconds: float
    kinds: tuple[PushedKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """The outcome of a push.

    Attributes:
        dataset: where it was pushed.
        version: the version's number; in a dry run None, unless unchanged.
        manifest_id: the version's manifest; in a dry run None, unless unchanged.
        unchanged: the folder equals the version before, so none was made.
        stats: what the push did; in a dry run, what it would do.
        left_out: (path, reason) of what was passed over, at most a thousand.
        unreadable: files that could not be read. A push that is no dry run fails over them, unless
            it is told to skip them.
    """

    dataset: str
    version: int | None
    manifest_id: ManifestId | None
    unchanged: bool
    stats: PushStats
    left_out: tuple[tuple[str, str], ...] = ()
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """What a pull did.

    Attributes:
        files: entries asked for.
        size: bytes of their files.
        fetched_bytes: stored bytes read from the backend.
        reused_bytes: raw bytes found in the target.
        written_bytes: raw bytes written to the target.
        deleted: files, links and empty folders removed from the target by `delete`.
        seconds: how long it took.
    """

    files: int
    size: int
    fetched_bytes: int
    reused_bytes: int
    written_bytes: int
    deleted: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResult:
    """The outcome of a pull.

    Attributes:
        dataset: what was pulled from.
        version: the version's number.
        manifest_id: the version's manifest.
        stats: what the pull did; in a dry run, what it would do.
        left_out: (path, reason) of what was not restored.
    """

    dataset: str
    version: int
    manifest_id: ManifestId
    stats: PullStats
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that differs between two versions.

    Attributes:
        path: the path.
        before: what stood there, None where it was added.
        after: what stands there now, None where it was removed.
    """

    path: str
    before: Entry | None
    after: Entry | None

    @property
    def kind(self) -> Literal["added", "removed", "modified"]:
        """Which of the three it is."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "modified"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusResult:
    """A folder held against a version.

    Attributes:
        version: the version, None where the dataset has none yet.
        changes: (added | modified | removed, path, bytes of the file), by path; of removed
            files the bytes in the version, else those in the folder.
        stats: what a push of the folder would do.
        left_out: (path, reason) of what a push would pass over.
    """

    version: Version | None
    changes: tuple[tuple[str, str, int], ...]
    stats: PushStats
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KindStat:
    """Sizes of the files of one kind.

    Attributes:
        kind: their suffix, such as ".csv"; "" without one; "link" and "folder" for what is no file,
            "other" beyond a thousand kinds.
        files: how many there are, in all versions together.
        size: bytes of them.
        unique_bytes: raw bytes of their different chunks; a chunk that several kinds or versions
            have counts for the first.
        stored_bytes: what the packs spend on those: of each frame the part that they have of its
            raw bytes.
    """

    kind: str
    files: int
    size: int
    unique_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStat:
    """Sizes of one version.

    Attributes:
        version: the version.
        unique_bytes: raw bytes of its different chunks.
        stored_bytes: what the packs spend on those chunks, whoever brought them.
        kinds: the same by kind of file, those that take up most first.
    """

    version: Version
    unique_bytes: int
    stored_bytes: int
    kinds: tuple[KindStat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStat:
    """Sizes of one dataset.

    Attributes:
        name: the dataset.
        versions: how many it has.
        files: entries of the latest version.
        size: bytes of the latest version's files.
        total_size: bytes of all versions' files together.
        unique_bytes: raw bytes of the different chunks of all versions.
        stored_bytes: what the packs that hold those chunks spend on them.
        kinds: the sizes of all versions by kind of file, those that take up most first.
    """

    name: str
    versions: int
    files: int
    size: int
    total_size: int
    unique_bytes: int
    stored_bytes: int
    kinds: tuple[KindStat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStat:
    """Sizes of a whole store.

    Attributes:
        datasets: how many there are.
        versions: of all datasets together.
        total_size: bytes of all files of all versions.
        chunks: different chunks in the index.
        unique_bytes: raw bytes of the different chunks in the index.
        packs: how many packs there are.
        pack_bytes: their stored bytes.
        index_segments: how many there are.
        index_bytes: their stored bytes.
        metadata_bytes: stored bytes of manifests and refs.
        kinds: the sizes of all versions by kind of file, where that was asked for.
    """

    datasets: int
    versions: int
    total_size: int
    chunks: int
    unique_bytes: int
    packs: int
    pack_bytes: int
    index_segments: int
    index_bytes: int
    metadata_bytes: int
    kinds: tuple[KindStat, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """All that the store takes up."""
        return self.pack_bytes + self.index_bytes + self.metadata_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorCheck:
    """One finding of `doctor`.

    Attributes:
        name: what was looked at, in one word.
        ok: whether it is well.
        detail: what was seen.
        hint: what to do, or None.
    """

    name: str
    ok: bool
    detail: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPlan:
    """What a collection found, and would do.

    Attributes:
        versions: versions whose chunks are kept, those that can be brought back included.
        restorable: how many of these were dropped, and can be brought back.
        dropped: (dataset, number) of versions that are to be dropped first, by the rule.
        expired: dropped versions that can be brought back no more after it.
        live_chunks: different chunks that they need.
        packs: how many packs there are, but for those that were condemned before.
        pack_bytes: their stored bytes.
        dead_packs: packs that nothing needs and that are old enough: they go.
        dead_bytes: their stored bytes.
        sparse_packs: packs of which half or more is dead: what is alive is copied, then they go.
        sparse_bytes: their stored bytes.
        copied_bytes: about what the copies take up.
        young_packs: packs that nothing needs, but which are younger than the grace: they stay.
        young_bytes: their stored bytes.
        left_packs: packs that could go too, but are more than one run takes.
        manifests: manifests that no dataset lists and that are old enough: they go.
        condemned_packs: packs that a collection condemned which did not come to its end.
        refusal: why this is not done without `force`, "" where nothing speaks against it.
    """

    versions: int
    restorable: int
    dropped: tuple[tuple[str, int], ...]
    expired: int
    live_chunks: int
    packs: int
    pack_bytes: int
    dead_packs: int
    dead_bytes: int
    sparse_packs: int
    sparse_bytes: int
    copied_bytes: int
    young_packs: int
    young_bytes: int
    left_packs: int
    manifests: int
    condemned_packs: int
    refusal: str

    @property
    def freed_bytes(self) -> int:
        """About what the store would shrink by."""
        return self.dead_bytes + self.sparse_bytes - self.copied_bytes

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to drop and nothing to remove."""
        removed = self.dead_packs or self.sparse_packs or self.manifests
        return not (removed or self.dropped or self.expired)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcResult:
    """The outcome of a collection.

    Attributes:
        plan: what it found.
        applied: whether anything was to be changed at all.
        finished: packs that an earlier collection had condemned and this one deleted.
        deleted_packs: packs that were deleted, those of an earlier collection excepted.
        deleted_bytes: their stored bytes.
        copied_bytes: stored bytes of packs that were written for chunks of packs that went.
        deleted_manifests: manifests that were deleted.
        segments: index segments that were replaced.
        seconds: how long it took.
    """

    plan: GcPlan
    applied: bool
    finished: int
    deleted_packs: int
    deleted_bytes: int
    copied_bytes: int
    deleted_manifests: int
    segments: int
    seconds: float
