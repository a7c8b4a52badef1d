"""What the tests of the wire share: a server of objects in memory, and backends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chunkstore import HttpOptions
from chunkstore.backends.http import HttpBackend
from chunkstore.backends.location import HttpLocation, parse_location
from chunkstore.backends.memory import MemoryBackend
from tests.wire.object_server import ObjectServer, object_server

Opened = Callable[..., HttpBackend]


def backend_at(url: str, **options: str) -> HttpBackend:
    """Return a backend, without retries, on the server at an address."""
    location = parse_location(url, http=HttpOptions(**options))
    assert isinstance(location, HttpLocation)
    return HttpBackend(location, patience=5)


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with object_server(MemoryBackend()) as running:
        yield running


@pytest.fixture
def backend(server: ObjectServer) -> Iterator[HttpBackend]:
    with backend_at(server.address) as opened:
        yield opened
