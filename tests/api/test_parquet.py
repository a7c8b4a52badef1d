"""Parquet files show their first rows; whatever their bytes, the server stays as it is."""

from __future__ import annotations

import io
import random
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chunkstore_api import parquet
from chunkstore_api.web.previews import preview_of_rows

from chunkstore import Store
from chunkstore.errors import IntegrityError
from chunkstore.stream import FileContent
from tests.api.conftest import Served
from tests.api.pages import get

pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra bench)")


def file_of(count: int) -> bytes:
    """Return a Parquet file of so many rows, in several groups."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    columns: dict[str, Any] = {
        "number": range(count),
        "<b>text": [f"row {n} \u202e" * 50 for n in range(count)],
        "list": [[n, None] for n in range(count)],
    }
    made = io.BytesIO()
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(table, made, row_group_size=70)
    return made.getvalue()


@pytest.fixture
def content_of(store: Store) -> Iterator[Any]:
    """Gives the content of a new file in a store."""

    def push(data: bytes) -> FileContent:
        store.push(io.BytesIO(data), "tables", name="t.parquet")
        return store.file_content("tables:t.parquet")

    with store:
        yield push


def test_the_first_rows(served: Served) -> None:
    """The first rows and all columns are shown, and how many rows there are."""
    served.store.push(io.BytesIO(file_of(150)), "tables", name="t.parquet")
    page = get(served.client, "/datasets/tables/versions/1/files/t.parquet")
    assert "A Parquet file of 150 rows. The first 100 rows" in page.text
    assert "number (int64) <b>text (string) list (list<element: int64>)" in page.text
    assert "100 99 row 99 \\u202erow 99" in page.text
    assert "[99, None]" in page.text
    assert page.tags["b"] == 0


def test_damaged_files_have_no_rows(content_of: Any) -> None:
    """Files that are cut or changed give rows or none, and nothing else happens."""
    whole = file_of(100)
    rows = parquet.first_rows(content_of(whole))
    assert rows is not None
    assert (rows.count, len(rows.rows), rows.whole) == (100, 100, True)
    assert parquet.first_rows(content_of(whole[: len(whole) // 2])) is None
    assert parquet.first_rows(content_of(b"PAR1")) is None
    rng = random.Random(1)
    for _ in range(3):
        changed = bytearray(whole)
        for at in rng.sample(range(len(whole)), 20):
            changed[at] = rng.randrange(256)
        rows = parquet.first_rows(content_of(bytes(changed)))
        assert rows is None or len(rows.rows) <= parquet.MOST_ROWS


def test_damage_in_the_store_is_told(content_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store has lost is an error, not a file without rows."""
    content = content_of(file_of(10))

    def lost(self: FileContent, start: int, end: int) -> bytes:
        raise IntegrityError("lost")

    monkeypatch.setattr(FileContent, "read", lost)
    with pytest.raises(IntegrityError):
        parquet.first_rows(content)


@pytest.mark.parametrize(
    "script", ["env > {out}; exit", "sleep 600", "yes", "head -c 17 /dev/zero", "printf 'D%s'"]
)
def test_a_process_gone_wild_harms_nobody(
    tmp_path: Path, content_of: Any, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """It knows no secret of the server, and is ended whatever it says or does not say."""
    out, program = tmp_path / "out", tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script.format(out=out)}\n")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(parquet, "_MOST_SECONDS", 0.5)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    assert parquet.first_rows(content_of(file_of(10))) is None
    assert not out.exists() or "hush" not in out.read_text()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"columns": [], "rows": [], "count": 0, "whole": true}',
        b'{"columns": ["a"], "rows": [["x", "y"], []], "count": 1, "whole": true}',
        b'{"columns": ["a"], "rows": 3, "count": 1, "whole": true}',
        b'{"columns": ["a"], "rows": [], "count": "many", "whole": true}',
        b'{"columns": ["a"], "rows": [], "count": Infinity, "whole": true}',
        b"\xff",
    ],
)
def test_answers_that_are_none(answer: bytes) -> None:
    """A process that was taken over by what it read cannot make rows of another shape."""
    assert parquet._checked(answer) is None
    long = b'{"columns": ["%s"], "rows": [["%s"]], "count": 1, "whole": 1}' % (
        b"x" * 999,
        b"y" * 999,
    )
    rows = parquet._checked(long)
    assert rows is not None
    assert len(rows.columns[0]) == len(rows.rows[0][0]) == parquet.LONGEST_CELL + 1
    assert not rows.whole


def test_text_that_no_page_can_have() -> None:
    """Halves of characters, which UTF-8 cannot say, stand on the page as escapes."""
    answer = rb'{"columns": ["\ud800"], "rows": [["a\udfff"]], "count": 1, "whole": true}'
    rows = parquet._checked(answer)
    assert rows is not None
    preview = preview_of_rows(rows)
    assert (preview.columns, preview.rows) == ((r"\ud800",), [[r"a\udfff"]])
