"""Every backend, and every backend around a backend, keeps the one contract."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkstore.backends.base import Backend
from chunkstore.backends.emulated import CheckThenPutBackend
from chunkstore.backends.http import HttpBackend
from chunkstore.backends.local import LocalBackend
from chunkstore.backends.location import (
    HttpLocation,
    S3Location,
    open_backend,
    parse_location,
)
from chunkstore.backends.memory import MemoryBackend
from chunkstore.backends.minio import MinioBackend
from chunkstore.backends.retry import RetryBackend
from chunkstore.testing import servers
from chunkstore.testing.backend_suite import BackendSuite
from chunkstore.testing.backends import CountingBackend, FaultBackend, FaultKind
from tests.wire.object_server import object_server

_numbers = itertools.count()


def bucket_backend(server: servers.Server) -> MinioBackend:
    """Return a backend on an empty prefix of the server's bucket."""
    url = server.store_url("tests", f"suite-{next(_numbers)}/below")
    location = parse_location(url, server.options)
    assert isinstance(location, S3Location)
    return MinioBackend(location)


class TestMemory(BackendSuite):
    """Objects in a dict."""

    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()


class TestLocal(BackendSuite):
    """Files below a folder."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return LocalBackend(tmp_path / "root")


class TestSeaweedFS(BackendSuite):
    """A bucket of SeaweedFS, without retries. Its racing writers wait whole seconds at times."""

    rounds = 2

    @pytest.fixture
    def backend(self, seaweedfs: servers.Server) -> Iterator[Backend]:
        with bucket_backend(seaweedfs) as opened:
            yield opened


class TestMinIO(BackendSuite):
    """A bucket of the real MinIO, without retries."""

    @pytest.fixture
    def backend(self, minio: servers.Server) -> Iterator[Backend]:
        with bucket_backend(minio) as opened:
            yield opened


class TestAsOpened(BackendSuite):
    """What `open_backend` gives for an S3 address: MinIO behind retries."""

    many = 20

    @pytest.fixture
    def backend(self, minio: servers.Server) -> Iterator[Backend]:
        url = minio.store_url("tests", f"opened-{next(_numbers)}")
        with open_backend(url, s3=minio.options, deadline=60) as opened:
            yield opened


class TestHttp(BackendSuite):
    """Objects over the wire of the chunk protocol, without retries."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with object_server(MemoryBackend()) as server:
            location = parse_location(server.address)
            assert isinstance(location, HttpLocation)
            with HttpBackend(location) as opened:
                yield opened


class TestCounting(BackendSuite):
    """Counting changes nothing of what is counted."""

    @pytest.fixture
    def backend(self) -> Backend:
        return CountingBackend(MemoryBackend())


class TestCheckThenPut(BackendSuite):
    """Looking first is right for one writer at a time, and does not keep two apart."""

    many_writers = False

    @pytest.fixture
    def backend(self) -> Backend:
        return CheckThenPutBackend(MemoryBackend())


def retrying(kind: FaultKind, methods: tuple[str, ...]) -> Backend:
    """Return a memory of whose calls every third fails, behind retries that do not wait."""
    faulty = FaultBackend(MemoryBackend(), at=range(1, 60_000, 3), kind=kind, methods=methods)
    return RetryBackend(faulty, sleep=lambda _: None)


class TestRetryOverCallsThatFail(BackendSuite):
    """Calls without effect are made good whatever they were."""

    @pytest.fixture
    def backend(self) -> Backend:
        return retrying("before", ("get", "put", "head", "list", "delete"))


class TestRetryOverLostAnswers(BackendSuite):
    """Answers lost after the effect; of a conditional put only its caller can know (test_retry)."""

    @pytest.fixture
    def backend(self) -> Backend:
        return retrying("after", ("get", "head", "list", "delete"))


class TestRetryOverTornCalls(BackendSuite):
    """Listings that break off in the middle and deletions that are half done."""

    @pytest.fixture
    def backend(self) -> Backend:
        return retrying("torn", ("get", "head", "list", "delete"))
