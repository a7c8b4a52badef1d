"""A version is judged the same whether another one is known already or not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from chunkstore.backends.memory import MemoryBackend
from chunkstore.chunk_index import ABSENT, ChunkIndex
from chunkstore.errors import IntegrityError
from chunkstore.format.manifest import Manifest, decode_manifest
from chunkstore.ids import ChunkKind, chunk_id
from chunkstore.objects import Objects
from chunkstore.reader import Reader
from chunkstore.segment_cache import SegmentCache
from chunkstore.version_check import check_version
from tests.api.forging import Draft, file_entry

THERE, LOST = b"there", b"lost"
NAMES = st.lists(st.sampled_from(["a", "b", "a-", "a!", "a0"]), min_size=1, max_size=3)
PATHS = st.sets(NAMES.map("/".join) | NAMES.map(lambda parts: "/".join(parts) + "/"), max_size=8)


def reader() -> Reader:
    """Return a reader of an empty store: pages are kept inside their manifests."""
    objects = Objects(MemoryBackend())

    def index() -> ChunkIndex:
        found = ChunkIndex(objects, SegmentCache(None))
        found.load_for_reading()
        return found

    return Reader(objects, index)


def sizes_of(ids: bytes, _: bool) -> Any:
    """Give the size of the one chunk that is there."""
    known = chunk_id(ChunkKind.DATA, THERE)
    rows = [ids[at : at + 32] for at in range(0, len(ids), 32)]
    return np.array([len(THERE) if row == known else ABSENT for row in rows], np.int64)


def version(paths: set[str], cuts: set[str], size: int = 0, lost: str = "") -> Manifest:
    """Return a version of files and folders whose pages begin at `cuts`."""
    ordered = sorted(paths, key=str.encode)
    pages: list[list[list[Any]]] = []
    for path in ordered:
        if not pages or path in cuts:
            pages.append([])
        content = LOST if path == lost else THERE
        pages[-1].append([path, 1] if path.endswith("/") else file_entry(path, content))
    files = sum(len(entry) == 9 for page in pages for entry in page)
    total = sum(entry[5] for page in pages for entry in page if len(entry) == 9) + size
    assert files <= len(ordered)
    return decode_manifest(Draft(pages, root={5: [len(ordered), total, 0]}).manifest(), "m")


def verdict(manifest: Manifest, base: Manifest | None) -> bool:
    """Whether a version is found good."""
    try:
        check_version(reader(), manifest, base, sizes_of)
    except IntegrityError:
        return False
    return True


def fits(paths: set[str]) -> bool:
    """Whether no path is below a file or empty folder."""
    plain = {path.rstrip("/") for path in paths}
    if len(plain) < len(paths):
        return False
    above = {"/".join(path.split("/")[:n]) for path in plain for n in range(1, path.count("/") + 1)}
    return not above & plain


def fitted(paths: set[str]) -> set[str]:
    """Return as many of the paths as fit each other."""
    kept: set[str] = set()
    for path in sorted(paths):
        kept = kept | {path} if fits(kept | {path}) else kept
    return kept


@given(old=PATHS, added=PATHS, dropped=PATHS, cuts=PATHS, more=PATHS, wrong=st.booleans())
def test_a_base_changes_no_verdict(
    old: set[str], added: set[str], dropped: set[str], cuts: set[str], more: set[str], wrong: bool
) -> None:
    """Pages that a good version has are passed over, and nothing that is wrong goes through."""
    old = fitted(old) or {"a"}
    base = version(old, cuts)
    assert verdict(base, None)
    new = (old | added) - dropped
    assume(new)
    changed = version(new, cuts | more, size=int(wrong))
    expected = fits(new) and not wrong
    assert verdict(changed, None) is expected
    assert verdict(changed, base) is expected


@given(old=PATHS, added=PATHS, cuts=PATHS)
def test_new_chunks_are_looked_up(old: set[str], added: set[str], cuts: set[str]) -> None:
    """A chunk that is not there is found missing in whatever page is new."""
    old = fitted(old) or {"a"}
    new = fitted(old | added | {"a0/a/b", "b/b/b/b"})
    files = [path for path in sorted(new - old) if not path.endswith("/")]
    assume(files)
    base = version(old, cuts)
    for lost in itertools.islice(files, 3):
        assert not verdict(version(new, cuts, lost=lost), base)
    assert verdict(version(new, cuts), base)
