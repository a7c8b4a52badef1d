"""What the tests of the command line share: a place for each, and ways to run commands."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chunkstore_cli.boundary import run

from chunkstore.testing import servers
from tests.conftest import NO_PODMAN

PROGRAM = Path(sys.executable).parent / "chunkstore"
SECONDS = 60  # far more than any end takes, far less than any deadline


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `chunkstore` is the installed program."""
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def never_began(self) -> bool:
        """Whether a signal ended Python itself, with its words, before it ran any line of ours."""
        return self.errors.startswith("Fatal Python error: init_")

    @property
    def document(self) -> Any:
        """The one JSON document."""
        return json.loads(self.text)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of JSON."""
        return [json.loads(line) for line in self.lines]


def begin(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start the installed program with pipes and without stdin; `more` is of `Popen`."""
    return subprocess.Popen(
        [PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        **more,
    )


def end(child: subprocess.Popen[bytes], seconds: float = SECONDS) -> Ended:
    """Wait for its end, so many seconds at most."""
    output, errors = child.communicate(timeout=seconds)
    return Ended(child.returncode, output, errors.decode())


class Place:
    """An empty folder to work in, with settings and caches of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.config = folder.parent / "config.toml"
        self._monkeypatch = monkeypatch
        for name in [*os.environ]:
            if name.startswith(("CHUNKSTORE_", "AWS_", "MINIO_", "_CHUNKSTORE")):
                monkeypatch.delenv(name)
        self.variable("HOME", str(folder.parent))
        self.variable("CHUNKSTORE_CONFIG", str(self.config))
        self.variable("CHUNKSTORE_CACHE", str(folder.parent / "cache"))
        monkeypatch.chdir(folder)

    def variable(self, name: str, value: str) -> None:
        """Set a variable of the environment."""
        self._monkeypatch.setenv(name, value)

    def file(self, path: str, content: str | bytes = "") -> Path:
        """Write a file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def run(self, *arguments: str) -> Ended:
        """Run a command in this process."""
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            patch.setattr(sys, "stdin", None)
            status = run(arguments)
        for stream in streams:
            stream.flush()
        output, errors = (stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
        return Ended(status, output, errors.decode())

    def well(self, *arguments: str) -> Ended:
        """Run a command that must succeed."""
        ended = self.run(*arguments)
        assert ended.status == 0, ended
        return ended

    def failing(self, status: int, *arguments: str) -> str:
        """Run a command that must fail with this status; return what it says on stderr.

        Whatever fails says what and what to do next, prints nothing on stdout and no traceback.
        """
        ended = self.run(*arguments)
        assert ended.status == status, ended
        assert ended.output == b"", ended
        first, *others = ended.errors.splitlines()
        assert first.startswith("error: "), ended
        assert any(line.startswith("hint: ") for line in others), ended
        assert "Traceback" not in ended.errors
        return ended.errors

    def start(self, *arguments: str, stdin: bytes = b"", **more: Any) -> Ended:
        """Run the installed program in a process of its own."""
        done = subprocess.run(
            [PROGRAM, *arguments], input=stdin, capture_output=True, timeout=120, **more
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


@pytest.fixture(scope="session", autouse=True)
def heeded_hang_ups() -> Iterator[None]:
    """A program that a test starts heeds SIGHUP, also where `nohup` has the tests ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder without a store."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Place(folder, monkeypatch)


class Box:
    """podman with an image of busybox, in a storage of its own."""

    image = "chunkstore-tests"
    create = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none"

    def __init__(self, folder: Path) -> None:
        self.engine = (
            f"podman --root {folder}/root --runroot {folder}/run --storage-driver vfs "
            "--runtime runc --cgroup-manager cgroupfs --events-backend none"
        )
        self.options = (
            *("--image", self.image, "--engine", self.engine),
            *("--create-arg", self.create),
        )
        root = folder / "image"
        (root / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, root / "bin/busybox")
        for name in ("cat", "cp", "ln", "ls", "mkdir", "mv", "sha256sum", "sh", "sleep", "tee"):
            (root / "bin" / name).symlink_to("busybox")
        done = shell(f"tar -C {root} -c . | {self.engine} import - {self.image}")
        assert done.returncode == 0, done

    def containers(self) -> list[str]:
        """Return the names of all containers that there are."""
        done = shell(f"{self.engine} ps --all --format '{{{{.Names}}}}'")
        assert done.returncode == 0, done
        return done.stdout.split()


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    """Real containers, where there can be any."""
    if os.geteuid() or not all(map(shutil.which, ("podman", "runc", "busybox"))):
        pytest.skip(NO_PODMAN)
    with tempfile.TemporaryDirectory(prefix="cs-", dir="/tmp") as folder:  # podman wants it short
        box = Box(Path(folder))
        yield box
        shell(f"{box.engine} rm --all --force; {box.engine} rmi --all --force")


@pytest.fixture(scope="session")
def shared_url(seaweedfs: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store on SeaweedFS, made by `init`; that takes seconds, so all tests share it."""
    url = seaweedfs.store_url("tests", f"cli-{os.getpid()}")
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("home")),
        "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
    }
    made = subprocess.run([PROGRAM, "init", url], env=variables, capture_output=True, text=True)
    assert made.stdout == f"created a store at {url}\n", made
    return url


@pytest.fixture
def bucket(place: Place, shared_url: str) -> Place:
    """A folder whose default store is on SeaweedFS and shared: name datasets after the test."""
    place.variable("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    place.variable("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    place.variable("CHUNKSTORE_STORE", shared_url)
    return place


@pytest.fixture
def stocked(place: Place) -> Place:
    """A folder with `./store`, which is the default, and two versions of `pets` in it.

    Version 2, tagged v2, has `notes.txt` changed, `cats/tom.bin` as it was, `new.txt` added and
    `old.txt` removed. `./pets` is the folder of version 2.
    """
    place.variable("CHUNKSTORE_STORE", "./store")
    place.well("init")
    place.file("pets/notes.txt", "one\n")
    place.file("pets/cats/tom.bin", bytes(range(256)) * 4000)
    place.file("pets/cats/kit/a.txt", "a\n")
    place.file("pets/old.txt", "old\n")
    place.well("push", "pets", "pets", "-m", "first\nof all")
    place.file("pets/notes.txt", "one\ntwo\n")
    place.file("pets/new.txt", "new\n")
    (place.folder / "pets/old.txt").unlink()
    place.well("push", "pets", "pets", "--tag", "v2")
    return place
