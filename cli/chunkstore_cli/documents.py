"""The library's values as JSON, with the keys that the documentation promises.

Ids are whole, sizes in bytes, times RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from chunkstore_cli import output

if TYPE_CHECKING:
    from chunkstore.findings import (
        CopiedVersion,
        CopyResult,
        Damage,
        Mended,
        RepairResult,
        VerifyResult,
    )
    from chunkstore.format.manifest import Entry
    from chunkstore.profile import ProfileReport
    from chunkstore.values import (
        PullResult,
        PushResult,
        StatusResult,
        Version,
    )


def version_document(version: Version) -> dict[str, Any]:
    """Return all that is known of a version."""
    return {
        "dataset": version.dataset,
        "version": version.number,
        "manifest": version.manifest_id.hex(),
        "created": output.time_json(version.created_ns),
        "message": version.message,
        "files": version.files,
        "size": version.size,
        "new_bytes": version.new_bytes,
        "stored_bytes": version.stored_bytes,
        "tags": list(version.tags),
    }


def version_name(version: Version) -> dict[str, Any]:
    """Return what names a version."""
    return {
        "dataset": version.dataset,
        "version": version.number,
        "manifest": version.manifest_id.hex(),
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return a path of a version."""
    from chunkstore.format.manifest import EntryKind

    kind = entry.kind.name.lower()
    if entry.kind == EntryKind.LINK:
        return {"path": entry.path, "kind": kind, "target": entry.target}
    if entry.kind == EntryKind.FOLDER:
        return {"path": entry.path, "kind": kind}
    return {
        "path": entry.path,
        "kind": kind,
        "size": entry.size,
        "modified": output.time_json(entry.mtime_ns),
        "executable": entry.executable,
        "hash": entry.file_hash.hex(),
    }


def push_summary(result: PushResult, report: ProfileReport | None) -> dict[str, Any]:
    """Return the last line of a push, with the report where it was profiled."""
    stats = result.stats
    return {
        "type": "summary",
        "dataset": result.dataset,
        "version": result.version,
        "manifest": result.manifest_id.hex() if result.manifest_id else None,
        "unchanged": result.unchanged,
        "files": stats.files,
        "size": stats.size,
        "new_files": stats.new_files,
        "new_bytes": stats.new_bytes,
        "again_bytes": stats.again_bytes,
        "stored_bytes": stats.stored_bytes,
        "sent_bytes": stats.sent_bytes,
        "unreadable": result.unreadable,
        "seconds": round(stats.seconds, 3),
        "kinds": [asdict(kind) for kind in stats.kinds],
        **_profile(report),
    }


def pull_summary(result: PullResult, report: ProfileReport | None) -> dict[str, Any]:
    """Return the last line of a pull, with the report where it was profiled."""
    stats = result.stats
    return {
        "type": "summary",
        "dataset": result.dataset,
        "version": result.version,
        "manifest": result.manifest_id.hex(),
        "files": stats.files,
        "size": stats.size,
        "fetched_bytes": stats.fetched_bytes,
        "reused_bytes": stats.reused_bytes,
        "written_bytes": stats.written_bytes,
        "deleted": stats.deleted,
        "seconds": round(stats.seconds, 3),
        **_profile(report),
    }


def _profile(report: ProfileReport | None) -> dict[str, Any]:
    return {"profile": _rounded(asdict(report))} if report else {}


def _rounded(value: Any) -> Any:
    """Return a document with its seconds and shares rounded to what means anything."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def status_summary(dataset: str, result: StatusResult) -> dict[str, Any]:
    """Return the last line of a status."""
    version, stats = result.version, result.stats
    return {
        "type": "summary",
        "dataset": dataset,
        "version": version.number if version else None,
        "manifest": version.manifest_id.hex() if version else None,
        **count_kinds(kind for kind, _, _ in result.changes),
        "files": stats.files,
        "size": stats.size,
        "new_bytes": stats.new_bytes,
        "seconds": round(stats.seconds, 3),
    }


def count_kinds(kinds: Iterable[str]) -> dict[str, int]:
    """Return how many paths were added, modified and removed."""
    counts = {"added": 0, "modified": 0, "removed": 0}
    for kind in kinds:
        counts[kind] += 1
    return counts


def damage_document(damage: Damage, mend: str) -> dict[str, Any]:
    """Return one damaged thing; `mend` is the command that mends it."""
    return {
        "type": "damage",
        "kind": damage.kind,
        "key": damage.key,
        "problem": damage.problem,
        "versions": [
            {"dataset": dataset, "version": number, "lost_paths": paths}
            for dataset, number, paths in damage.versions
        ],
        "paths": list(damage.paths),
        "mend": mend,
    }


def verify_summary(result: VerifyResult) -> dict[str, Any]:
    """Return the last line of a verification."""
    return {
        "type": "summary",
        "well": result.well,
        "level": result.level,
        "part": list(result.part),
        "versions": result.versions,
        "files": result.files,
        "packs": result.packs,
        "read_bytes": result.read_bytes,
        "damage": len(result.damage),
        "lost_paths": result.lost_paths,
        "waiting_packs": result.waiting_packs,
        "unused_packs": result.unused_packs,
        "seconds": round(result.seconds, 3),
    }


def copied_document(version: CopiedVersion) -> dict[str, Any]:
    """Return one version that is now in the other store."""
    return {
        "type": "version",
        "source_dataset": version.source_dataset,
        "source_version": version.source_version,
        "dataset": version.dataset,
        "version": version.version,
        "manifest": version.manifest_id.hex(),
        "new": version.new,
    }


def copy_summary(result: CopyResult, *, dry_run: bool) -> dict[str, Any]:
    """Return the last line of a copy."""
    return {
        "type": "summary",
        "dry_run": dry_run,
        "versions": len(result.versions),
        "new_versions": sum(version.new for version in result.versions),
        "failed": [
            {"dataset": dataset, "version": version, "problem": reason}
            for dataset, version, reason in result.failed
        ],
        "new_bytes": result.new_bytes,
        "sent_bytes": result.sent_bytes,
        "seconds": round(result.seconds, 3),
    }


def mended_document(step: Mended) -> dict[str, Any]:
    """Return one thing that repair did, or would do."""
    return {"type": "mended", "kind": step.kind, "key": step.key, "how": step.how}


def repair_summary(result: RepairResult, *, dry_run: bool) -> dict[str, Any]:
    """Return the last line of a repair."""
    return {
        "type": "summary",
        "dry_run": dry_run,
        "well": result.after.well,
        "damage_before": len(result.before.damage),
        "lost_paths_before": result.before.lost_paths,
        "damage": len(result.after.damage),
        "lost_paths": result.after.lost_paths,
        "mended": len(result.mended),
        "packs": result.packs,
        "chunks": result.chunks,
        "sent_bytes": result.sent_bytes,
        "seconds": round(result.seconds, 3),
    }
