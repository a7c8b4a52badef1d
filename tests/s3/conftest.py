"""What the tests of S3 share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chunkstore.backends.minio import MinioBackend
from chunkstore.testing import servers
from chunkstore.testing.line import Line, line_to


@pytest.fixture
def paged() -> Iterator[tuple[Line, MinioBackend]]:
    """A line without a server: a test answers in its place."""
    with line_to(9) as line, servers.backend_at(line.endpoint, "pages") as backend:
        yield line, backend
