"""What `doctor` looks at: storage, rights, clock, chunker, caches, index, what a collection left.

Each check stands alone, and says in plain words what to do where something is not well. Neighbour:
`upkeep`, which offers it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Final

from chunkstore import layout
from chunkstore.backends.base import Backend, Capabilities, CreateOnly
from chunkstore.chunker import Chunker, slow_chunker
from chunkstore.compaction import MOST_SEGMENTS, SMALL
from chunkstore.errors import BackendError, ChunkstoreError, InvalidInputError
from chunkstore.format.config import SINGLE_WRITER, Config
from chunkstore.limits import MIB
from chunkstore.objects import Objects
from chunkstore.refs import Refs
from chunkstore.values import DoctorCheck

GIB: Final = 1024 * MIB

_CLOCK: Final = 60.0
"""Seconds between the clocks that are worth a word; at 900 S3 servers refuse requests."""

_SCATTERED: Final = 3.0
"""How many times the bytes of a version its packs may have before a pull reads far too many."""

_VERSIONS: Final = 20
"""Datasets whose latest version is looked at."""

_LITTLE_ROOM: Final = GIB


def doctor(
    backend: Backend, objects: Objects, config: Config, cache_folder: str | None
) -> list[DoctorCheck]:
    """Look at all of it; a check that fails with an error of the store is not well."""
    found = [*_check_storage(backend, config)]
    own: dict[str, Callable[[], DoctorCheck]] = {
        "rights": lambda: _check_rights(backend),
        "clock": lambda: _check_clock(backend),
    }
    checks: dict[str, Callable[[], DoctorCheck]] = {
        **({} if any(check.name == "access" for check in found) else own),  # a server has its own
        "latency": lambda: _check_latency(backend),
        "chunker": lambda: _check_chunker(config),
        "index": lambda: _check_index(objects),
        "spread": lambda: _check_spread(objects),
        "gc": lambda: _check_collector(objects),
    }
    found += [_one(name, check) for name, check in checks.items()]
    if cache_folder is not None:
        found.append(_check_cache(cache_folder, objects))
    return found


def _one(name: str, check: Callable[[], DoctorCheck]) -> DoctorCheck:
    try:
        return check()
    except ChunkstoreError as error:
        return DoctorCheck(name=name, ok=False, detail=error.message, hint=error.hint)


def _check_storage(backend: Backend, config: Config) -> Iterator[DoctorCheck]:
    try:
        found = backend.probe()
    except BackendError as error:
        yield DoctorCheck(name="storage", ok=False, detail=error.message, hint=error.hint)
        return
    yield _check_probe(found, config)
    if found.access:
        yield DoctorCheck(name="access", ok=True, detail=found.access)


def _check_probe(found: Capabilities, config: Config) -> DoctorCheck:
    if found.many_writers:
        return DoctorCheck(
            name="storage", ok=True, detail=f"{found.server} honours conditional writes"
        )
    alone = SINGLE_WRITER in config.write_features
    return DoctorCheck(
        name="storage",
        ok=alone,
        detail=f"{found.server} ignores conditional writes"
        + ("; the store is for one writer at a time" if alone else ""),
        hint="let only one push, tag or rm run at once" + ("" if alone else ", or move the store"),
    )


@contextlib.contextmanager
def _written(backend: Backend) -> Iterator[str]:
    """Have a small object below probe/, and remove it again."""
    key = f"probe/doctor-{secrets.token_hex(8)}"
    backend.put(key, [b"doctor"], CreateOnly())
    try:
        yield key
    finally:
        with contextlib.suppress(BackendError):
            backend.delete([key])


def _check_rights(backend: Backend) -> DoctorCheck:
    """Try what reading, pushing and collecting need."""
    tried: dict[str, BackendError | None] = {}
    key = f"probe/doctor-{secrets.token_hex(8)}"
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: next(iter(backend.list(layout.REFS)), None),
        "read": lambda: backend.get(layout.CONFIG),
        "write": lambda: backend.put(key, [b"doctor"], CreateOnly()),
        "delete": lambda: backend.delete([key]),
    }
    for name, call in calls.items():
        try:
            call()
            tried[name] = None
        except BackendError as error:
            tried[name] = error
    may = ", ".join(name for name, error in tried.items() if error is None)
    not_ = [name for name, error in tried.items() if error is not None]
    hints = {
        "list": "nothing works without it",
        "read": "nothing works without it",
        "write": "pull and verify work, push does not",
        "delete": "push and pull work; index segments are not merged, and gc cannot run",
    }
    return DoctorCheck(
        name="rights",
        ok=not not_,
        detail=f"may {may or 'nothing'}" + (f"; may not {', '.join(not_)}" if not_ else ""),
        hint=hints[not_[0]] if not_ else None,
    )


def _check_clock(backend: Backend) -> DoctorCheck:
    before = time.time()
    with _written(backend) as key:
        after = time.time()
        theirs = backend.head(key).modified
    # Servers state whole seconds, so a difference below one means nothing.
    ahead = max(theirs - after, 0.0) - max(before - 1 - theirs, 0.0)
    if abs(ahead) < _CLOCK:
        return DoctorCheck(name="clock", ok=True, detail="agrees with that of the storage")
    word = "ahead of" if ahead > 0 else "behind"
    return DoctorCheck(
        name="clock",
        ok=False,
        detail=f"the storage's is {abs(ahead):,.0f} s {word} this machine's",
        hint="set both by NTP: S3 servers refuse requests that are 15 minutes off",
    )


def _check_chunker(config: Config) -> DoctorCheck:
    try:
        chunker = Chunker(config.chunker)
    except InvalidInputError as error:
        return DoctorCheck(name="chunker", ok=False, detail=error.message, hint=error.hint)
    slow = slow_chunker(config.chunker.name)
    data = memoryview(bytes(range(256)) * 4096)
    started = time.perf_counter()
    for _ in itertools.repeat(None, 1 if slow else 8):
        chunker.cut(data, final=True)
    speed = (1 if slow else 8) * len(data) / (time.perf_counter() - started) / MIB
    detail = f"{config.chunker.name} cuts {speed:,.0f} MiB/s"
    return DoctorCheck(name="chunker", ok=slow is None, detail=detail, hint=slow)


def _check_index(objects: Objects) -> DoctorCheck:
    segments = objects.list_segments()
    noun = "segment" if len(segments) == 1 else "segments"
    detail = f"{len(segments)} {noun}, {sum(segments.values()) / MIB:,.1f} MiB"
    many = sum(length < SMALL for length in segments.values()) > 2 * MOST_SEGMENTS
    hint = "the next pushes merge them" if many else None
    return DoctorCheck(name="index", ok=not many, detail=detail, hint=hint)


def _check_spread(objects: Objects) -> DoctorCheck:
    """Hold the bytes of the latest versions against those of the packs that they lie in."""
    refs = Refs(objects)
    worst, name, looked_at = 0.0, "", 0
    for dataset in itertools.islice(refs.names(), _VERSIONS):
        stored = refs.get(dataset)
        if stored is None or not stored.ref.versions:
            continue
        manifest = objects.get_manifest(stored.ref.versions[-1].manifest_id)
        looked_at += 1
        packs = sum(hint.length for hint in manifest.packs)
        spread = packs / manifest.size if manifest.size > 64 * MIB else 0.0
        if spread > worst:
            worst, name = spread, dataset
    if worst <= _SCATTERED:
        count = "1 version looked at" if looked_at == 1 else f"{looked_at} versions looked at"
        return DoctorCheck(name="spread", ok=True, detail=f"files lie close together; {count}")
    return DoctorCheck(
        name="spread",
        ok=False,
        detail=f"the packs of the latest {name!r} have {worst:.1f} times its bytes",
        hint="pulls read more requests than they need; gc with --apply packs again what is "
        "mostly of versions that were dropped",
    )


def _check_collector(objects: Objects) -> DoctorCheck:
    state = objects.read_gc_state()
    if not state.condemned:
        count = state.generation
        ran = f"collected {count} time{'' if count == 1 else 's'}" if count else "never collected"
        return DoctorCheck(name="gc", ok=True, detail=ran)
    condemned = objects.read_condemned(state)
    left = sum(pack in condemned for pack, _ in objects.list_packs())
    return DoctorCheck(
        name="gc",
        ok=False,
        detail=f"a collection is not at its end; {left} condemned packs are left",
        hint="if none runs now it was broken off: gc with --apply brings it to its end",
    )


def _check_latency(backend: Backend) -> DoctorCheck:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        backend.get(layout.CONFIG)
        times.append(time.perf_counter() - started)
    median = sorted(times)[2] * 1000
    return DoctorCheck(name="latency", ok=True, detail=f"{median:.1f} ms for a small object")


def _check_cache(folder: str, objects: Objects) -> DoctorCheck:
    """Look at the room, at who owns the folder, and at how much of the index is there."""
    try:
        os.makedirs(folder, exist_ok=True)
        free = shutil.disk_usage(folder).free
        mine = os.stat(folder).st_uid in (os.geteuid(), 0) or os.geteuid() == 0
        kept = {
            entry.name: entry.stat().st_size
            for root in (folder, os.path.join(folder, "index"))
            if os.path.isdir(root)
            for entry in os.scandir(root)
            if entry.is_file()
        }
    except OSError as error:
        return DoctorCheck(
            name="cache",
            ok=False,
            detail=f"{folder}: {error.strerror}",
            hint="set another cache folder; without one, pushes read everything again",
        )
    detail = f"{folder}, {sum(kept.values()) / MIB:,.1f} MiB kept, {free / GIB:,.1f} GiB free"
    if not mine:
        hint = "it is another user's, so nothing is kept there; set another cache folder"
        return DoctorCheck(name="cache", ok=False, detail=detail, hint=hint)
    try:
        segments = objects.list_segments()
    except BackendError:
        segments = {}
    here = sum(segment.hex() in kept for segment in segments)
    detail += f", {here} of {len(segments)} index segments"
    if free < _LITTLE_ROOM:
        hint = "little room is left; delete the folder, or set another one"
        return DoctorCheck(name="cache", ok=False, detail=detail, hint=hint)
    return DoctorCheck(name="cache", ok=True, detail=detail)
