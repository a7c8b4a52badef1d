"""Packs that go past the server, to and from real storages, by URLs that it signed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chunkstore_api.server import serve
from chunkstore_api.settings import Settings
from chunkstore_api.tokens import Right

from chunkstore import HttpOptions, Store, layout
from chunkstore.errors import InvalidInputError
from chunkstore.testing import servers
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.api.conftest import Served, serving, tokens_file
from tests.api.forging import OBJECTS, frame_of, indexed, pack_of, put, segment_of, store_chunks
from tests.api.test_packs import lying_id

_numbers = itertools.count()
DIRECT = {"Chunkstore-Direct": "1"}


@pytest.fixture(params=["seaweedfs", "minio"])
def direct(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A server with direct transfers, on a store in each real storage in turn."""
    storage: servers.Server = request.getfixturevalue(request.param)
    url = storage.store_url("tests", f"direct-{next(_numbers)}")
    with (
        Store.create(url, s3=storage.options, cache_folder=tmp_path / "cache") as store,
        serving(store, direct=True) as served,
    ):
        yield served


def permission(client: httpx.Client, key: str, data: bytes) -> httpx.Response:
    """Ask how a pack is put straight into the storage."""
    asked = {"key": key, "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return client.post("/v1/uploads", json=asked)


def put_directly(client: httpx.Client, key: str, data: bytes) -> httpx.Response:
    """Put a pack straight into the storage."""
    allowed: dict[str, Any] = permission(client, key, data).raise_for_status().json()
    return httpx.put(allowed["url"], content=data, headers=allowed["headers"])


def test_the_library_moves_packs_past_the_server(direct: Served, tmp_path: Path) -> None:
    """Push and pull are as ever; the packs' bytes do not pass through the server."""
    assert direct.client.get("/v1/server").json()["direct"] is True
    tree = make_tree(tmp_path / "tree")
    (tree / "large.bin").write_bytes(random_bytes(5_000_000, 1))
    with Store.open(direct.address, http=HttpOptions(), cache_folder=tmp_path / "mine") as store:
        store.push(tree, "pets")
        store.pull("pets", tmp_path / "copy")
    assert tree_state(tmp_path / "copy") == tree_state(tree)
    metrics = direct.client.get("/metrics").text.splitlines()
    counted = dict(line.rsplit(" ", 1) for line in metrics if not line.startswith("#"))
    assert float(counted["chunkstore_http_received_bytes_total"]) < 1_000_000
    assert float(counted["chunkstore_http_sent_bytes_total"]) < 1_000_000


def test_a_range_comes_from_the_storage(direct: Served) -> None:
    """The signed range comes with 206; another one is refused; who does not ask is not sent."""
    data = random_bytes(100_000, 2)
    pack = store_chunks(direct.client, data)
    key = f"packs/{pack.pack_id.hex()[:2]}/{pack.pack_id.hex()}"
    ranged = {"Range": "bytes=24-100023"}
    assert direct.client.get(f"{OBJECTS}/{key}", headers=ranged).content == data
    answer = direct.client.get(f"{OBJECTS}/{key}", headers={**ranged, **DIRECT})
    assert answer.status_code == 307
    assert answer.headers["etag"]
    url = answer.headers["location"]
    assert httpx.get(url, headers=ranged).content == data
    assert httpx.get(url, headers={"Range": "bytes=24-100024"}).status_code == 403
    assert httpx.get(url).status_code in (400, 403)
    for plain in ({}, {"Range": "bytes=-10"}, {"Range": "bytes=5-"}):
        answer = direct.client.get(f"{OBJECTS}/{key}", headers={**plain, **DIRECT})
        assert answer.status_code in (200, 206)
    answer = direct.client.get(f"{OBJECTS}/config", headers={"Range": "bytes=0-3", **DIRECT})
    assert answer.content == b"CSCF"


def test_a_pack_is_put_straight_and_then_checked(direct: Served) -> None:
    """Those bytes only, once; what lies is found when a segment lists it."""
    key, data = pack_of((frame_of([b"straight"]), b"straight"))
    allowed = permission(direct.client, key, data).json()
    wrong = httpx.put(allowed["url"], content=bytes(len(data)), headers=allowed["headers"])
    assert wrong.status_code == 400
    assert put_directly(direct.client, key, data).status_code == 200
    assert put_directly(direct.client, key, data).status_code == 412
    assert put(direct.client, *segment_of(indexed(data))).status_code == 201
    key, data = lying_id()
    assert put_directly(direct.client, key, data).status_code == 200
    direct.problem(put(direct.client, *segment_of(indexed(data))), 422, "invalid_object")


def test_only_packs_go_straight(direct: Served) -> None:
    """Nothing else gets a URL, nor does what is longer than a pack."""
    digest = hashlib.sha256(b"x").hexdigest()
    key, _ = pack_of((frame_of([b"x"]), b"x"))
    for asked in (
        {"key": "refs/pets", "length": 1, "sha256": digest},
        {"key": f"index/{digest}", "length": 1, "sha256": digest},
        {"key": "packs/../x", "length": 1, "sha256": digest},
        {"key": key, "length": 0, "sha256": digest},
        {"key": key, "length": (128 << 20) + 1, "sha256": digest},
        {"key": key, "length": 1, "sha256": digest.upper()},
        {"key": key, "length": 1, "sha256": "x"},
    ):
        direct.problem(direct.client.post("/v1/uploads", json=asked), 400, "invalid_input")
    asked = {"key": "config", "length": 1, "sha256": digest}
    direct.problem(direct.client.post("/v1/uploads", json=asked), 403, "forbidden")


def test_narrow_callers_get_urls_of_what_they_see_whole(direct: Served, tmp_path: Path) -> None:
    """A range with another's frames comes through the server, covered."""
    file, tokens = tokens_file(tmp_path, team=(Right.WRITE, "team/*"))
    headers = {"Authorization": f"Bearer {tokens['team']}", "Chunkstore-Dataset": "team~a"}
    mine, other = random_bytes(50_000, 3), random_bytes(50_000, 4)
    with serving(direct.store, tokens=file.path, direct=True) as guarded:
        client = httpx.Client(base_url=guarded.address, headers=headers)
        store_chunks(client, mine)
        key, data = pack_of((frame_of([mine]), mine), (frame_of([other]), other))
        assert put(direct.client, key, data).status_code == 201
        assert put(direct.client, *segment_of(indexed(data))).status_code == 201
        whole = {"Range": "bytes=24-50023", **DIRECT}
        answer = client.get(f"{OBJECTS}/{key}", headers=whole)
        assert answer.status_code == 307
        assert httpx.get(answer.headers["location"], headers=whole).content == mine
        answer = client.get(f"{OBJECTS}/{key}", headers={"Range": "bytes=24-50024", **DIRECT})
        assert (answer.status_code, answer.content) == (206, mine + b"\0")
        answer = client.get(f"{OBJECTS}/{key}", headers={"Range": "bytes=50024-50100", **DIRECT})
        guarded.problem(answer, 404, "key_absent")


def test_a_pack_may_be_there_already(direct: Served, tmp_path: Path) -> None:
    """A pack that is put again, since its answer was lost, is fine for narrow callers too."""
    file, tokens = tokens_file(tmp_path, team=(Right.WRITE, "team/*"), all=(Right.WRITE, "*"))
    key, data = pack_of((frame_of([b"again"]), b"again"))
    pack = layout.pack_of(key)
    assert pack is not None
    with serving(direct.store, tokens=file.path, direct=True) as guarded:
        for name, token in tokens.items():
            options = HttpOptions(token=token)
            with Store.open(guarded.address, http=options, cache_folder=tmp_path / name) as store:
                assert store.objects.get_ref("team/a") is None
                for _ in range(2):
                    store.objects.put_pack(pack, [data])
    assert direct.store.objects.backend.get(key).data == data


def test_a_folder_has_no_urls(served: Served) -> None:
    """A server is not started with what it cannot do, and says so to whoever asks."""
    with pytest.raises(InvalidInputError):
        serve(served.store, Settings(port=0, direct=True))
    key, data = pack_of((frame_of([b"x"]), b"x"))
    served.problem(permission(served.client, key, data), 409, "refused")
    assert served.client.get("/v1/server").json()["direct"] is False
