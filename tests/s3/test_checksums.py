"""The bytes of a put: a server that gets others refuses them, and what it can tell that by."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from chunkstore.backends.base import CreateOnly, Overwrite, ReplaceIf
from chunkstore.errors import KeyAbsentError, UnavailableError
from chunkstore.testing import servers
from chunkstore.testing.line import Answer, Line, Request, line_to

_numbers = itertools.count()


@pytest.fixture(params=["seaweedfs", "minio"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """A line to each real server in turn."""
    server: servers.Server = request.getfixturevalue(request.param)
    with line_to(server.port) as opened:
        yield opened


def flip(data: bytes) -> bytes:
    """Return `data` with one bit in the middle turned over."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("size", [1, 10_000, 3_000_000])
def test_a_bit_that_turns_over_on_the_way_in_is_refused(line: Line, size: int) -> None:
    """The server stores nothing, says so, and the same bytes may be sent again."""
    with servers.backend_at(line.endpoint, f"sums-{next(_numbers)}") as backend:
        backend.put("first", [b"bytes"], CreateOnly())
        line.on_request = lambda request: (
            replace(request, body=flip(request.body)) if request.method == "PUT" else request
        )
        with pytest.raises(UnavailableError) as caught:
            backend.put("new", [b"x" * size], CreateOnly())
        assert caught.value.retryable
        line.clear()
        with pytest.raises(KeyAbsentError):
            backend.head("new")
        backend.put("new", [b"x" * size], CreateOnly())
        assert backend.get("new").data == b"x" * size


def test_every_put_carries_a_checksum_of_its_bytes(line: Line) -> None:
    """Any server that checks either of two checksums refuses damage; both are on short puts."""
    with servers.backend_at(line.endpoint, f"sums-{next(_numbers)}") as backend:
        backend.put("a", [b"bytes"], Overwrite())
        backend.put("b", [], CreateOnly())
    for request in [r for r in line.seen if r.method == "PUT"]:
        names = {name.lower(): value for name, value in request.headers}
        assert names["x-amz-checksum-crc32"]
        assert re.fullmatch("[0-9a-f]{64}", names["x-amz-content-sha256"])


@pytest.mark.parametrize("told", [None, "AAAAAA=="])
def test_long_bodies_are_signed_until_the_server_tells_their_crc32(
    line: Line, told: str | None
) -> None:
    """A server that tells no CRC-32, or another one, has not checked ours.

    A short body is always signed, and so is one that replaces another.
    """

    def on_answer(_: Request, answer: Answer) -> Answer:
        headers = [] if told is None else [("x-amz-checksum-crc32", told)]
        bare = answer.without("x-amz-checksum-crc32")
        return replace(bare, headers=[*bare.headers, *headers])

    with servers.backend_at(line.endpoint, f"sums-{next(_numbers)}") as backend:
        line.on_answer = on_answer
        for key in ("a", "b"):
            backend.put(key, [b"x" * (1 << 20)], CreateOnly())
        line.clear()
        for key, size in (("c", 1), ("d", 1 << 20), ("e", (1 << 20) - 1)):
            version = backend.put(key, [b"x" * size], CreateOnly())
        backend.put("e", [b"y" * (1 << 20)], ReplaceIf(version))
        backend.put("e", [b"z" * (1 << 20)], Overwrite())
    sums = [dict(request.headers)["x-amz-content-sha256"] for request in line.seen]
    signed = [re.fullmatch("[0-9a-f]{64}", value) is not None for value in sums]
    assert signed == [True, True, True, False, True, True, True]
    assert sums[3] == "UNSIGNED-PAYLOAD"
