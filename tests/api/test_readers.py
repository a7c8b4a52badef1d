"""Programs that read files over HTTP in ways of their own read them right."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chunkstore.testing.trees import mixture
from tests.api.conftest import FILES, Served

CONTENT = b"".join(mixture(40_000_000, 7))


@pytest.fixture(scope="module")
def large(shared: Served) -> str:
    """The URL of a large file."""
    shared.store.push(io.BytesIO(CONTENT), "pets", name="large file ü.bin")
    return f"{shared.address}{FILES}/large%20file%20%C3%BC.bin"


WAYS = {
    "aria2c": "aria2c -q -x8 -s8 -k1M --file-allocation=none -o got {url}",
    "aria2c and its name": "aria2c -q --content-disposition-default-utf8 {url} && mv large* got",
    "wget and its name": "wget -q --content-disposition {url} && mv large* got",
    "curl and its name": "curl -sS -O -J {url} && mv large* got",
    "curl in parts": "curl -sS -r 0-9999999 {url} > got && curl -sS -r 10000000- {url} >> got",
    "rclone": "rclone copyurl {url} got",
    "rclone by a remote": "rclone copyto --http-url {url}/.. ':http:large file ü.bin' got",
    "rclone in parts": "rclone copyurl --multi-thread-streams 4 --multi-thread-cutoff 1M {url} got",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_read_right(large: str, tmp_path: Path, way: str) -> None:
    """Whole, in parts, side by side, under its own name: the bytes are those of the file."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = way.partition(" ")[0]
    if shutil.which(program, path=path) is None:
        pytest.skip(f"no {program} here")
    command = WAYS[way].format(url=f"'{large}'")
    environment = {**os.environ, "PATH": path}
    subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "got").read_bytes() == CONTENT
