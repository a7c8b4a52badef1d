"""Files come out of the server as they went into the store."""

from __future__ import annotations

import base64
import io
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkstore import Store
from chunkstore.testing.trees import random_bytes
from tests.api.conftest import FILES, Served, serving

CONTENT = random_bytes(9_000_000, 1)


@pytest.fixture(scope="module")
def pets(shared: Served) -> Served:
    """`pets` with one file of 9 MB."""
    shared.store.push(io.BytesIO(CONTENT), "pets", name="a/tom.bin")
    return shared


def test_a_file_comes_whole(pets: Served) -> None:
    """GET gives the bytes, their length, hash, type and name."""
    answer = pets.file("a/tom.bin")
    assert answer.status_code == 200
    assert answer.content == CONTENT
    digest = blake3(CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    encoded = base64.b64encode(digest.digest()).decode()
    assert answer.headers["repr-digest"] == f"blake3=:{encoded}:"
    assert answer.headers["content-disposition"] == 'attachment; filename="tom.bin"'
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_is_get_without_the_bytes(pets: Served) -> None:
    """HEAD has the status and headers of GET and no body."""
    got, asked = pets.file("a/tom.bin"), pets.client.head(f"{FILES}/a/tom.bin")
    assert asked.status_code == got.status_code
    assert asked.content == b""
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


def test_a_range_is_that_of_a_get(pets: Served) -> None:
    """HEAD tells of the whole file, whatever range is asked for (RFC 9110, section 14.2)."""
    for wanted in ("bytes=0-1", f"bytes={len(CONTENT)}-"):
        asked = pets.client.head(f"{FILES}/a/tom.bin", headers={"Range": wanted})
        assert asked.status_code == 200
        assert asked.headers["content-length"] == str(len(CONTENT))


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, len(CONTENT) - 1), length=st.integers(1, 4_000_000))
def test_any_range_is_the_slice(pets: Served, start: int, length: int) -> None:
    """A range gives 206 and the bytes of the slice."""
    end = min(start + length, len(CONTENT))
    answer = pets.file("a/tom.bin", headers={"Range": f"bytes={start}-{start + length - 1}"})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - start)


def test_a_range_beyond_the_file(pets: Served) -> None:
    """416 says how long the file is."""
    answer = pets.file("a/tom.bin", headers={"Range": f"bytes={len(CONTENT)}-"})
    pets.problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_conditions(pets: Served) -> None:
    """If-None-Match spares the bytes, If-Match insists, If-Range gives a part or the whole."""
    tag = pets.file("a/tom.bin").headers["etag"]
    same = pets.file("a/tom.bin", headers={"If-None-Match": f'"x", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert pets.file("a/tom.bin", headers={"If-None-Match": '"x"'}).status_code == 200
    wrong = pets.file("a/tom.bin", headers={"If-Match": '"x"'})
    pets.problem(wrong, 412, "precondition_failed")
    part = {"Range": "bytes=0-3"}
    assert pets.file("a/tom.bin", headers={**part, "If-Range": tag}).status_code == 206
    assert pets.file("a/tom.bin", headers={**part, "If-Range": '"x"'}).status_code == 200


@pytest.mark.parametrize("name", ["ü \"x';.txt", "a?b#c%20.txt", "日本/語 .bin", "-", "~a", "ﬁ+&="])
def test_odd_names(served: Served, tmp_path: Path, name: str) -> None:
    """A file of any name is found by its encoded path, and saved under its name."""
    (tmp_path / "odd" / name).parent.mkdir(parents=True)
    (tmp_path / "odd" / name).write_bytes(b"x" + name.encode())
    served.store.push(tmp_path / "odd", "pets")
    answer = served.file(quote(name))
    assert answer.content == b"x" + name.encode()
    last = name.rsplit("/", 1)[-1]
    shown = answer.headers["content-disposition"]
    assert f'filename="{last}"' in shown or f"filename*=UTF-8''{quote(last, safe='')}" in shown


def test_names_with_slashes(served: Served) -> None:
    """A dataset's slashes stand as they are, encoded, or as `~`, which is never ambiguous."""
    served.store.push(io.BytesIO(b"1"), "team/run-42", name="x", tags=["rel/one"])
    served.store.push(io.BytesIO(b"2"), "team/versions/1/files", name="x")
    for name in ("team/run-42", "team%2Frun-42", "team~run-42"):
        for version in ("latest", "1", "rel~one"):
            answer = served.client.get(f"/v1/datasets/{name}/versions/{version}/files/x")
            assert answer.content == b"1"
    found = served.client.get("/v1/datasets/team~versions~1~files/versions/1/files/x")
    assert found.content == b"2"
    served.store.push(io.BytesIO(b"3"), "team/run-42", name="x")
    before = served.client.get("/v1/datasets/team~run-42/versions/~1/files/x")
    assert before.content == b"1"


def test_what_is_not_there(pets: Served) -> None:
    """A dataset, version or file that is not there is a 404 with a hint."""
    for url in (
        "/v1/datasets/none/versions/latest/files/x",
        "/v1/datasets/pets/versions/99/files/x",
        f"{FILES}/a/none",
        f"{FILES}/a",
    ):
        document = pets.problem(pets.client.get(url), 404, "not_found")
        assert document["hint"]
    pets.problem(pets.client.get("/nowhere"), 404, "not_found")
    pets.problem(pets.client.delete(f"{FILES}/a/tom.bin"), 405, "method_not_allowed")


def test_damage_cuts_the_answer_off(store: Store) -> None:
    """Where bytes are damaged, no client gets an answer that looks whole."""
    store.push(io.BytesIO(CONTENT), "pets", name="tom.bin")
    packs = sorted(Path(store.url).glob("packs/*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(packs[-1].read_bytes())
    data[len(data) * 3 // 4] ^= 1
    packs[-1].chmod(0o600)
    packs[-1].write_bytes(data)
    with serving(store) as served:
        host, port = served.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(f"GET {FILES}/tom.bin HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            line.settimeout(30)
            got = b"".join(iter(lambda: line.recv(1 << 20), b""))
        head, _, body = got.partition(b"\r\n\r\n")
        assert b" 500 " in head or len(body) < len(CONTENT)
        assert body == CONTENT[: len(body)] or b" 500 " in head


def test_an_empty_file(served: Served) -> None:
    """An empty file is 200 with nothing; no range of it can be had."""
    served.store.push(io.BytesIO(b""), "pets", name="x")
    answer = served.file("x")
    assert (answer.status_code, answer.headers["content-length"]) == (200, "0")
    served.problem(served.file("x", headers={"Range": "bytes=0-"}), 416, "range_not_satisfiable")


def test_a_client_that_goes_away_gives_its_place_back(store: Store) -> None:
    """Who stops in the middle of a download, or takes nothing any more, holds up nobody."""
    store.push(io.BytesIO(CONTENT * 8), "pets", name="large")
    store.push(io.BytesIO(b"1"), "pets", name="small", keep=True)
    with serving(store, downloads=1, idle=1.0) as served:
        host, port = served.address.removeprefix("http://").split(":")
        request = f"GET {FILES}/large HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        with socket.create_connection((host, int(port))) as line:
            line.sendall(request)
            line.recv(1000)
        assert served.file("small").content == b"1"
        with socket.create_connection((host, int(port))) as line:
            line.sendall(request)
            line.recv(1000)
            assert served.file("small").content == b"1"
