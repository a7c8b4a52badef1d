"""Shell completion, tried in the shells themselves."""

from __future__ import annotations

import os
import subprocess

from chunkstore.testing.servers import free_ports
from tests.cli.conftest import PROGRAM, Place

SCRIPT = """
set -u
eval "$(chunkstore completion bash)"
complete -p chunkstore >/dev/null || exit 1
compopt() { :; }  # only a real line editor has options to change
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
_chunkstore_completion chunkstore
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _completions(*words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", "chunkstore", *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_verbs(place: Place) -> None:
    """Bash completes verbs, also those below `remote`."""
    assert _completions("pu") == ["push", "pull"]
    assert _completions("remote", "re") == ["remove"]


def test_options(place: Place) -> None:
    """Bash completes options and their choices."""
    assert _completions("pull", "--del") == ["--delete"]
    assert _completions("pull", "--links", "in") == ["inside"]
    assert "--store" in _completions("ls", "--s")


def _offered(place: Place, *words: str) -> list[str]:
    """Return what is offered for the last of these words, asked as the script of bash asks."""
    place.variable("_CHUNKSTORE_COMPLETE", "bash_complete")
    place.variable("COMP_WORDS", " ".join(["chunkstore", *words]))
    place.variable("COMP_CWORD", str(len(words)))
    ended = place.well()
    assert ended.errors == ""
    return [line.partition(",")[2] for line in ended.lines if line]


def test_datasets(stocked: Place) -> None:
    """Bash completes the datasets of the store that is meant."""
    stocked.well("push", "pets", "people")
    assert _completions("pull", "pe") == ["people", "pets"]
    for verb in ("pull", "ls", "log", "cat", "diff", "stat", "tag", "rm"):
        assert _offered(stocked, verb, "pe") == ["people", "pets"]
    assert _offered(stocked, "push", "pets", "peo") == ["people"]
    assert _offered(stocked, "--store", "./store", "log", "pet") == ["pets"]


def test_no_store_no_datasets(place: Place) -> None:
    """Where no store can be asked nothing is offered, and nothing is said."""
    (port,) = free_ports(1)
    assert _offered(place, "pull", "p") == []
    place.variable("AWS_ACCESS_KEY_ID", "key")
    place.variable("AWS_SECRET_ACCESS_KEY", "secret")
    place.variable("CHUNKSTORE_STORE", f"s3://bucket/x?endpoint=http://127.0.0.1:{port}")
    assert _offered(place, "pull", "p") == []
    place.file("chunkstore.toml", "nonsense")
    assert _offered(place, "pull", "p") == []
