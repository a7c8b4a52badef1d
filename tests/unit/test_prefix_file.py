"""Files of sorted prefixes: an id is there or is not, whatever was joined to what."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from chunkstore_api import prefix_file
from chunkstore_api.prefix_file import EMPTY
from hypothesis import given
from hypothesis import strategies as st

IDS = st.lists(
    st.binary(min_size=32, max_size=32)
    | st.integers(0, 40).map(lambda n: n.to_bytes(2, "big") + bytes(30)),
    max_size=60,
)


@given(first=IDS, second=IDS, rows=st.integers(1, 9))
def test_what_was_written_is_there(first: list[bytes], second: list[bytes], rows: int) -> None:
    """A file made of another and of more ids has both, each once, in order, and no others."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_file, "_ROWS", rows)
        path = f"{folder}/file"
        one = prefix_file.write(path, lambda: [bytes(32)], EMPTY.prefixes, iter(first))
        two = prefix_file.write(path, lambda: [b"n" * 32], one.prefixes, iter([b"".join(second)]))
        read = prefix_file.read(path)
        assert read is not None
        assert read.names == two.names == {b"n" * 32}
        expected = sorted({i[:16] for i in first + second})
        found = [prefix.ljust(16, b"\0") for prefix in read.prefixes.tolist()]
        assert found == expected
        asked = [*first, *second, b"\xff" * 32, bytes(32)]
        known = {i[:16] for i in first + second}
        assert read.contains(b"".join(asked)).tolist() == [i[:16] in known for i in asked]


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    """A bit that turned over, a cut, another file: none of it is believed."""
    path = tmp_path / "file"
    prefix_file.write(str(path), lambda: [bytes(32)], EMPTY.prefixes, iter([bytes(range(32))]))
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert prefix_file.read(str(path)) is None
    for wrong in (b"", data[:-1], data[:20], data + b"x"):
        path.write_bytes(wrong)
        assert prefix_file.read(str(path)) is None
    path.unlink()
    assert prefix_file.read(str(path)) is None


def test_where_nothing_can_be_kept_it_is_made_all_the_same(tmp_path: Path) -> None:
    """A folder that is not there, as a full one: the set has no name, and is whole."""
    path = str(tmp_path / "none" / "file")
    made = prefix_file.write(path, lambda: [bytes(32)], EMPTY.prefixes, iter([b"x" * 32]))
    assert made.names == {bytes(32)}
    assert made.contains(b"x" * 32 + b"y" * 32).tolist() == [True, False]
    prefix_file.trim(str(tmp_path / "none"), 0)
    assert not list(tmp_path.iterdir())


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    """`trim` keeps the newest files, down to a bound."""
    for number in range(5):
        prefix_file.write(str(tmp_path / str(number)), list, EMPTY.prefixes, iter([bytes(32)]))
        length = (tmp_path / str(number)).stat().st_size
        os.utime(tmp_path / str(number), (number, number))
    prefix_file.trim(str(tmp_path), 2 * length)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4"]
    assert np.array_equal(EMPTY.contains(bytes(64)), [False, False])
