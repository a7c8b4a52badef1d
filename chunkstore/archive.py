"""The entries of an archive in the order of a version, whatever order its members had.

Neighbours: `tar_reader` reads the members, `writer` takes the entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from chunkstore.format.manifest import Entry, EntryKind
from chunkstore.tar_reader import Member, refuse

Placed = tuple[Entry, frozenset[int]]


def in_order(files: Sequence[Placed], others: Sequence[Member]) -> Iterator[Placed]:
    """Yield the entries by path, each with the places of its chunks.

    Args:
        files: those whose bytes were in the archive.
        others: links, folders, and hard links to those files.

    Raises:
        InvalidInputError: two members have the same path, or a hard link leads nowhere.
    """
    found: dict[str, Placed] = {}
    for placed in files:
        path = placed[0].path
        if path in found:
            _twice(path)
        found[path] = placed
    for member in others:
        if member.path in found and member.kind != EntryKind.FOLDER:
            _twice(member.path)
        if member.same_as:
            if member.same_as not in found or found[member.same_as][0].kind != EntryKind.FILE:
                refuse(f"{member.path!r} is a hard link to {member.same_as!r}, which is not there")
            original, places = found[member.same_as]
            found[member.path] = (original._replace(path=member.path), places)
        else:
            entry = Entry(member.path, member.kind, target=member.target)
            found[member.path] = (entry, frozenset())
    return _without_filled_folders(found)


def _twice(path: str) -> None:
    refuse(f"{path!r} is in it twice")


def _without_filled_folders(found: dict[str, Placed]) -> Iterator[Placed]:
    """Yield by path; a folder only where nothing is below it."""
    paths = sorted(found, key=str.encode)
    for path, following in itertools.zip_longest(paths, paths[1:], fillvalue=""):
        if not (path.endswith("/") and following.startswith(path)):
            yield found[path]
