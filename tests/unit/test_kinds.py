"""Which kind of file a path is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.kinds import MOST_KINDS, OTHER, counted_as, kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.csv", ".csv"),
        ("B.CSV", ".csv"),
        ("a.tar.gz", ".gz"),
        ("lib/libz.so.1.3", ".so"),
        ("model.safetensors", ".safetensors"),
        ("a.7z", ".7z"),
        ("log.1", ""),
        ("Makefile", ""),
        (".gitignore", ""),
        ("a.b/c", ""),
        ("end.", ""),
        ("what is. this", ""),
        ("cache.0123456789abcdef01", ""),
        ("データ.csv", ".csv"),
    ],
)
def test_suffix(path: str, kind: str) -> None:
    """The kind is the last suffix, in lower case; versions of libraries are passed over."""
    assert kind_of(path) == kind


@given(st.text())
def test_any_path_has_a_short_kind(path: str) -> None:
    """Whatever the path, the kind is printable and short."""
    kind = kind_of(path)
    assert kind.isascii()
    assert len(kind) <= 17
    assert kind == "" or kind.startswith(".")


def test_most_kinds() -> None:
    """Beyond a thousand kinds all new ones count as one; those that are known stay."""
    known = {f".k{number}": None for number in range(MOST_KINDS)}
    assert counted_as(".k7", known) == ".k7"
    assert counted_as(".new", known) == OTHER
    assert counted_as(".new", {}) == ".new"
