"""A listing comes in pages: one that errs, ends early or goes in a ring is noticed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from chunkstore.backends.minio import MinioBackend
from chunkstore.errors import BackendError, UnavailableError
from chunkstore.testing.line import Answer, Line, Request, error_answer


def pages(change: Callable[[Request, bytes], bytes]) -> Callable[[Request, Answer], Answer]:
    """Change the XML of listings only."""

    def on_answer(request: Request, answer: Answer) -> Answer:
        if not request.is_listing:
            return answer
        return replace(answer, body=change(request, answer.body))

    return on_answer


def small_pages(request: Request) -> Request | Answer:
    """Answer listings with three pages of one key each, in the server's place."""
    if not request.is_listing:
        return request
    found = re.search("continuation-token=([0-9]+)", request.path)
    return page_of(request, int(found[1]) if found else 0)


def page_of(request: Request, number: int, *, key: str | None = None, after: str = "") -> Answer:
    """Return the page with one key; `after` says what comes next, "" the next page."""
    prefix = re.search("[?&]prefix=([^&]*)", request.path)
    assert prefix is not None
    root = prefix[1].replace("%2F", "/")
    name = f"{root}{key or f'k{number}'}"
    token = after or str(number + 1)
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token != "none" else ""
    xml = (
        "<?xml version='1.0' encoding='UTF-8'?>"
        "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<Name>tests</Name><IsTruncated>{'true' if number < 2 else 'false'}</IsTruncated>"
        f"<Contents><Key>{name}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;e{number}&quot;</ETag><Size>{number}</Size></Contents>"
        f"{more if number < 2 else ''}</ListBucketResult>"
    )
    return Answer(200, [("Content-Type", "application/xml")], xml.encode())


def test_pages_are_joined(paged: tuple[Line, MinioBackend]) -> None:
    """Each page is asked for by the token of the one before."""
    line, backend = paged
    line.on_request = small_pages
    assert [info.key for info in backend.list("")] == ["k0", "k1", "k2"]
    assert len(line.seen) == 3


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("repeats a token", {"after": "1"}),
        ("has no token", {"after": "none"}),
        ("loses the order", {"key": "a"}),
        ("repeats a key", {"key": "k0"}),
    ],
)
def test_a_page_that_cannot_be_right(
    paged: tuple[Line, MinioBackend], fault: str, how: dict[str, str]
) -> None:
    """A second page that leads nowhere, or repeats, is an error and never the end of a listing."""
    line, backend = paged

    def on_request(request: Request) -> Request | Answer:
        if "continuation-token" not in request.path:
            return page_of(request, 0)
        return page_of(request, 1, **how)

    line.on_request = on_request
    listing = backend.list("")
    assert next(listing).key == "k0"
    with pytest.raises(UnavailableError) as caught:
        list(listing)
    assert not caught.value.retryable
    assert len(line.seen) <= 3  # the SDK tries the last key where a token is missing


def test_a_key_outside_the_prefix(paged: tuple[Line, MinioBackend]) -> None:
    """What was not asked for is an error."""
    line, backend = paged
    line.on_request = lambda request: page_of(request, 2, key="ok")
    assert [info.key for info in backend.list("")] == ["ok"]
    line.on_answer = pages(lambda _, body: body.replace(b"pages/ok", b"elsewhere/ok"))
    with pytest.raises(UnavailableError):
        list(backend.list(""))


@pytest.mark.parametrize(
    "body",
    [b"", b"<html><body>login</body></html>", b"<ListBucketResult><Conten", b"\xff\xfe", b"{}"],
)
def test_a_page_that_is_none(paged: tuple[Line, MinioBackend], body: bytes) -> None:
    """An answer with status 200 that is no page of a listing is an error, never an empty one."""
    line, backend = paged
    line.on_request = lambda _: Answer(200, [("Content-Type", "application/xml")], body)
    with pytest.raises(BackendError):
        list(backend.list(""))


def test_a_page_that_failed_is_asked_for_again(paged: tuple[Line, MinioBackend]) -> None:
    """After a failure the listing goes on with that page and not from the start."""
    line, backend = paged
    failed: list[str] = []

    def on_request(request: Request) -> Request | Answer:
        if "continuation-token=1" in request.path and not failed:
            failed.append(request.path)
            return error_answer(503, "SlowDown")
        return small_pages(request)

    line.on_request = on_request
    listing = backend.list("")
    assert next(listing).key == "k0"
    with pytest.raises(UnavailableError) as caught:
        next(listing)
    assert caught.value.retryable
    assert [info.key for info in listing] == ["k1", "k2"]
    assert len(line.seen) == 4
