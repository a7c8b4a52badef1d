"""The S3 server that the pages speak to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from chunkstore import Credentials, S3Options
from chunkstore.backends.location import open_backend
from chunkstore.testing import servers

KEY = "minioadmin"
"""Access and secret key that the pages use, those of a MinIO that was just installed."""

BUCKET = "datasets"


@pytest.fixture(scope="session")
def documented_server() -> Iterator[servers.Server]:
    """The real MinIO where it was built, else SeaweedFS, with the keys of the pages."""
    start = servers.minio if servers.minio_program() else servers.seaweedfs
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(servers, "ACCESS_KEY", KEY)
            patch.setattr(servers, "SECRET_KEY", KEY)
            server = stack.enter_context(start())
            server.make_bucket(BUCKET)
        yield server


@pytest.fixture
def endpoint(documented_server: servers.Server) -> str:
    """The address of the server, whose bucket is empty."""
    address = documented_server.endpoint
    options = S3Options(endpoint=address, region="us-east-1", credentials=Credentials(KEY, KEY))
    backend = open_backend(f"s3://{BUCKET}", s3=options)
    with contextlib.closing(backend):
        backend.delete([item.key for item in backend.list("")])
    return address
