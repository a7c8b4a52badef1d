"""What a client makes of bad answers: each becomes an error of its kind, within bounds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chunkstore.backends.base import CreateOnly, ReplaceIf
from chunkstore.backends.http import HttpBackend
from chunkstore.backends.location import HttpLocation, parse_location
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    KeyAbsentError,
    PermissionDeniedError,
    StorageFullError,
    UnavailableError,
)
from chunkstore.testing.line import Answer, Line, Request, line_to
from tests.wire.conftest import backend_at
from tests.wire.object_server import ObjectServer

PROBLEM = [("Content-Type", "application/problem+json")]
JSON = [("Content-Type", "application/json")]


def problem(status: int, code: str, **more: Any) -> Answer:
    document = {"status": status, "code": code, "detail": "on purpose", "hint": None, **more}
    return Answer(status, PROBLEM, json.dumps(document).encode())


@pytest.fixture
def line(server: ObjectServer) -> Iterator[Line]:
    """A line to the server on which a test answers in its place."""
    with line_to(server.server_address[1]) as running:
        yield running


@pytest.fixture
def backend(line: Line) -> Iterator[HttpBackend]:
    with backend_at(line.endpoint) as opened:
        yield opened


def answering(line: Line, answer: Answer) -> None:
    """Let every request be answered so."""
    line.on_request = lambda _: answer


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (problem(404, "key_absent"), KeyAbsentError, False),
        (problem(404, "not_found"), BackendError, False),
        (Answer(404, [], b"<html>not here</html>"), BackendError, False),
        (Answer(200, [("Content-Type", "text/html")], b"<html>"), UnavailableError, False),
        (problem(401, "unauthorized"), PermissionDeniedError, False),
        (problem(403, "forbidden"), PermissionDeniedError, False),
        (Answer(403, [], b"<html>captive portal"), BackendError, False),
        (problem(412, "condition_failed"), ConditionFailedError, False),
        (problem(507, "storage_full"), StorageFullError, False),
        (problem(400, "invalid_input"), BackendError, False),
        (problem(413, "too_large"), BackendError, False),
        (problem(429, "too_many"), UnavailableError, True),
        (problem(503, "busy"), UnavailableError, True),
        (problem(503, "unavailable"), UnavailableError, True),
        (problem(502, "permission_denied"), BackendError, False),
        (problem(502, "backend"), UnavailableError, True),
        (problem(500, "bug"), BackendError, False),
        (problem(500, "corrupt_object"), BackendError, False),
        (Answer(502, [], b"<html>Bad Gateway"), UnavailableError, True),
        (Answer(504, [], b""), UnavailableError, True),
        (problem(416, "range"), UnavailableError, False),
        (Answer(302, [("Location", "http://127.0.0.1:1/")], b""), BackendError, False),
        (Answer(307, [("Location", "http://127.0.0.1:1/")], b""), BackendError, False),
        (Answer(500, PROBLEM, b"[" * 60_000), UnavailableError, True),
        (Answer(400, PROBLEM, b"\xff\xfe"), BackendError, False),
        (Answer(400, PROBLEM, b'{"detail": ["no text"], "code": 5}'), BackendError, False),
    ],
)
def test_failures(
    line: Line, backend: HttpBackend, answer: Answer, kind: type[BackendError], retryable: bool
) -> None:
    """Each status and code is one kind of error, which names operation, key and address."""
    answering(line, answer)
    with pytest.raises(BackendError) as caught:
        backend.get("some/key")
    error = caught.value
    assert (type(error), error.retryable) == (kind, retryable)
    assert (error.operation, error.key) == ("get", "some/key")
    assert line.endpoint in error.message


def test_what_a_server_says_is_fit_to_be_printed(line: Line, backend: HttpBackend) -> None:
    """Words of a server come without control characters, and not at any length."""
    answering(line, problem(400, "bad\x1b[2J", detail="x\n\x07" + "y" * 100_00, hint="\x1b]0;h"))
    with pytest.raises(BackendError) as caught:
        backend.get("key")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000
    assert caught.value.hint is not None
    assert caught.value.hint.isprintable()


def test_a_server_says_how_long_to_wait(line: Line, backend: HttpBackend) -> None:
    """Retry-After is told; what is none is passed over."""
    for text, wait in (("7", 7.0), ("-1", None), ("soon", None), ("9" * 400, None)):
        answer = problem(503, "busy")
        answering(line, Answer(503, [*answer.headers, ("Retry-After", text)], answer.body))
        with pytest.raises(UnavailableError) as caught:
            backend.get("key")
        assert caught.value.wait == wait


TAG = [("ETag", '"1"')]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, TAG, b"half", declared=8),
        Answer(206, [*TAG, ("Content-Range", "bytes 1-3/8")], b"two"),
        Answer(206, [*TAG, ("Content-Range", "bytes 0-3/8")], b"two"),
        Answer(206, TAG, b"two"),
        Answer(200, TAG, b"12345678"),
        Answer(206, TAG, b"12345678"),
        Answer(206, [("Content-Range", "bytes 0-3/8")], b"four"),
        Answer(206, [("ETag", "no quotes"), ("Content-Range", "bytes 0-3/8")], b"four"),
        Answer(206, [("ETag", '""'), ("Content-Range", "bytes 0-3/8")], b"four"),
        Answer(206, [("ETag", '"a"b"'), ("Content-Range", "bytes 0-3/8")], b"four"),
        Answer(206, [("ETag", f'"{"x" * 300}"'), ("Content-Range", "bytes 0-3/8")], b"four"),
        Answer(
            206,
            [*TAG, ("Content-Range", "bytes 0-3/8"), ("Content-Encoding", "gzip")],
            b"four",
        ),
    ],
)
def test_a_range_is_exact(line: Line, backend: HttpBackend, answer: Answer) -> None:
    """An answer that is not the range that was asked for is no answer."""
    answering(line, answer)
    with pytest.raises(UnavailableError):
        backend.get("key", (0, 4))


def test_lengths_are_bounded(line: Line, backend: HttpBackend) -> None:
    """An answer that says that it is too long is refused before it is read."""
    for length in (1 << 31, 10**18, 10**30):
        answering(line, Answer(200, TAG, b"", declared=length))
        with pytest.raises(UnavailableError) as caught:
            backend.get("key")
        assert not caught.value.retryable


def item(key: str, **more: object) -> dict[str, object]:
    return {"key": key, "length": 1, "version": "1", "modified": 1.5, **more}


PAGES: dict[str, object] = {
    "no list": {"next": None},
    "another list": {"objects": {"a": 1}, "next": None},
    "too many": {"objects": [item(f"a/{n:05}") for n in range(1001)], "next": None},
    "no object": {"objects": ["a/1"], "next": None},
    "another prefix": {"objects": [item("b/1")], "next": None},
    "not in order": {"objects": [item("a/2"), item("a/1")], "next": None},
    "twice": {"objects": [item("a/1"), item("a/1")], "next": None},
    "a key that is none": {"objects": [item("a/../1")], "next": None},
    "a key with a line feed": {"objects": [item("a/1\n")], "next": None},
    "a key of another type": {"objects": [item(5)], "next": None},  # type: ignore[arg-type]  # on purpose
    "a negative length": {"objects": [item("a/1", length=-1)], "next": None},
    "a huge length": {"objects": [item("a/1", length=1 << 70)], "next": None},
    "a length that is none": {"objects": [item("a/1", length=True)], "next": None},
    "no length": {"objects": [item("a/1", length=None)], "next": None},
    "a bad version": {"objects": [item("a/1", version='"')], "next": None},
    "no version": {"objects": [item("a/1", version=7)], "next": None},
    "a huge time": {"objects": [item("a/1", modified=10**400)], "next": None},
    "no time": {"objects": [item("a/1", modified="now")], "next": None},
    "leads back": {"objects": [item("a/1")], "next": "a/0"},
    "leads nowhere": {"objects": [item("a/1")], "next": 7},
    "leads to itself": {"objects": [], "next": ""},
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_checked(line: Line, backend: HttpBackend, name: str) -> None:
    """A page of a listing that cannot be one is an error, never a shorter listing."""
    answering(line, Answer(200, JSON, json.dumps(PAGES[name]).encode()))
    with pytest.raises(UnavailableError) as caught:
        list(backend.list("a/"))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nonsense", b'{"objects": [NaN]}', b"[" * 1_000_000, b'{"a": 1' + b"0" * 9000],
)
def test_what_is_no_document(line: Line, backend: HttpBackend, body: bytes) -> None:
    """What is no JSON object is refused, however deep or long it is."""
    answering(line, Answer(200, JSON, body))
    with pytest.raises(UnavailableError):
        list(backend.list(""))
    with pytest.raises(UnavailableError):
        backend.access()


def test_a_long_document_is_not_read(line: Line, backend: HttpBackend) -> None:
    """A document that is longer than any page can be is refused."""
    answering(line, Answer(200, JSON, b" " * (4 << 20) + b'{"objects": [], "next": null}'))
    with pytest.raises(UnavailableError):
        list(backend.list(""))


@pytest.mark.parametrize(
    "said",
    [
        {"protocol": 2},
        {"protocol": "1"},
        {"right": "all"},
        {"right": None},
        {"everywhere": 1},
        {"server": 5},
        {"datasets": "team/*"},
        {"datasets": [1]},
    ],
)
def test_what_a_server_says_of_itself(
    server: ObjectServer, line: Line, backend: HttpBackend, said: dict[str, object]
) -> None:
    """A server that does not say what is allowed, or speaks another protocol, is not used."""
    answering(line, Answer(200, JSON, json.dumps(server.info | said).encode()))
    with pytest.raises(BackendError) as caught:
        backend.access()
    assert not caught.value.retryable


def test_refused_writes(line: Line, backend: HttpBackend) -> None:
    """Conditions that do not hold, and absent keys of replacements, are ConditionFailedErrors."""
    calls: list[Callable[[], object]] = [
        lambda: backend.put("key", [b"x"], CreateOnly()),
        lambda: backend.put("key", [b"x"], ReplaceIf("1")),
    ]
    answering(line, problem(412, "condition_failed"))
    for call in calls:
        with pytest.raises(ConditionFailedError):
            call()
    answering(line, problem(404, "key_absent"))
    with pytest.raises(ConditionFailedError):
        calls[1]()


def test_no_server_at_all(backend: HttpBackend) -> None:
    """An address where nobody listens is unavailable, and may be tried again."""
    for address, why in (
        ("http://127.0.0.1:1", "no connection: Connection refused"),
        ("http://nobody.invalid", "nobody knows that host name"),
    ):
        with backend_at(address) as nobody, pytest.raises(UnavailableError) as caught:
            nobody.get("config")
        assert caught.value.retryable
        assert caught.value.message == f"get of config at {address}: {why}"


def test_a_server_that_breaks_off(line: Line, backend: HttpBackend) -> None:
    """A connection that ends before the answer does is said to be cut, and may be tried again."""
    line.on_answer = lambda *_: None
    with pytest.raises(UnavailableError) as caught:
        backend.get("config")
    assert caught.value.retryable
    assert caught.value.message.endswith("the connection was cut")


def test_closing_ends_what_is_under_way(line: Line) -> None:
    """Who waits for an answer while the backend is closed by another thread waits no longer."""
    asked, end = threading.Event(), threading.Event()

    def answer(request: Request) -> Request:
        asked.set()
        end.wait()
        return request

    line.on_request = answer
    location = parse_location(line.endpoint)
    assert isinstance(location, HttpLocation)
    with ThreadPoolExecutor(1) as pool, HttpBackend(location) as backend:
        waiting = pool.submit(backend.get, "config")
        asked.wait()
        backend.close()
        error = waiting.exception()
        end.set()
    assert isinstance(error, UnavailableError)
    assert error.message.endswith("the connection was cut")


def test_an_s3_server_is_no_chunkstore_server(line: Line, backend: HttpBackend) -> None:
    """Who writes the address of an S3 server is told how those are written."""
    answering(line, Answer(400, [("Content-Type", "application/xml")], b"<Error/>"))
    with pytest.raises(BackendError) as caught:
        backend.get("config")
    assert "s3://bucket" in (caught.value.hint or "")
