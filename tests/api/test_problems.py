"""Every error of the library has a status, and the documentation has it too."""

from __future__ import annotations

from chunkstore_api.problems import STATUS_OF_ERROR, problem_of, status_of

from chunkstore import errors
from chunkstore.errors import ChunkstoreError
from tests.docs.test_reference import REFERENCE, codes, rows, subclasses


def test_every_error_has_its_row() -> None:
    """The table names each class of errors, so that a new one cannot fall through."""
    assert set(STATUS_OF_ERROR) == subclasses(ChunkstoreError)


def test_lost_data_is_never_not_found() -> None:
    """What was promised and lost is the server's fault."""
    for kind in subclasses(errors.IntegrityError):
        assert status_of(kind("gone")) == 500


def test_what_is_unexpected_is_not_told() -> None:
    """An unexpected exception tells a client nothing of the inside."""
    answer = problem_of(KeyError("secret"))
    assert answer.status_code == 500
    assert b"secret" not in bytes(answer.body)


def test_the_table_of_problems_is_documented() -> None:
    """docs/reference/http.md has each code of the library with its status."""
    shown = {
        (code, int(row[0]))
        for row in rows(REFERENCE / "http.md", "Problems")
        for code in codes(row[1])
    }
    expected = {(kind.code, status) for kind, status in STATUS_OF_ERROR.items()}
    assert expected <= shown
