"""A server or a line that errs is noticed: wrong bytes, wrong ranges, wrong headers, no answer."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.backends import wire
from chunkstore.backends.base import CreateOnly, Overwrite
from chunkstore.backends.location import open_backend
from chunkstore.backends.minio import MinioBackend
from chunkstore.backends.retry import RetryBackend
from chunkstore.errors import (
    BackendError,
    BucketAbsentError,
    CorruptObjectError,
    KeyAbsentError,
    PermissionDeniedError,
    UnavailableError,
)
from chunkstore.testing import servers
from chunkstore.testing.line import Answer, Line, Request, error_answer, line_to
from chunkstore.testing.trees import make_tree

_numbers = itertools.count()
DATA = bytes(range(256)) * 40


@pytest.fixture(params=["seaweedfs", "minio"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """A line to each real server in turn."""
    server: servers.Server = request.getfixturevalue(request.param)
    with line_to(server.port) as opened:
        yield opened


@pytest.fixture
def backend(line: Line) -> Iterator[MinioBackend]:
    with servers.backend_at(line.endpoint, f"bad-{next(_numbers)}") as opened:
        opened.put("key", [DATA], CreateOnly())
        yield opened


def flip(data: bytes) -> bytes:
    """Return `data` with one bit in the middle turned over."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def gets(change: Callable[[Answer], Answer]) -> Callable[[Request, Answer], Answer]:
    """Change the answers to GETs of objects only."""

    def on_answer(request: Request, answer: Answer) -> Answer:
        is_object = request.method == "GET" and not request.is_listing
        return change(answer) if is_object else answer

    return on_answer


# bits that turn over


def test_a_bit_that_turns_over_on_the_way_out_is_noticed(line: Line, tmp_path: Path) -> None:
    """No wrong byte reaches the caller: the read ends with CorruptObjectError naming the object."""
    tree = make_tree(tmp_path / "tree", files=4)
    options = replace(servers.Server("", 0, [], "").options, endpoint=line.endpoint)
    url = f"s3://tests/flip-{next(_numbers)}"
    with Store.create(url, s3=options, cache_folder=tmp_path / "cache") as store:
        store.push(tree, "data")
    for number, kind in enumerate(("config", "refs/", "manifests/", "packs/")):
        out = tmp_path / f"out-{number}"
        line.on_answer = lambda request, answer, kind=kind: (
            replace(answer, body=flip(answer.body))
            if request.method == "GET" and f"/{kind}" in request.path and not request.is_listing
            else answer
        )
        with (
            pytest.raises(CorruptObjectError, match=kind),
            Store.open(url, s3=options, cache_folder=tmp_path / f"empty-{number}") as store,
        ):
            store.pull("data", out)
        for path in (path for path in out.rglob("*") if path.is_file()):
            if ".chunkstore" not in str(path):
                assert path.read_bytes() == (tree / path.relative_to(out)).read_bytes()


# ranges


def test_an_answer_that_is_cut_off(backend: MinioBackend, line: Line) -> None:
    """Fewer bytes than were announced are an error, for a range and for the whole."""
    line.on_answer = gets(
        lambda a: replace(a, body=a.body[: len(a.body) // 2], declared=len(a.body))
    )
    for byte_range in (None, (0, 1000)):
        with pytest.raises(UnavailableError) as caught:
            backend.get("key", byte_range)
        assert caught.value.retryable


@pytest.mark.parametrize("change", [-1, 1, 500])
@pytest.mark.parametrize("stated", [True, False])
def test_a_range_of_another_length(
    backend: MinioBackend, line: Line, change: int, stated: bool
) -> None:
    """Bytes too few or too many for the range are an error, whatever the header says."""

    def other(answer: Answer) -> Answer:
        body = answer.body[:change] if change < 0 else answer.body + b"x" * change
        changed = replace(answer, body=body)
        return changed if stated else changed.without("content-range")

    line.on_answer = gets(other)
    with pytest.raises(UnavailableError, match="asked for 1000 bytes from 5"):
        backend.get("key", (5, 1005))


def test_another_range_than_was_asked_for(backend: MinioBackend, line: Line) -> None:
    """The right number of bytes from another place is an error."""
    line.on_request = lambda request: replace(
        request,
        headers=[
            (name, "bytes=10-1009" if name.lower() == "range" else value)
            for name, value in request.headers
        ],
    )
    with pytest.raises(BackendError):  # a server that checks what was signed refuses it itself
        backend.get("key", (5, 1005))


def test_a_server_that_ignores_ranges(backend: MinioBackend, line: Line) -> None:
    """The whole object with status 200 is not taken for the range, and asking again is no use."""
    line.on_answer = gets(lambda a: replace(a, status=200, body=DATA).without("content-range"))
    with pytest.raises(UnavailableError) as caught:
        backend.get("key", (0, 100))
    assert not caught.value.retryable


def test_the_right_range_with_status_200(backend: MinioBackend, line: Line) -> None:
    """Where the header says which range it is, the status does not matter."""
    line.on_answer = gets(lambda answer: replace(answer, status=200))
    assert backend.get("key", (5, 1005)).data == DATA[5:1005]


# headers


@pytest.mark.parametrize("operation", ["get", "head", "put"])
def test_an_answer_without_a_version(backend: MinioBackend, line: Line, operation: str) -> None:
    """Without an ETag nothing can be replaced safely, so the answer is refused."""
    line.on_answer = lambda _, answer: answer.without("etag")
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: backend.get("key"),
        "head": lambda: backend.head("key"),
        "put": lambda: backend.put("key", [b"x"], Overwrite()),
    }
    with pytest.raises(BackendError, match="lacks a header") as caught:
        calls[operation]()
    assert not caught.value.retryable
    assert caught.value.hint is not None


@pytest.mark.parametrize("header", ["last-modified", "content-length"])
@pytest.mark.parametrize("value", [None, "nonsense"])
def test_a_head_without_what_it_is_for(
    backend: MinioBackend, line: Line, header: str, value: str | None
) -> None:
    """A HEAD whose length or time is missing or none is refused."""
    if (header, value) == ("content-length", None):
        value = "-"
    line.on_answer = lambda _, a: replace(
        a.without(header), headers=a.without(header).headers + ([(header, value)] if value else [])
    )
    with pytest.raises(BackendError):
        backend.head("key")


# what the server says


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (403, "ExpiredToken", PermissionDeniedError, False),
        (400, "ExpiredToken", PermissionDeniedError, False),
        (400, "InvalidToken", PermissionDeniedError, False),
        (403, "RequestTimeTooSkewed", PermissionDeniedError, False),
        (401, "Whatever", PermissionDeniedError, False),
        (404, "NoSuchKey", KeyAbsentError, False),
        (404, "NoSuchBucket", BucketAbsentError, False),
        (400, "BadDigest", UnavailableError, True),
        (400, "RequestTimeout", UnavailableError, True),
        (429, "TooManyRequests", UnavailableError, True),
        (500, "InternalError", UnavailableError, True),
        (503, "SlowDown", UnavailableError, True),
        (501, "NotImplemented", BackendError, False),
        (400, "AuthorizationHeaderMalformed", BackendError, False),
        (301, "PermanentRedirect", BackendError, False),
    ],
)
def test_errors_of_the_server(
    paged: tuple[Line, MinioBackend],
    status: int,
    code: str,
    kind: type[BackendError],
    retryable: bool,
) -> None:
    """Each is of the class that its handler needs, and says what the server said."""
    line, backend = paged
    line.on_request = lambda _: error_answer(status, code)
    with pytest.raises(kind, match=code) as caught:
        backend.get("key")
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert line.endpoint in str(caught.value)
    if kind is PermissionDeniedError:
        assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect"):
        assert "region" in (caught.value.hint or "")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_balancer_that_speaks_html(paged: tuple[Line, MinioBackend], status: int) -> None:
    """An error page of something before the server is waited out."""
    line, backend = paged
    line.on_request = lambda _: Answer(status, [("Content-Type", "text/html")], b"<h1>busy</h1>")
    calls: tuple[Callable[[], object], ...] = (
        lambda: backend.get("key"),
        lambda: backend.head("key"),
        lambda: backend.put("key", [b"x"], Overwrite()),
        lambda: list(backend.list("")),
        lambda: backend.delete(["key"]),
    )
    for call in calls:
        with pytest.raises(UnavailableError) as caught:
            call()
        assert caught.value.retryable


def test_a_deletion_that_fails_for_some(paged: tuple[Line, MinioBackend]) -> None:
    """One key of many that stays is an error which names it; one that was absent is none."""
    line, backend = paged

    def answer(code: str) -> Answer:
        xml = (
            "<DeleteResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Error>"
            f"<Key>pages/b</Key><Code>{code}</Code><Message>no</Message></Error></DeleteResult>"
        )
        return Answer(200, [("Content-Type", "application/xml")], xml.encode())

    for code, kind in (
        ("InternalError", UnavailableError),
        ("AccessDenied", PermissionDeniedError),
        ("InvalidObjectState", BackendError),
    ):
        line.on_request = lambda _, code=code: answer(code)
        with pytest.raises(kind, match=f"delete of b .*{code}") as caught:
            backend.delete(["a", "b"])
        assert type(caught.value) is kind
        assert caught.value.retryable is (kind is UnavailableError)
    line.on_request = lambda _: answer("NoSuchKey")
    backend.delete(["a", "b"])


# no answer


def test_a_server_that_hangs_ends_by_time_out(
    paged: tuple[Line, MinioBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no answer comes, or none goes on, the call ends and may be tried again."""
    line, _ = paged
    monkeypatch.setattr(wire, "_READ_SECONDS", 0.3)
    release = threading.Event()

    def hang(request: Request) -> Request | Answer:
        release.wait(60)
        return error_answer(500, "InternalError")

    line.on_request = hang
    try:
        with servers.backend_at(line.endpoint, "hang") as backend:
            for call in (
                lambda: backend.get("key"),
                lambda: backend.put("k", [b"x"], CreateOnly()),
            ):
                with pytest.raises(UnavailableError, match="timed out") as caught:
                    call()
                assert caught.value.retryable
    finally:
        release.set()


@pytest.mark.parametrize(
    ("deadline", "connect", "read"), [(300, 10, 60), (20, 10, 20), (7, 7, 7), (0, 5, 5)]
)
def test_time_outs_are_not_longer_than_the_deadline(
    deadline: float, connect: float, read: float
) -> None:
    """Who gives a storage little time is not held by one request; slow answers have 5 seconds."""
    options = replace(servers.Server("", 0, [], "").options, endpoint="http://127.0.0.1:9")
    with open_backend("s3://tests/x", s3=options, deadline=deadline) as backend:
        assert isinstance(backend, RetryBackend)
        assert isinstance(backend._inner, MinioBackend)
        timeout = backend._inner._client.pool.connection_pool_kw["timeout"]
        assert (timeout.connect_timeout, timeout.read_timeout) == (connect, read)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_signed_request_goes_nowhere_else(paged: tuple[Line, MinioBackend], status: int) -> None:
    """A redirect is an error: what was signed for one server is not sent to another."""
    line, backend = paged
    with line_to(9) as other:
        other.on_request = lambda _: Answer(200, [("ETag", "x")], b"from elsewhere")
        where = [("Location", f"{other.endpoint}/tests/pages/key")]
        line.on_request = lambda _: Answer(status, where, b"")
        for call in (lambda: backend.get("key"), lambda: backend.put("k", [b"x"], Overwrite())):
            with pytest.raises(BackendError):
                call()
        assert other.seen == []


def test_a_connection_that_ends_without_an_answer(backend: MinioBackend, line: Line) -> None:
    """The effect may have taken place; the call may be tried again."""
    line.on_answer = lambda _request, _answer: None
    with pytest.raises(UnavailableError) as caught:
        backend.put("new", [b"x"], CreateOnly())
    assert caught.value.retryable
    line.clear()
    assert backend.get("new").data == b"x"
