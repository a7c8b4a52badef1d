"""The entries of a version as a stream: all of them, those below one path, or one folder's.

A page is found by its first path, so that whoever begins in the middle reads nothing before it.
Neighbours: `reader` gives the pages; `restore` and `store` go through the entries.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Final

from chunkstore.errors import CorruptObjectError, NotFoundError
from chunkstore.format.document import corrupt
from chunkstore.format.manifest import Entry, EntryKind, Manifest, PackHint
from chunkstore.reader import Reader
from chunkstore.refs import near

_FEW: Final = 3
"""So many packs are looked into in any order."""


def page_of(manifest: Manifest, path: str) -> int:
    """Return the number of the page in which a path stands, if it stands anywhere."""
    after = bisect.bisect_right(
        manifest.pages, _order(path), key=lambda ref: _order(ref.first_path)
    )
    return max(0, after - 1)


def entries_below(
    reader: Reader, manifest: Manifest, path: str = "", *, start: str = ""
) -> Iterator[tuple[Entry, list[PackHint]]]:
    """Yield the entry at `path` or those below it, "" for all, each with the packs to look in.

    Those whose paths stand before `start` are left out, and pages that hold no others not read.

    Raises:
        NotFoundError: the version has neither a file nor a folder at `path`.
        CorruptObjectError: the pages do not fit each other or what the manifest says of them.
    """
    first = number = page_of(manifest, max(path, start, key=_order))
    below = f"{path}/"
    found = not path
    seen: list[str] = []
    size = 0
    above: list[bytes] = []  # paths of pages before that the next page may lie below
    while number < len(manifest.pages):
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
            if start and _order(entry.path) < _order(start):
                continue
            if path and entry.path == path and len(hints) > _FEW:
                found = True
                share = (before - entry.size / 2) / (sum(e.size for e in page) or 1)
                yield entry, _nearest(hints, share, own=ref.inline is None)
            elif not path or entry.path == path or entry.path.startswith(below):
                found = True
                yield entry, hints
            elif not found:
                seen.append(entry.path)
        number += 1
        if path and number == first + 1:  # names such as `path-1` stand before what is below `path`
            number = max(number, page_of(manifest, below))
            above = above if number == first + 1 else []
    if not path and not start and size != manifest.size:
        raise CorruptObjectError(
            f"the files of the version have {size} bytes, its manifest says {manifest.size}"
        )
    if not found and start:
        next(entries_below(reader, manifest, path))  # raises where nothing is there at all
    elif not found:
        folders = {name[:end] for name in seen for end, c in enumerate(name) if c == "/"}
        raise NotFoundError(
            f"no file or folder {path!r} in that version",
            hint=near(path, folders.union(seen)) or "list the files of the version with ls",
        )


def entries_in(
    reader: Reader, manifest: Manifest, path: str = "", *, start: str = ""
) -> Iterator[Entry]:
    """Yield what stands in the folder at `path`, "" for the top, one level of it, by path.

    A folder in it is an entry of that kind, whether it is empty or not; what lies below it is
    passed over, and pages that have nothing else are not read. A file or link yields itself. Paths
    before `start` are left out.

    Raises:
        NotFoundError: the version has neither a file nor a folder at `path`.
        CorruptObjectError: a page does not fit what the manifest says of it.
    """
    for first, _ in entries_below(reader, manifest, path):  # raises where nothing is there
        if path and first.path == path:
            if _order(path) >= _order(start):
                yield first
            return
        break
    below = f"{path}/" if path else ""
    begin = max(below, start, key=_order)
    number = page_of(manifest, begin)
    while number < len(manifest.pages):
        page = reader.page(manifest, number)
        row = bisect.bisect_left(page, _order(begin), key=_path_order)
        while row < len(page):
            entry = page[row]
            if not entry.path.startswith(below):
                return
            name, slash, rest = entry.path[len(below) :].partition("/")
            if not slash:
                if name:  # else it is the empty folder that was asked for
                    yield entry
                row += 1
                continue
            folder = f"{below}{name}/"
            if _order(folder) >= _order(start):
                yield Entry(folder, EntryKind.FOLDER) if rest else entry
            begin = f"{below}{name}0"  # the first path after all that begin with `name/`
            row = bisect.bisect_left(page, _order(begin), row, key=_path_order)
        number = max(number + 1, page_of(manifest, begin))


def _order(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")  # the caller's text may be no path at all


def _path_order(entry: Entry) -> bytes:
    return entry.path.encode()


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
