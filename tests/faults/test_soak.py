"""Processes that push, read, drop and collect without any grace, killed and stopped on the way.

`make soak` does the same for ten minutes on each storage.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.testing import servers
from chunkstore.testing.trees import random_bytes, tree_state
from tests.conftest import NO_MINIO, Place

SECONDS = 7

PUSH = """
import os, signal, sys
from chunkstore import ConflictError, Credentials, S3Options, Store
from chunkstore.testing import servers
from chunkstore.testing.backends import MeddlingBackend

url, cache, source, moment = sys.argv[1:]
s3 = S3Options(credentials=Credentials(servers.ACCESS_KEY, servers.SECRET_KEY))

def stop(number, method, key):
    if f"{method} {key}".startswith(moment):
        os.kill(os.getpid(), signal.SIGSTOP)

with Store.open(url, s3=s3 if url.startswith("s3:") else None, cache_folder=cache) as store:
    store.objects.backend = MeddlingBackend(store.objects.backend, before=stop)
    try:
        with open(source, "rb") as stream:
            print("committed", store.push(stream, "data", name="file").version)
    except ConflictError:
        print("refused")
"""
"""A push that stops itself before its first call of a kind."""


@pytest.mark.parametrize("name", ["folder", "minio", "seaweedfs"])
def test_nothing_that_was_acknowledged_is_lost(name: str, pytestconfig: pytest.Config) -> None:
    """Eight processes for some seconds: every version that must be there reads back."""
    if name == "minio" and servers.minio_program() is None:
        pytest.skip(NO_MINIO)
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--on", name, "--seconds", str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=pytestconfig.rootpath,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def collect(store: Store) -> None:
    store.gc(apply=True, grace=0, reader_grace=0, force=True)


@pytest.mark.parametrize("moment", ["put packs/", "put index/", "put manifests/", "put refs/"])
def test_a_push_that_was_stopped_for_a_whole_collection(
    place: Place, tmp_path: Path, moment: str
) -> None:
    """It wakes up and commits a whole version, or is refused; never a version with holes.

    Half of what it pushes was stored and dropped before, and is collected while it sleeps.
    """
    content = random_bytes(3_000_000, 1)
    source = tmp_path / "source"
    source.write_bytes(content)
    with place.create() as store:
        store.push(io.BytesIO(content[:1_500_000]), "old", name="file")
        store.push(io.BytesIO(b"alive"), "live", name="file")
        store.remove("old", [1])
        child = subprocess.Popen(
            [sys.executable, "-c", PUSH, place.url, str(tmp_path / "other"), str(source), moment],
            stdout=subprocess.PIPE,
            text=True,
        )
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it never came to that moment"
        collect(store)
        os.kill(child.pid, signal.SIGCONT)
        while child.poll() is None:  # it may stop at the same moment of another attempt
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            os.kill(child.pid, signal.SIGCONT)
        assert child.stdout is not None
        said = child.stdout.read()
        assert said in ("committed 1\n", "refused\n")
        if said == "refused\n":
            assert store.push(source, "data", name="file").version == 1
    with place.open(cache=tmp_path / "fresh") as store:
        with store.open_file("data@1:file") as file:
            assert file.read() == content
        collect(store)
        with store.open_file("data@1:file") as file:
            assert file.read() == content


def test_two_machines_with_caches_of_before(place: Place, tmp_path: Path) -> None:
    """Caches that know packs which are gone cost nothing but a look: all is stored again."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5):
        (tree / str(number)).write_bytes(random_bytes(400_000, number))
    machines = [tmp_path / "one", tmp_path / "two"]
    with place.create() as store:
        for number, cache in enumerate(machines):
            with place.open(cache=cache) as other:
                other.push(tree, f"data-{number}")
                other.push(tree, f"data-{number}", allow_same=True)
        for number in range(2):
            store.remove(f"data-{number}", [1, 2])
        collect(store)
        assert store.stat().packs == 0
        for number, cache in enumerate(machines):
            with place.open(cache=cache) as other:
                result = other.push(tree, f"data-{number}")
                assert result.version == 3
        collect(store)
    with place.open(cache=tmp_path / "fresh") as store:
        for number in range(2):
            store.pull(f"data-{number}", tmp_path / f"out-{number}")
            assert tree_state(tmp_path / f"out-{number}") == tree_state(tree)
