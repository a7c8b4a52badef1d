"""Places for stores: a folder, SeaweedFS (always), MinIO (where it was built)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from chunkstore import S3Options, Store
from chunkstore.testing import servers
from chunkstore.testing.trees import make_tree

settings.register_profile("chunkstore", deadline=None)  # no test asserts a time
settings.load_profile("chunkstore")

_numbers = itertools.count()

NO_MINIO = "no MinIO server: 'make servers' builds it where Go is there"
NO_PODMAN = "no containers: they need podman, runc and busybox-static, and root"


@dataclass
class Place:
    """Where a test may create one store, and how to open it."""

    name: str
    url: str
    s3: S3Options | None
    cache: Path

    def create(self, **options: object) -> Store:
        return Store.create(self.url, s3=self.s3, cache_folder=self.cache, **options)  # type: ignore[arg-type]  # as given

    def open(self, *, cache: Path | None = None) -> Store:
        return Store.open(self.url, s3=self.s3, cache_folder=cache or self.cache, deadline=60)


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[servers.Server]:
    with servers.seaweedfs() as server:
        server.make_bucket("tests")
        yield server


@pytest.fixture(scope="session")
def minio() -> Iterator[servers.Server]:
    if servers.minio_program() is None:
        pytest.skip(NO_MINIO)
    with servers.minio() as server:
        server.make_bucket("tests")
        yield server


@pytest.fixture(params=["folder", "seaweedfs", "minio"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place on each kind of storage in turn."""
    cache = tmp_path / "cache"
    if request.param == "folder":
        return Place("folder", str(tmp_path / "store"), None, cache)
    server: servers.Server = request.getfixturevalue(request.param)
    prefix = f"{tmp_path.name}-{next(_numbers)}"
    return Place(request.param, server.store_url("tests", prefix), server.options, cache)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    """A place in a folder, for what does not depend on the storage."""
    return Place("folder", str(tmp_path / "store"), None, tmp_path / "cache")


@pytest.fixture
def store(local: Place) -> Iterator[Store]:
    with local.create() as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def events() -> tuple[list[object], Callable[[object], None]]:
    """A list and a callback that appends to it."""
    seen: list[object] = []
    return seen, seen.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines what was not tested because something is not installed."""
    for what, reason in (("MinIO", NO_MINIO), ("Containers", NO_PODMAN)):
        skipped = [
            report
            for report in terminalreporter.stats.get("skipped", [])
            if isinstance(report.longrepr, tuple) and reason in report.longrepr[2]
        ]
        if skipped:
            terminalreporter.section(f"{what} not tested")
            terminalreporter.write_line(f"{len(skipped)} tests skipped: {reason}")
