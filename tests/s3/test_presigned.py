"""Presigned requests on real servers: what was signed goes, anything else does not."""

from __future__ import annotations

import base64
import itertools
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import pytest

from chunkstore.backends.base import CreateOnly, Presigned
from chunkstore.backends.credentials import Credentials
from chunkstore.backends.minio import MinioBackend
from chunkstore.backends.presigning import presigned
from chunkstore.testing import servers

DATA = bytes(range(256)) * 8
KEY = "packs/ab/pack"

_numbers = itertools.count()


@pytest.fixture(params=["seaweedfs", "minio"])
def backend(request: pytest.FixtureRequest) -> Iterator[MinioBackend]:
    """An empty place on each real server in turn."""
    server: servers.Server = request.getfixturevalue(request.param)
    with servers.backend_at(server.endpoint, f"presigned~{next(_numbers)}") as found:
        yield found


def get(signed: Presigned | None, **headers: str) -> httpx.Response:
    """Send a presigned GET, with other headers where some are given."""
    assert signed is not None
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(signed.url, headers={"Accept-Encoding": "identity", **signed.headers, **given})


def put(signed: Presigned | None, data: bytes, **changed: str | None) -> httpx.Response:
    """Send a presigned PUT, with headers changed or, for None, left out."""
    assert signed is not None
    headers: dict[str, str | None] = {**signed.headers}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    sent = {name: value for name, value in headers.items() if value is not None}
    return httpx.put(signed.url, content=data, headers=sent)


def test_a_range_is_read_by_its_url(backend: MinioBackend) -> None:
    """The signed range comes with 206; another, none, or a longer one is refused with 403."""
    backend.put(KEY, [DATA], CreateOnly())
    signed = backend.presigned_get(KEY, (10, 300), 60)
    answer = get(signed)
    assert (answer.status_code, answer.content) == (206, DATA[10:300])
    for other in ("bytes=10-300", "bytes=9-299", "bytes=0-", "bytes=10-299,400-500"):
        assert get(signed, range=other).status_code == 403
    assert signed is not None
    assert httpx.get(signed.url).status_code in (400, 403)


def test_an_altered_url_opens_nothing(backend: MinioBackend) -> None:
    """Another key, method, end, list of headers or signature: 403."""
    backend.put(KEY, [DATA], CreateOnly())
    backend.put("packs/ab/other", [DATA], CreateOnly())
    signed = backend.presigned_get(KEY, (0, 10), 60)
    assert signed is not None
    for before, after in (
        ("/packs/ab/pack", "/packs/ab/other"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("host%3Brange", "host"),
        (signed.url[-8:], "00000000"),
    ):
        assert before in signed.url
        url = signed.url.replace(before, after)
        assert httpx.get(url, headers=signed.headers).status_code in (400, 403), after
    assert httpx.put(signed.url, content=b"x", headers=signed.headers).status_code == 403
    assert httpx.delete(signed.url, headers=signed.headers).status_code == 403
    assert backend.get(KEY).data == DATA


def test_a_url_ends(backend: MinioBackend) -> None:
    """After its seconds a URL is refused."""
    backend.put(KEY, [DATA], CreateOnly())
    url = urllib.parse.urlsplit(backend.presigned_get(KEY, (0, 10), 60).url)  # type: ignore[union-attr]  # it is one
    old = presigned(
        "GET",
        url._replace(query=""),
        {"range": "bytes=0-9"},
        credentials=Credentials(servers.ACCESS_KEY, servers.SECRET_KEY),
        region="us-east-1",
        now=datetime.fromtimestamp(datetime.now(UTC).timestamp() - 3600, UTC),
        seconds=900,
    )
    assert httpx.get(old, headers={"Range": "bytes=0-9"}).status_code == 403


def test_bytes_are_put_once_and_only_those(backend: MinioBackend) -> None:
    """The signed bytes are stored once; others, a longer body or no condition are refused."""
    signed = backend.presigned_put(KEY, len(DATA), sha256(DATA).hexdigest(), 60)
    wrong = bytes(len(DATA))
    assert put(signed, wrong).status_code == 400
    for data, changed in (
        (DATA + b"x", {"content_length": str(len(DATA) + 1)}),
        (DATA, {"if_none_match": None}),
        (wrong, {"x_amz_content_sha256": "UNSIGNED-PAYLOAD"}),
        (wrong, {"x_amz_checksum_sha256": base64.b64encode(sha256(wrong).digest()).decode()}),
        (wrong, {"x_amz_content_sha256": "UNSIGNED-PAYLOAD", "x_amz_checksum_sha256": None}),
    ):
        assert put(signed, data, **changed).status_code in (400, 403), changed  # type: ignore[arg-type]  # as declared
    assert list(backend.list("")) == []
    assert put(signed, DATA).status_code == 200
    assert put(signed, DATA).status_code == 412
    assert backend.get(KEY).data == DATA
