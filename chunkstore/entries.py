"""The entries of a version as a stream: all of them, or those at and below one path.

Neighbours: `reader` gives the pages; `restore` and `store` go through the entries.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from chunkstore.errors import NotFoundError
from chunkstore.format.manifest import Entry, Manifest, PackHint
from chunkstore.reader import Reader
from chunkstore.refs import near


def entries_below(
    reader: Reader, manifest: Manifest, path: str = ""
) -> Iterator[tuple[Entry, list[PackHint]]]:
    """Yield the entry at `path` or those below it, "" for all, each with the packs to look in.

    Raises:
        NotFoundError: the version has neither a file nor a folder at `path`.
    """
    first = 0
    if path:
        paths = [page.first_path.encode() for page in manifest.pages]
        first = max(0, bisect.bisect_right(paths, path.encode()) - 1)
    below = f"{path}/"
    found = not path
    seen: list[str] = []
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
        for entry in reader.page(manifest, number):
            if not path or entry.path == path or entry.path.startswith(below):
                found = True
                yield entry, hints
            elif not found:
                seen.append(entry.path)
    if not found:
        folders = {name[:end] for name in seen for end, c in enumerate(name) if c == "/"}
        raise NotFoundError(
            f"no file or folder {path!r} in that version",
            hint=near(path, folders.union(seen)) or "'chunkstore ls' lists the files of a version",
        )
