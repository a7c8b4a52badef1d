"""The entries of a version as a stream: all of them, or those at and below one path.

Neighbours: `reader` gives the pages; `restore` and `store` go through the entries.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Final

from chunkstore.errors import CorruptObjectError, NotFoundError
from chunkstore.format.document import corrupt
from chunkstore.format.manifest import Entry, Manifest, PackHint
from chunkstore.reader import Reader
from chunkstore.refs import near

_FEW: Final = 3
"""So many packs are looked into in any order."""


def entries_below(
    reader: Reader, manifest: Manifest, path: str = ""
) -> Iterator[tuple[Entry, list[PackHint]]]:
    """Yield the entry at `path` or those below it, "" for all, each with the packs to look in.

    Raises:
        NotFoundError: the version has neither a file nor a folder at `path`.
        CorruptObjectError: the pages do not fit each other or what the manifest says of them.
    """
    first = 0
    if path:
        paths = [page.first_path.encode() for page in manifest.pages]
        first = max(0, bisect.bisect_right(paths, path.encode()) - 1)
    below = f"{path}/"
    found = not path
    seen: list[str] = []
    size = 0
    above: list[bytes] = []  # paths of pages before that the next page may lie below
    for number in range(first, len(manifest.pages)):
        ref = manifest.pages[number]
        if (
            path
            and number > first  # the first page has the names that are offered
            and ref.first_path.encode() > below.encode()
            and not ref.first_path.startswith(below)
        ):
            break
        hints = [manifest.packs[pack] for pack in ref.packs]
        page = reader.page(manifest, number)
        above = _check_seam(above, page, f"page {ref.page_id.hex()}")
        size += sum(entry.size for entry in page)
        before = 0
        for entry in page:
            before += entry.size
            if path and entry.path == path and len(hints) > _FEW:
                found = True
                share = (before - entry.size / 2) / (sum(e.size for e in page) or 1)
                yield entry, _nearest(hints, share, own=ref.inline is None)
            elif not path or entry.path == path or entry.path.startswith(below):
                found = True
                yield entry, hints
            elif not found:
                seen.append(entry.path)
    if not path and size != manifest.size:
        raise CorruptObjectError(
            f"the files of the version have {size} bytes, its manifest says {manifest.size}"
        )
    if not found:
        folders = {name[:end] for name in seen for end, c in enumerate(name) if c == "/"}
        raise NotFoundError(
            f"no file or folder {path!r} in that version",
            hint=near(path, folders.union(seen)) or "'chunkstore ls' lists the files of a version",
        )


def _nearest(hints: list[PackHint], share: float, *, own: bool) -> list[PackHint]:
    """Put first the packs that are likely to hold a file that lies at `share` of its page's bytes.

    A page of large files leads to hundreds of packs, and each one that is looked into costs a
    request. A writer numbers packs as the entries need them. `own`: the first holds the page.
    """
    first, rest = (hints[:1], hints[1:]) if own else ([], hints)
    middle = share * len(rest) - 0.5
    order = sorted(range(len(rest)), key=lambda number: abs(number - middle))
    return first + [rest[number] for number in order]


def _check_seam(above: list[bytes], page: list[Entry], where: str) -> list[bytes]:
    """Hold a page against `above`, the paths of earlier pages that it may lie below.

    Returns those that the next page may lie below. What stands inside one page was checked when
    it was decoded.

    Raises:
        CorruptObjectError: a path lies below a file, link or empty folder of an earlier page.
    """
    for entry in page:
        path = entry.path.encode()
        while above and not path.startswith(above[-1]):
            above.pop()
        if not above:
            break
        for name in above:
            if name.endswith(b"/") or path.startswith(name + b"/"):
                corrupt(f"path {entry.path!r} lies below a file or an empty folder", where)
    last = page[-1].path
    return above + [entry.path.encode() for entry in page if last.startswith(entry.path)]
