"""What a client sends: the token to its server only, datasets, conditions, direct transfers."""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkstore.backends.base import Access, Backend, CreateOnly, Fetched, Overwrite, ReplaceIf
from chunkstore.backends.http import HttpBackend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RefusedError,
)
from chunkstore.testing import servers
from tests.wire.conftest import backend_at
from tests.wire.object_server import ObjectServer, object_server

TOKEN = "cs_0123456789ab_" + "5ec2e7" * 10 + "abcd"
PACK = "packs/ab/" + "ab" * 32
DATA = random.Random(1).randbytes(10_000)


def headers_of(server: ObjectServer, name: str) -> list[str | None]:
    """Return that header of every request so far."""
    return [headers.get(name) for _, _, headers in server.seen]


# tokens


def test_the_token_goes_along(server: ObjectServer, tmp_path: Path) -> None:
    """A token that was given, or stands in a file, opens the server."""
    server.token = TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    for backend in (
        backend_at(server.address, token=TOKEN),
        backend_at(server.address, token_file=str(file)),
        backend_at(f"{server.address}?token_file={file}", token="cs_another"),
    ):
        with backend:
            assert list(backend.list("")) == []
    assert headers_of(server, "Authorization") == [f"Bearer {TOKEN}"] * 3


def test_no_token_or_another(server: ObjectServer) -> None:
    """Who has none is told how to give one; who has another one that it is another."""
    server.token = TOKEN
    for options, part in (({}, "CHUNKSTORE_TOKEN"), ({"token": "cs_other"}, "another token")):
        with backend_at(server.address, **options) as backend:
            with pytest.raises(PermissionDeniedError) as caught:
                backend.get("config")
            assert part in (caught.value.hint or "")


def test_files_that_hold_no_token(tmp_path: Path) -> None:
    """A token file that is not there, is open to all, or holds something else is refused."""
    file = tmp_path / "token"
    with pytest.raises(NotFoundError):
        backend_at("http://127.0.0.1:1", token_file=str(file))
    for text in ("", "two words", "a\nb", "x" * 5000, "ü"):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(InvalidInputError) as caught:
            backend_at("http://127.0.0.1:1", token_file=str(file))
        assert not text or text not in caught.value.message
    file.write_text(TOKEN)
    file.chmod(0o644)
    with pytest.raises(RefusedError) as refused:
        backend_at("http://127.0.0.1:1", token_file=str(file))
    assert "chmod" in (refused.value.hint or "")
    for token in ("a b", "a\r\nX: y", "ü", "x" * 5000):
        with pytest.raises(InvalidInputError) as caught:
            backend_at("http://127.0.0.1:1", token=token)
        assert token not in caught.value.message


def test_a_token_is_never_shown(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    """No text of a backend, its parts or its errors has the token, nor has a debug log."""
    caplog.set_level(logging.DEBUG)
    server.token = "another"  # of a test
    with backend_at(server.address, token=TOKEN) as backend:
        with pytest.raises(PermissionDeniedError) as caught:
            backend.get("config")
        shown = [repr(backend), str(caught.value), repr(caught.value), backend.url, caplog.text]
        assert not [text for text in shown if "5ec2e7" in text]


# TLS


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """A certificate of one's own counts where its authority is named, and nowhere else."""
    certificate = servers.make_certificate(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "tls" / "private.key")
    with object_server(MemoryBackend()) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = server.address.replace("http:", "https:")
        with backend_at(f"{address}?ca={certificate}") as backend:
            backend.put("key", [DATA], CreateOnly())
            assert backend.get("key", (5, 9)).data == DATA[5:9]
        with backend_at(address) as backend, pytest.raises(BackendError) as caught:
            backend.get("key")
        assert not caught.value.retryable
        assert "?ca=FILE" in (caught.value.hint or "")


# by virtue of which datasets


def test_datasets_are_remembered(server: ObjectServer, backend: HttpBackend) -> None:
    """The eight datasets whose refs were asked for last are named, the newest first."""
    backend.put("packs/1", [b"x"], Overwrite())
    assert headers_of(server, "Chunkstore-Dataset") == [None]
    for number in [*range(10), 5]:
        backend.put(f"refs/team~{number}", [b"x"], Overwrite())
    backend.get("packs/1", (0, 1))
    names = ", ".join(f"team~{number}" for number in (5, 9, 8, 7, 6, 4, 3, 2))
    assert headers_of(server, "Chunkstore-Dataset")[-1] == names


def test_what_the_caller_may(server: ObjectServer, backend: HttpBackend) -> None:
    """Only an admin of all datasets deletes; who has some is narrow. The server is asked once."""
    assert backend.access() == Access(deletes=True, narrow=False, guarded=True)
    for right, everywhere, access in (
        ("write", True, Access(deletes=False, narrow=False, guarded=True)),
        ("admin", False, Access(deletes=False, narrow=True, guarded=True)),
    ):
        server.info |= {"right": right, "everywhere": everywhere}
        with backend_at(server.address) as other:
            server.seen.clear()
            assert [other.access(), other.access()] == [access] * 2
            assert right in other.probe().access
            assert len(server.seen) == 1


# conditions


def test_conditions_go_along(server: ObjectServer, backend: HttpBackend) -> None:
    """Each kind of write has its condition."""
    version = backend.put("key", [b"1"], CreateOnly())
    backend.put("key", [b"2"], ReplaceIf(version))
    backend.put("key", [b"3"], Overwrite())
    assert headers_of(server, "If-None-Match") == ["*", None, None]
    assert headers_of(server, "If-Match") == [None, f'"{version}"', None]


# direct transfers


@pytest.fixture
def storage() -> Backend:
    return MemoryBackend()


@pytest.fixture
def elsewhere(storage: Backend) -> Iterator[ObjectServer]:
    """The storage behind a server, to which it sends clients."""
    with object_server(storage) as running:
        yield running


@pytest.fixture
def front(storage: Backend, elsewhere: ObjectServer) -> Iterator[ObjectServer]:
    with object_server(storage) as running:
        running.token = TOKEN
        running.elsewhere = elsewhere.address
        running.info["direct"] = True
        yield running


@pytest.fixture
def direct(front: ObjectServer) -> Iterator[HttpBackend]:
    with backend_at(front.address, token=TOKEN) as opened:
        yield opened


def paths(server: ObjectServer, method: str) -> list[str]:
    return [path for verb, path, _ in server.seen if verb == method]


def test_packs_go_directly(
    front: ObjectServer, elsewhere: ObjectServer, direct: HttpBackend
) -> None:
    """Packs are sent and fetched where the server points, without the token, by the same range."""
    version = direct.put(PACK, [DATA[:100], DATA[100:]], CreateOnly())
    assert direct.get(PACK, (5, 500)) == Fetched(DATA[5:500], version)
    with pytest.raises(ConditionFailedError):
        direct.put(PACK, [DATA], CreateOnly())
    assert paths(elsewhere, "PUT") == [f"/elsewhere/{PACK}"] * 2
    assert paths(elsewhere, "GET") == [f"/elsewhere/{PACK}"]
    assert paths(front, "PUT") == []
    assert headers_of(elsewhere, "Authorization") == [None] * 3
    assert headers_of(elsewhere, "Chunkstore-Dataset") == [None] * 3
    assert headers_of(elsewhere, "Range") == [None, "bytes=5-499", None]


def test_the_rest_goes_to_the_server(front: ObjectServer, direct: HttpBackend) -> None:
    """Other objects, and packs as a whole, are asked of the server itself."""
    for key in ("config", "index/" + "a" * 64, "refs/a", PACK):
        direct.put(key, [DATA], Overwrite())
        assert direct.get(key).data == DATA
        if key != PACK:
            assert direct.get(key, (1, 3)).data == DATA[1:3]
    assert set(paths(front, "POST")) == set()


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1",
        "http://nobody.invalid",
        "ftp://127.0.0.1",
        "http://[",
        "http://127.0.0.1:99999999",
        "http://x" * 3000,
        "//127.0.0.1",
    ],
)
def test_a_detour_that_fails_costs_no_error(
    front: ObjectServer, direct: HttpBackend, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    """Where a direct transfer does not work the server does it itself; soon none is tried."""
    front.elsewhere = address
    caplog.set_level(logging.INFO)
    for number in range(6):
        key = f"{PACK[:-1]}{number}"
        direct.put(key, [DATA], CreateOnly())
        assert direct.get(key, (1, 10)).data == DATA[1:10]
    assert len(paths(front, "POST")) <= 3
    assert "127.0.0.1:1" not in caplog.text.replace(front.address, "")


def test_a_detour_may_fail_once(
    front: ObjectServer, elsewhere: ObjectServer, direct: HttpBackend
) -> None:
    """After a failure, such as a URL that has ended, the next transfer is direct again."""
    front.backend.put(PACK, [DATA], CreateOnly())
    elsewhere.token = None
    works, front.elsewhere = front.elsewhere, f"{elsewhere.address}/nowhere"
    assert direct.get(PACK, (0, 5)).data == DATA[:5]
    front.elsewhere = works
    assert direct.get(PACK, (0, 5)).data == DATA[:5]
    assert paths(elsewhere, "GET")[-1] == f"/elsewhere/{PACK}"
