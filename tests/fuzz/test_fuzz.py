"""Decoders are fuzzed for two seconds each; `make fuzz` does it for as long as one likes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.decoders import TARGETS
from tests.fuzz.run import fuzz, summary

SECONDS = 2


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzers_begin_with_is_well_formed(name: str) -> None:
    """Each example is taken: a fuzzer that begins with refused bytes gets nowhere."""
    target = TARGETS[name]
    examples = target.examples()
    assert examples
    assert all(target.try_one(example) for example in examples)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has wheels for Linux on x86-64 only",
)
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_taken_or_refused_in_bounds(name: str, tmp_path: Path) -> None:
    """Whatever the bytes: a value or the promised errors, in a second and 64 MiB."""
    done = fuzz(name, SECONDS, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "inputs" in summary(done)
