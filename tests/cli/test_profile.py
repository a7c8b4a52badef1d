"""`--profile` of push and pull."""

from __future__ import annotations

from tests.cli.conftest import Place


def test_a_table_on_stderr(stocked: Place) -> None:
    """The table goes to stderr; what is printed on stdout stays the same."""
    stocked.file("data/new.txt", "new\n" * 1000)
    ended = stocked.well("push", "./data", "pets", "--profile", "-q")
    assert len(ended.text.strip()) == 64
    assert {"cut", "hash", "compress", "check", "upload"} <= set(ended.errors.split())
    assert "busy: " in ended.errors
    assert "decompress" in stocked.well("pull", "pets", "./out", "--profile").errors


def test_json(stocked: Place) -> None:
    """With --json the summary has it, and no table is printed."""
    stocked.file("data/new.txt", "new\n" * 1000)
    ended = stocked.well("push", "./data", "pets", "--profile", "--json")
    report = ended.events[-1]["profile"]
    assert set(report) == {"seconds", "cpu_seconds", "groups", "stages"}
    assert {stage["stage"] for stage in report["stages"]} >= {"read", "cut", "compress"}
    assert "busy: " not in ended.errors
    assert "profile" not in stocked.well("push", "./data", "pets", "--json").events[-1]


def test_nothing_was_done(place: Place) -> None:
    """Where the command fails before there is anything to time, only the error is printed."""
    assert "busy" not in place.failing(4, "pull", "pets", "-s", "./none", "--profile")
