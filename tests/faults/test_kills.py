"""Processes that push, tag, remove and collect are killed one after another over one store."""

from __future__ import annotations

from pathlib import Path

from bench.kills import run
from tests.conftest import Place
from tests.faults.test_kill import site_of

KILLS = 12


def test_no_kill_loses_a_version(place: Place, tmp_path: Path) -> None:
    """What was acknowledged is there, and what is there is whole, byte for byte."""
    assert run(site_of(place, 0), KILLS, tmp_path).problems == []
