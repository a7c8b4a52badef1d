"""Patterns of dataset names, as tokens have them: `*` stands for any characters. Pure."""

from __future__ import annotations


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern stands for all of a name; takes time in proportion to their lengths."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    if not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in middle:
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end
