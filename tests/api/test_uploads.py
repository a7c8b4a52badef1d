"""Uploads become versions whole, or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
import zstandard
from blake3 import blake3

from chunkstore import NotFoundError, Store
from chunkstore.testing.trees import random_bytes
from tests.api.conftest import FILES, Served, serving
from tests.conftest import Place

CONTENT = random_bytes(3_000_000, 5) + b"text " * 100_000


def pieces(data: bytes, size: int = 70_000) -> Iterator[bytes]:
    """Yield a body in pieces, which httpx sends with chunked transfer encoding."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


def put(served: Served, path: str, data: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    """PUT a file into `pets`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.client.put(f"{FILES}/{path}", content=data, headers=named)


def digest(name: str, data: bytes) -> str:
    """Return a digest field."""
    hasher = blake3(data) if name == "blake3" else hashlib.new(name.replace("-", ""), data)
    return f"{name}=:{base64.b64encode(hasher.digest()).decode()}:"


def versions(served: Served) -> int:
    """Return how many versions of `pets` there are."""
    try:
        return len(served.store.dataset("pets").versions)
    except NotFoundError:
        return 0


def test_a_file_goes_in_and_comes_out(served: Served) -> None:
    """PUT gives 201 with the version, hash and place; GET gives the bytes; again gives 200."""
    answer = put(served, "a/tom.bin", pieces(CONTENT))
    assert answer.status_code == 201
    document = answer.json()
    assert (document["version"], document["size"]) == (1, len(CONTENT))
    assert document["hash"] == blake3(CONTENT).hexdigest()
    assert answer.headers["etag"] == f'"{document["hash"]}"'
    assert served.client.get(answer.headers["location"]).content == CONTENT
    again = put(served, "a/tom.bin", CONTENT)
    assert (again.status_code, again.json()["version"], again.json()["unchanged"]) == (200, 1, True)


@pytest.mark.parametrize(
    ("coding", "encode"),
    [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress), ("identity", bytes)],
)
def test_codings_are_undone(served: Served, coding: str, encode: object) -> None:
    """A body in a coding is stored as the file that it is, its digests of both kinds checked."""
    packed = encode(CONTENT)  # type: ignore[operator]  # as given
    answer = put(
        served,
        "tom.bin",
        pieces(packed),
        Content_Encoding=coding,
        Repr_Digest=f"{digest('sha-256', packed)}, unknown=:AAAA:",
        Content_Digest=digest("sha-512", packed),
        Unencoded_Digest=digest("blake3", CONTENT),
    )
    assert answer.status_code == 201, answer.text
    assert served.file("tom.bin").content == CONTENT


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_downloads_are_encoded_where_that_pays(served: Served, coding: str) -> None:
    """Text comes encoded with a tag of its own, noise as it is; both are the file."""
    text = b"".join(b"%d\n" % number for number in range(300_000))
    noise = random_bytes(200_000, 3)
    put(served, "text", text)
    put(served, "noise", noise)
    headers = {"Accept-Encoding": coding}
    with served.client.stream("GET", f"{FILES}/text", headers=headers) as answer:
        packed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == coding
    assert answer.headers["etag"] == f'"{blake3(text).hexdigest()}-{coding}"'
    assert "repr-digest" not in answer.headers
    assert len(packed) < len(text) / 2
    opened = (
        zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        if coding == "zstd"
        else gzip.decompress(packed)
    )
    assert opened == text
    same = served.file("text", headers={**headers, "If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304
    plain = served.file("noise", headers=headers)
    assert "content-encoding" not in plain.headers
    assert plain.content == noise
    part = served.file("text", headers={**headers, "Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, text[2:6])


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Repr_Digest": digest("sha-256", b"other")}, 400, "digest_mismatch"),
        ({"Content_Digest": digest("blake3", b"other")}, 400, "digest_mismatch"),
        ({"Unencoded_Digest": digest("sha-512", b"other")}, 400, "digest_mismatch"),
        ({"Repr_Digest": "sha-256=abc"}, 400, "invalid_input"),
        ({"Repr_Digest": "sha-256=:AAAA:"}, 400, "invalid_input"),
        ({"Content_Encoding": "gzip"}, 400, "bad_coding"),
        ({"Content_Encoding": "zstd"}, 400, "bad_coding"),
        ({"Content_Encoding": "br"}, 415, "unsupported_coding"),
        ({"Content_Range": "bytes 0-1/10"}, 400, "invalid_input"),
        ({"Origin": "http://evil.example"}, 403, "forbidden"),
        ({"Host": "evil.example"}, 403, "forbidden"),
    ],
)
def test_what_does_not_hold_leaves_nothing(
    served: Served, headers: dict[str, str], status: int, code: str
) -> None:
    """A body that is not what its headers say becomes no version."""
    served.problem(put(served, "tom.bin", CONTENT, **headers), status, code)
    assert versions(served) == 0
    assert put(served, "tom.bin", CONTENT).status_code == 201


@pytest.mark.parametrize(
    "path", ["../x", "a/./b", "a//b", "a%5Cb", "%00", "x%0Ay", "x%0A", "a" * 300]
)
def test_hostile_paths_are_refused(served: Served, path: str) -> None:
    """A path that no version can hold becomes none."""
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        head = f"PUT {FILES}/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n"
        line.sendall(f"{head}Connection: close\r\n\r\nx".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.split(b" ")[1] == b"400", answer
    assert versions(served) == 0


def test_only_the_latest_version_takes_files(served: Served) -> None:
    """Versions do not change."""
    put(served, "x", b"1")
    answer = served.client.put("/v1/datasets/pets/versions/1/files/x", content=b"2")
    served.problem(answer, 409, "refused")
    assert versions(served) == 1


def test_parameters(served: Served) -> None:
    """A message, tags and the version that must be the latest are taken from the query."""
    first = served.client.put(
        f"{FILES}/x", content=b"1", params={"message": "hi", "tag": ["a", "b"], "expect": "0"}
    )
    assert first.status_code == 201
    version = served.store.version("pets")
    assert (version.message, set(version.tags)) == ("hi", {"a", "b", "latest"})
    second = served.client.put(f"{FILES}/y", content=b"1", params={"expect": "0"})
    served.problem(second, 409, "conflict")
    long = served.client.put(f"{FILES}/y", content=b"1", params={"message": "m" * 5000})
    served.problem(long, 400, "invalid_input")


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("size", [0, 10, 300_000, 3_000_000])
def test_a_body_that_breaks_off_leaves_nothing(served: Served, framing: str, size: int) -> None:
    """Where the connection ends in the middle of a body, there is no version of it."""
    host, port = served.address.removeprefix("http://").split(":")
    data = CONTENT[:size]
    with socket.create_connection((host, int(port))) as line:
        head = f"PUT {FILES}/x HTTP/1.1\r\nHost: {host}\r\n"
        if framing == "chunked":
            line.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            if data:
                line.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        else:
            line.sendall(f"{head}Content-Length: {size + 5}\r\n\r\n".encode() + data)
    put(served, "other", b"1")
    time.sleep(0.2)
    assert served.client.get(f"{FILES}/x").status_code == 404
    assert [entry.path for entry in served.store.entries("pets")] == ["other"]


def test_a_malformed_chunk_leaves_nothing(served: Served) -> None:
    """Framing that is no framing ends the request."""
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(
            f"PUT {FILES}/x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        line.sendall(b"5\r\nhello\r\nzz\r\nmore\r\n0\r\n\r\n")
        line.settimeout(20)
        line.recv(65536)
    time.sleep(0.2)
    assert versions(served) == 0


def test_too_long_a_body_is_refused(store: Store) -> None:
    """A body over the bound is refused by its length, or where it passes the bound."""
    with serving(store, upload_size=1_000_000) as served:
        served.problem(put(served, "x", bytes(1_000_001)), 413, "too_large")
        packed = gzip.compress(bytes(1_000_001))
        answer = put(served, "x", packed, Content_Encoding="gzip")
        served.problem(answer, 413, "too_large")
        assert versions(served) == 0
        assert put(served, "x", bytes(1_000_000)).status_code == 201


def test_a_slow_client_is_cut_off(store: Store) -> None:
    """Who sends nothing for too long is told so, and leaves nothing."""
    with serving(store, idle=0.5) as served:
        host, port = served.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(
                f"PUT {FILES}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nabc".encode()
            )
            line.settimeout(30)
            assert b" 408 " in line.recv(65536)
        assert versions(served) == 0


def test_many_at_once_lose_nothing(store: Store) -> None:
    """Files that are put into one dataset at once are all there, more than there are places."""
    data = {f"{number}/f": random_bytes(50_000 * number, number) for number in range(12)}
    with serving(store, uploads=3) as served, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda item: put(served, *item), data.items()))
        assert {answer.status_code for answer in answers} == {201}
        assert {entry.path for entry in store.entries("pets")} == set(data)
        for path, content in data.items():
            assert served.file(path).content == content


def test_who_waits_too_long_is_told(store: Store) -> None:
    """When all places are taken for too long, 503 says when to come again; then it is taken."""
    with serving(store, uploads=1, wait=0.3) as served:
        host, port = served.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(
                f"PUT {FILES}/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nabc".encode()
            )
            time.sleep(0.3)
            answer = put(served, "y", b"1")
            served.problem(answer, 503, "busy")
            assert int(answer.headers["retry-after"]) > 0
            assert served.client.get("/healthz").status_code == 200
            line.sendall(b"defghi")
            line.settimeout(30)
            assert b" 201 " in line.recv(65536)
        assert put(served, "y", b"1").status_code == 201


@pytest.mark.parametrize(
    "name", ["ü \"x';.txt", "a?b#c%20.txt", "日本/語 .bin", "-", "~a", "latest"]
)
def test_odd_names(served: Served, name: str) -> None:
    """A file of any name goes in, and its place leads back to it."""
    answer = put(served, quote(name), b"x")
    assert answer.status_code == 201, answer.text
    assert answer.json()["path"] == name
    assert served.client.get(answer.headers["location"]).content == b"x"


def test_the_job_platform(served: Served) -> None:
    """An output goes in by PUT, comes out by GET, and is listed; its dataset is the execution."""
    for name in ("model.bin", "logs/out.txt"):
        answer = served.client.put(
            f"/artifacts/job42/upload/{name}", content=pieces(CONTENT + name.encode())
        )
        assert answer.status_code == 201, answer.text
        got = served.client.get(f"/artifacts/job42/download/{name}")
        assert got.content == CONTENT + name.encode()
    part = served.client.get("/artifacts/job42/download/model.bin", headers={"Range": "bytes=-9"})
    assert (part.status_code, part.content) == (206, b"model.bin")
    listed = served.client.get("/artifacts/job42").json()
    assert [entry["path"] for entry in listed["entries"]] == [
        "outputs/logs/out.txt",
        "outputs/model.bin",
    ]
    assert served.store.version("job42").number == 2
    with served.store.open_file("job42:outputs/model.bin") as file:
        assert file.read(10) == CONTENT[:10]
    served.problem(served.client.get("/artifacts/job43"), 404, "not_found")
    served.problem(served.client.get("/artifacts/job42/download/x"), 404, "not_found")


def test_openapi_has_every_route(served: Served) -> None:
    """The document names each route with what it answers, and loads nothing from elsewhere."""
    document = served.client.get("/v1/openapi.json").json()
    assert {
        "/v1/datasets/{name}/versions/{version}/files/{path}",
        "/artifacts/{exec_id}/upload/{filename}",
        "/v1/datasets/{name}/versions",
    } <= set(document["paths"])
    for operations in document["paths"].values():
        for method, operation in operations.items():
            assert operation.get("summary"), method
            assert "4XX" in operation["responses"]
    assert json.dumps(document).count('"operationId"') == len(
        {op["operationId"] for ops in document["paths"].values() for op in ops.values()}
    )
    served.problem(served.client.get("/docs"), 404, "not_found")


def test_each_storage(place: Place) -> None:
    """Files go up and come down on a folder and on S3 servers alike."""
    with place.create() as store, serving(store) as served:
        first, second = put(served, "a", pieces(CONTENT)), put(served, "b/c", b"2")
        assert (first.status_code, second.status_code) == (201, 201)
        assert served.file("a").content == CONTENT
        part = served.file("a", headers={"Range": "bytes=1000000-1999999"})
        assert part.content == CONTENT[1_000_000:2_000_000]
        assert served.client.get("/readyz").status_code == 200
        archive = served.client.get("/v1/datasets/pets/versions/2/archive.tar")
        other = served.client.post("/v1/datasets/others/versions", content=archive.content)
        assert other.json()["new_bytes"] == 0
