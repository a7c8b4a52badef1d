"""Names of files in headers are harmless and lossless."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from chunkstore_api.names import content_disposition, media_type
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: "/" not in t))
def test_any_name_is_safe_and_comes_back(name: str) -> None:
    """The header is one line of printable ASCII, and the name can be read from it."""
    value = content_disposition(f"folder/{name}")
    match = re.fullmatch(
        r'attachment; filename="([\x20-\x7e]*)"(?:; filename\*=UTF-8\'\'([\w.~%-]+))?',
        value,
        re.ASCII,
    )
    assert match is not None
    plain, whole = match.groups()
    assert not set(plain) & set('"\\%;/')
    assert (unquote(whole) if whole else plain) == name


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.json", "application/json"),
        ("a.txt", "text/plain"),
        ("a.md", "text/markdown"),
        ("a.tar.gz", "application/gzip"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("v1.0/noname", "application/octet-stream"),
        (".hidden", "application/octet-stream"),
        ("x.PNG", "image/png"),
    ],
)
def test_media_types(path: str, kind: str) -> None:
    """The type is that of the last suffix; it claims no charset; a compressed file is no text."""
    assert media_type(path) == kind
