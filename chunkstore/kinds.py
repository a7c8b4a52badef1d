"""What kind of file a path is, by its suffix. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MOST_KINDS: Final = 1000
"""So many kinds are told apart in one tally, so that hashes for suffixes take no memory."""

NO_SUFFIX: Final = ""
OTHER: Final = "other"

_VERSION: Final = re.compile(r"(?:\.[0-9]+)+\Z")
_SUFFIX: Final = re.compile(r".\.([a-z0-9_+-]{1,16})\Z")


def kind_of(path: str) -> str:
    """Return the suffix of a path in lower case with its dot, ".csv", or "" where it has none.

    Numbers at the end are passed over: `libz.so.1.3` is an ".so". What is longer than 16 letters,
    or has other signs than letters, digits, `_`, `+` and `-`, is no suffix.
    """
    name = path.rpartition("/")[2].lower()
    suffix = _SUFFIX.search(name)
    if suffix is None or suffix[1].isdecimal():
        suffix = _SUFFIX.search(_VERSION.sub("", name))
    return f".{suffix[1]}" if suffix else NO_SUFFIX


def counted_as(kind: str, known: Mapping[str, object]) -> str:
    """Return the kind under which a file counts in a tally that has those of `known`."""
    return kind if kind in known or len(known) < MOST_KINDS else OTHER
