"""What arrives on a line that no client of ours would send, and lines on which nothing moves."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunkstore_api.bounds import PATIENCE
from chunkstore_api.connection import LONGEST_HEAD
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import Store
from tests.api.conftest import FILES, Served, serving

IDLE = 0.4
HOST = b"Host: 127.0.0.1\r\n"
PUT = b"PUT " + FILES.encode() + b"/%b HTTP/1.1\r\n" + HOST
GET = b"GET /healthz HTTP/1.1\r\n" + HOST


@contextlib.contextmanager
def line(served: Served) -> Iterator[socket.socket]:
    """Open a connection to a server."""
    host, _, port = served.address.rpartition("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as found:
        yield found


def answer(found: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := found.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def exchange(served: Served, *parts: bytes) -> bytes:
    """Send something on a new connection; return all that comes until the server closes."""
    with line(served) as found:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                found.sendall(part)
        return answer(found)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server to which nobody of this module puts a file."""
    folder = tmp_path_factory.mktemp("strict")
    with (
        Store.create(str(folder / "store"), cache_folder=folder / "cache") as store,
        serving(store) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that waits for nobody, so that every line ends soon."""
    folder = tmp_path_factory.mktemp("hasty")
    with (
        Store.create(str(folder / "store"), cache_folder=folder / "cache") as store,
        serving(store, idle=IDLE) as running,
    ):
        yield running


CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSED = {
    "two lengths": PUT % b"x" + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length twice": PUT % b"x" + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length and chunks": PUT % b"x" + CHUNKED + b"Content-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunks and length": PUT % b"x" + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "length with a sign": PUT % b"x" + b"Content-Length: +3\r\n\r\nabc",
    "other coding": PUT % b"x" + b"Transfer-Encoding: xchunked\r\n\r\nabc",
    "two codings": PUT % b"x" + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding twice": PUT % b"x" + CHUNKED * 2 + b"\r\n0\r\n\r\n",
    "coding hidden": PUT % b"x" + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": (PUT % b"x").replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "chunk size with a sign": PUT % b"x" + CHUNKED + b"\r\n-1\r\nabc\r\n0\r\n\r\n",
    "chunk size too large": PUT % b"x" + CHUNKED + b"\r\nfffffffffffffffff\r\nabc",
    "chunk size too small": PUT % b"x" + CHUNKED + b"\r\n2\r\nabc\r\n0\r\n\r\n",
    "chunk size of no digits": PUT % b"x" + CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "line folded": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "space before colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n",
    "no line ends": b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n",
    "nul in a header": GET + b"X: a\x00b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": GET + HOST + b"\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "text": b"EHLO example.org\r\n",
    "a URL of no characters": b"GET /\xff\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(strict: Served, name: str) -> None:
    """A request whose end two servers could see in two places gets 400 and the line is closed."""
    behind = b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Behind: 1\r\n\r\n"
    found = exchange(strict, REFUSED[name] + behind)
    assert found.startswith(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"), found
    assert len(re.findall(rb"HTTP/1.1 \d", found)) == 1, found
    assert b"application/problem+json" in found
    assert strict.store.datasets() == []


def test_an_upgrade_is_not_taken_and_the_body_is(served: Served) -> None:
    """A request that offers another protocol is served whole, as if it had not."""
    head = (
        PUT % b"a" + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
    )
    for number, body in enumerate(
        (b"Content-Length: 6\r\n\r\nmiaow\n", CHUNKED + b"\r\n6\r\nmiaow\n\r\n0\r\n\r\n")
    ):
        end = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
        whole = head + b"X: %d\r\n" % number + body + end
        for cut in (len(whole), 1, len(head) + 3, len(whole) - len(end) - 2):
            found = exchange(served, whole[:cut], whole[cut:])
            assert found.count(b"HTTP/1.1 200 OK") + found.count(b"HTTP/1.1 201 Created") == 2, (
                found
            )
            assert served.file("a").content == b"miaow\n"
    assert len(served.store.dataset("pets").versions) == 1


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"a" * LONGEST_HEAD + b"\r\n\r\n",
        GET + b"X: a\r\n" * (LONGEST_HEAD // 6) + b"\r\n",
        GET + b"X: " + b"a" * 10 * LONGEST_HEAD,
        b"GET /" + b"a" * LONGEST_HEAD + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\r\n" * LONGEST_HEAD,
        PUT % b"x" + CHUNKED + b"\r\n1\r\na\r\n0\r\n" + b"X: a\r\n" * 4 * LONGEST_HEAD,
        PUT % b"x" + CHUNKED + b"\r\n1;" + b"a" * 20 * LONGEST_HEAD,
    ],
    ids=["value", "many", "endless", "url", "nothing", "trailers", "extension"],
)
def test_longest_head(strict: Served, head: bytes) -> None:
    """What is no body and over LONGEST_HEAD gets 431 as it comes; a little less is served."""
    found = exchange(strict, *(head[at : at + 1000] for at in range(0, len(head), 1000)))
    assert found.startswith(b"HTTP/1.1 431 "), found
    assert b'"code":"too_large"' in found
    fits = GET + b"X: " + b"a" * (LONGEST_HEAD - 100) + b"\r\nConnection: close\r\n\r\n"
    assert exchange(strict, fits).startswith(b"HTTP/1.1 200 ")
    assert strict.store.datasets() == []


def test_headers_behind_a_body_are_left_out(served: Served) -> None:
    """Trailers change nothing of a request that is served already."""
    body = b"\r\n3\r\nabc\r\n0\r\nIf-Match: x\r\nHost: evil.example\r\n\r\n"
    end = GET + b"Connection: close\r\n\r\n"
    found = exchange(served, PUT % b"a" + CHUNKED + body + end)
    assert found.count(b"HTTP/1.1 20") == 2, found
    assert served.file("a").content == b"abc"


def test_who_gives_no_whole_head_is_cut_off(hasty: Served) -> None:
    """A line on which no request comes, or one bit by bit, is closed; that costs nobody else."""
    assert exchange(hasty, b"") == b""
    assert exchange(hasty, b"GET / HTTP/1.1\r\nHo").startswith(b"HTTP/1.1 408 ")
    with line(hasty) as found:
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                found.sendall(b"GET / HTTP/1.1\r\nX: ")
                while not stop.wait(IDLE / 8):
                    found.sendall(b"a")

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert hasty.client.get("/healthz").status_code == 200
        assert answer(found).startswith(b"HTTP/1.1 408 ")
        stop.set()
        dripping.join()


def test_who_gives_no_whole_document_is_cut_off(hasty: Served) -> None:
    """A JSON body bit by bit gets 408 once it took too long."""
    head = b"PUT /v1/datasets/pets/tags/a HTTP/1.1\r\n" + HOST + b"Content-Length: 99\r\n\r\n"
    assert PATIENCE * IDLE < 30
    assert exchange(hasty, head, b"{").startswith(b"HTTP/1.1 408 ")


def test_who_goes_on_after_an_early_answer_is_cut_off(hasty: Served) -> None:
    """A body that nobody wants is not read for ever."""
    head = PUT % b"a" + b"Content-Range: bytes 0-1/2\r\n" + CHUNKED + b"\r\n"
    with line(hasty) as found:
        found.sendall(head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                found.sendall(b"1\r\na\r\n")
        assert b"HTTP/1.1 400 " in answer(found)


def test_who_wants_to_close_sees_an_early_answer(served: Served) -> None:
    """A line that is to be closed takes the rest of a body that nobody wants, and is not reset."""
    body = bytes(8 << 20)
    head = PUT % b"a" + b"Content-Range: bytes 0-1/2\r\nContent-Length: %d\r\n" % len(body)
    with line(served) as found:
        found.sendall(head + b"Connection: close\r\n\r\n")
        early = found.recv(1 << 16)
        assert early.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in early
        found.sendall(body)
        answer(found)


def test_who_takes_nothing_is_cut_off(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A download that nobody reads ends, gives its place back, and is no error of the server."""
    store.push(io.BytesIO(bytes(64 << 20)), "pets", name="large")
    with serving(store, idle=2, downloads=1) as served:
        with caplog.at_level(logging.INFO, "chunkstore"), line(served) as found:
            found.sendall(b"GET " + FILES.encode() + b"/large HTTP/1.1\r\n" + HOST + b"\r\n")
            assert found.recv(9) == b"HTTP/1.1 "  # it has the place
            assert len(served.file("large").content) == 64 << 20
            assert len(answer(found)) < 64 << 20
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_what_follows_a_request_never_gets_into_its_answer(served: Served) -> None:
    """What is no request, sent while a file comes, cuts the file off and adds nothing to it."""
    content = b"miaow\n" * (6 << 20)
    served.store.push(io.BytesIO(content), "pets", name="large")
    with line(served) as found:
        found.sendall(b"GET " + FILES.encode() + b"/large HTTP/1.1\r\n" + HOST + b"\r\n")
        got = found.recv(1000)
        found.sendall(b"\x00garbage\r\n\r\n")
        body = (got + answer(found)).partition(b"\r\n\r\n")[2]
    assert len(body) < len(content)
    assert content.startswith(body)


def test_one_line_more_than_the_bound_is_refused(store: Store) -> None:
    """Lines over the bound get 503 with Retry-After at once; those before are served."""
    with serving(store, connections=3) as served, contextlib.ExitStack() as lines:
        opened = [lines.enter_context(line(served)) for _ in range(3)]
        opened[-1].sendall(GET + b"\r\n")
        assert opened[-1].recv(100).startswith(b"HTTP/1.1 200 ")
        found = answer(lines.enter_context(line(served)))
        assert found.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in found


def test_requests_of_one_token_at_once(store: Store, tmp_path: Path) -> None:
    """A token with too many requests under way gets 429 with Retry-After; others are served."""
    file = TokensFile(str(tmp_path / "tokens.json"))
    one, other = (file.create(name, Right.WRITE, ["*"])[1] for name in ("one", "other"))
    with serving(store, tokens=file.path, requests=2) as served, contextlib.ExitStack() as lines:
        mine = {"Authorization": f"Bearer {one}"}
        for name in (b"a", b"b"):
            opened = lines.enter_context(line(served))
            head = PUT % name + b"Authorization: Bearer " + one.encode() + b"\r\n"
            opened.sendall(head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert opened.recv(100).startswith(b"HTTP/1.1 100 ")  # it is under way
        found = served.client.get("/v1/datasets", headers=mine)
        served.problem(found, 429, "too_many_requests")
        assert found.headers["retry-after"] == "1"
        theirs = {"Authorization": f"Bearer {other}"}
        assert served.client.get("/v1/datasets", headers=theirs).status_code == 200
        opened.sendall(b"abc")
        assert opened.recv(100).startswith(b"HTTP/1.1 201 ")
        assert served.client.get("/v1/datasets", headers=mine).status_code == 200


def test_a_path_that_is_no_text_is_refused(served: Served) -> None:
    """Bytes that are no UTF-8 get 400, rather than the name of another file."""
    for method in ("PUT", "GET"):
        found = served.client.request(method, f"{FILES}/%ff", content=b"x")
        served.problem(found, 400, "invalid_input")
    assert served.store.datasets() == []
    assert served.client.put(f"{FILES}/%c3%bc", content=b"x").status_code == 201


@pytest.mark.parametrize("believed", [False, True])
def test_proxies_are_believed_only_where_asked(store: Store, believed: bool) -> None:
    """Who the client is and what it spoke is taken from a header of a named proxy only."""
    proxies = ("127.0.0.1",) if believed else ()
    with serving(store, proxies=proxies, rate=0.01) as served:
        for client in ("192.0.2.1", "192.0.2.2"):
            headers = {"X-Forwarded-For": client}
            found = served.client.get("/healthz", headers=headers).status_code
            assert found == (429 if client.endswith("2") and not believed else 200)
