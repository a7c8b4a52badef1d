"""Guarded objects: the wire, and what everybody may do with which key."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from chunkstore import Store
from chunkstore.ids import ChunkKind, chunk_id
from chunkstore.testing.trees import make_tree
from tests.api.conftest import Served, listing, serving
from tests.api.forging import store_chunks

OBJECTS = "/v1/objects"
OCTETS = "application/octet-stream"


def test_a_store_is_used_through_its_server(served: Served, tmp_path: Path) -> None:
    """Push, push again, tag, pull, drop: through the protocol as on the storage itself."""
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    make_tree(tree, files=40, seed=1)
    with Store.open(served.address, cache_folder=tmp_path / "mine") as store:
        first = store.push(tree, "pets", tags=["prod"])
        assert first.version == 1
        assert store.push(tree, "pets").unchanged
        (tree / "more.bin").write_bytes(bytes(100_000))
        assert store.push(tree, "pets").version == 2
        store.pull("pets@prod", copy)
        store.pull("pets", copy)
        store.tag("pets@2", "prod")
        store.remove("pets", [1])
        assert [version.number for version in store.dataset("pets").versions] == [2]
    assert (copy / "more.bin").read_bytes() == bytes(100_000)
    assert served.store.version("pets@prod").number == 2


def test_an_object_comes_whole_or_in_part(served: Served) -> None:
    """GET, HEAD and ranges give the bytes, length and version of the object."""
    data = served.store.objects.backend.get("config").data
    whole = served.client.get(f"{OBJECTS}/config")
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-type"] == OCTETS
    head = served.client.head(f"{OBJECTS}/config")
    assert int(head.headers["content-length"]) == len(data)
    assert head.headers["etag"] == whole.headers["etag"]
    info = served.store.objects.backend.head("config")
    assert head.headers["etag"] == f'"{info.version}"'
    assert abs(float(head.headers["chunkstore-modified"]) - info.modified) < 1e-5
    for asked, part in (
        ("0-3", data[:4]),
        ("4-", data[4:]),
        ("-7", data[-7:]),
        ("5-5", data[5:6]),
        (f"2-{len(data) + 100}", data[2:]),
    ):
        answer = served.client.get(f"{OBJECTS}/config", headers={"Range": f"bytes={asked}"})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].startswith("bytes ")
    for asked in (f"{len(data)}-", f"{10**14}-{10**14 + 1}", "-0"):
        answer = served.client.get(f"{OBJECTS}/config", headers={"Range": f"bytes={asked}"})
        served.problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(data)}"
    for ignored in ("bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "x"):
        answer = served.client.get(f"{OBJECTS}/config", headers={"Range": ignored})
        assert (answer.status_code, answer.content) == (200, data)


@pytest.mark.parametrize(
    "key",
    [
        "%2e%2e",
        "packs/%2e%2e/config",
        "packs//x",
        "a%00b",
        "a%0ab",
        "a%20b",
        "%ff",
        "x" * 1100,
        "config/",
        "/config",
        ".lock+",
        ".tmp+ab",
        "%C3%A4",
    ],
)
def test_what_is_no_key_is_refused(served: Served, key: str) -> None:
    """Parts that go up, control characters, what is too long: refused, for every method."""
    fresh = {"If-None-Match": "*"}
    for answer in (
        served.client.get(f"{OBJECTS}/{key}"),
        served.client.put(f"{OBJECTS}/{key}", content=b"x", headers=fresh),
        served.client.post("/v1/objects:delete", json={"keys": [key]}),
    ):
        served.problem(answer, 400, "invalid_input")
    assert served.client.head(f"{OBJECTS}/{key}").status_code == 400


@pytest.mark.parametrize("key", ["probe/1", "packs/ab/c", "index/12", "refs/A", "refs/a/b", "gc/x"])
def test_keys_of_nothing_hold_nothing(served: Served, key: str) -> None:
    """A right key that no object of a store has is not there, and cannot be written."""
    served.problem(served.client.get(f"{OBJECTS}/{key}"), 404, "key_absent")
    fresh = {"If-None-Match": "*"}
    answer = served.client.put(f"{OBJECTS}/{key}", content=b"x", headers=fresh)
    served.problem(answer, 400, "invalid_input")
    served.problem(served.client.post("/v1/objects:delete", json={"keys": [key]}), 403, "forbidden")


def test_the_config_and_notes_are_not_written(served: Served) -> None:
    """The config is never replaced nor deleted; what the server notes is its own."""
    note = f"uploads/pets/{'0' * 64}"
    for key in ("config", note):
        answer = served.client.put(f"{OBJECTS}/{key}", content=b"x", headers={"If-None-Match": "*"})
        served.problem(answer, 403, "forbidden")
    answer = served.client.post("/v1/objects:delete", json={"keys": ["gc/condemned/1-a", "config"]})
    served.problem(answer, 403, "forbidden")
    assert served.store.ping() is None  # type: ignore[func-returns-value]  # it did not raise


def test_a_write_says_what_it_relies_on(served: Served) -> None:
    """Without a condition, or with another one, nothing is written."""
    key = f"{OBJECTS}/manifests/{'0' * 64}"
    for headers in (
        {},
        {"If-Match": "*"},
        {"If-Match": 'W/"a"'},
        {"If-Match": '"a", "b"'},
        {"If-Match": '"a"', "If-None-Match": "*"},
        {"If-None-Match": '"a"'},
    ):
        answer = served.client.put(key, content=b"x", headers=headers)
        served.problem(answer, 428, "precondition_required")
    answer = served.client.put(key, content=b"x", headers={"If-Match": '"a"'})
    served.problem(answer, 400, "invalid_input")


def test_bodies_are_bounded_and_plain(served: Served) -> None:
    """What is longer than its kind allows is not read; nothing comes encoded or in part."""
    fresh = {"If-None-Match": "*"}
    key = f"{OBJECTS}/refs/pets"
    line = http.client.HTTPConnection(served.address.removeprefix("http://"))
    line.request("PUT", key, headers={**fresh, "Content-Length": str(1 << 40)})
    assert line.getresponse().status == 413
    line.close()

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1 << 20)

    answer = served.client.put(key, content=endless(), headers=fresh)
    served.problem(answer, 413, "too_large")
    for name, value in (("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-0/2")):
        answer = served.client.put(key, content=b"x", headers={**fresh, name: value})
        served.problem(answer, 400, "invalid_input")


def test_listings_come_in_pages(served: Served) -> None:
    """Pages of any length make up the whole listing, in the order of keys."""
    for number in range(7):
        served.store.push(io.BytesIO(b"%d" % number), f"d{number}", name="f")
    backend = served.store.objects.backend
    for prefix in ("", "refs/", "packs/", "index/", "manifests/", "gc/", "nothing/"):
        listed = list(listing(served.client, prefix))
        assert [info.key for info in listed] == [info.key for info in backend.list(prefix)]
        assert [(i.length, i.version) for i in listed] == [
            (i.length, i.version) for i in backend.list(prefix)
        ]
    for asked in ({"prefix": "refs"}, {"prefix": "../"}, {"limit": 0}, {"limit": 1001}):
        served.problem(served.client.get(OBJECTS, params=asked), 400, "invalid_input")  # type: ignore[arg-type]  # numbers too
    served.problem(served.client.get(OBJECTS, params={"after": "a b"}), 400, "invalid_input")


def test_what_is_named_by_its_bytes_is_put_twice(served: Served, tmp_path: Path) -> None:
    """A PUT whose answer was lost may be sent again: 200, with the version that is there."""
    make_tree(tmp_path / "tree", files=3, seed=2)
    served.store.push(tmp_path / "tree", "pets")
    backend = served.store.objects.backend
    for prefix in ("packs/", "index/", "manifests/"):
        for info in backend.list(prefix):
            data = backend.get(info.key).data
            answer = served.client.put(
                f"{OBJECTS}/{info.key}", content=data, headers={"If-None-Match": "*"}
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["etag"] == f'"{info.version}"'


def test_others_bytes_do_not_get_the_name(served: Served, tmp_path: Path) -> None:
    """Packs, segments and manifests under an id that they do not have are refused."""
    make_tree(tmp_path / "tree", files=3, seed=3)
    served.store.push(tmp_path / "tree", "pets")
    backend = served.store.objects.backend
    name = blake3(b"other").hexdigest()
    for prefix, key in (
        ("packs/", f"packs/{name[:2]}/{name}"),
        ("index/", f"index/{name}"),
        ("manifests/", f"manifests/{name}"),
    ):
        info = next(iter(backend.list(prefix)))
        for data in (backend.get(info.key).data, b"", b"x" * 50, b"x" * 100_000):
            answer = served.client.put(
                f"{OBJECTS}/{key}", content=data, headers={"If-None-Match": "*"}
            )
            served.problem(answer, 422, "invalid_object")
        assert served.client.head(f"{OBJECTS}/{key}").status_code == 404


def test_the_server_says_what_it_can(served: Served) -> None:
    """Who is asked for no token may do all; the protocol has a number."""
    document = served.client.get("/v1/server").json()
    assert document["protocol"] == 1
    assert (document["right"], document["everywhere"], document["direct"]) == ("admin", True, False)
    assert document["longest"]["pack"] == 128 << 20


def test_what_breaks_off_is_not_there(store: Store) -> None:
    """A body that is cut off, or of which nothing comes any more, stores nothing."""
    with serving(store, idle=1) as served:
        host, port = served.address.removeprefix("http://").split(":")
        key = f"manifests/{'0' * 64}"
        head = f"PUT {OBJECTS}/{key} HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: *\r\n"
        for ends in (True, False):
            with socket.create_connection((host, int(port)), timeout=60) as line:
                line.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + bytes(500))
                if ends:
                    line.shutdown(socket.SHUT_WR)
                    continue
                assert b" 408 " in line.recv(4096).split(b"\r\n")[0]
        assert served.client.head(f"{OBJECTS}/{key}").status_code == 404
        assert not list(store.objects.backend.list("manifests/"))


def test_what_is_missing_is_told(served: Served) -> None:
    """A wide caller is told which chunks are not stored, in its order; what is no id is refused."""
    stored = [f"chunk {number}".encode() for number in range(3)]
    store_chunks(served.client, *stored)
    ids = [chunk_id(ChunkKind.DATA, data).hex() for data in (*stored, b"another", b"more")]
    asked = {"dataset": "pets", "ids": [ids[3], *ids]}
    answer = served.client.post("/v1/chunks:missing", json=asked)
    assert answer.json() == {"missing": [ids[3], ids[3], ids[4]]}
    assert served.client.post("/v1/chunks:missing", json={"dataset": "pets", "ids": []}).json() == {
        "missing": []
    }
    for wrong in (
        {"dataset": "pets", "ids": ids * 2001},
        {"dataset": "pets", "ids": ["0" * 63]},
        {"dataset": "pets", "ids": [ids[0].upper()]},
        {"dataset": "Pets", "ids": ids},
        {"ids": ids},
    ):
        answer = served.client.post("/v1/chunks:missing", json=wrong)
        served.problem(answer, 400, "invalid_input")
