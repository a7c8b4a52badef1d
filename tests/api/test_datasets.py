"""Datasets, versions and tags over HTTP say what the library says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Served

DATASET = "/v1/datasets/team~pets"


@pytest.fixture
def stocked(served: Served) -> Served:
    """`team/pets` with five versions of several files, and other datasets."""
    for number in range(5):
        data = io.BytesIO(b"%d\n" % number * 1000)
        served.store.push(data, "team/pets", name=f"f{number}", keep=True, message=f"m{number}")
    for name in ("a", "b", "team/cats"):
        served.store.push(io.BytesIO(b"x"), name, name="x")
    served.store.tag("team/pets@2", "rel/two")
    return served


def paged(served: Served, url: str, key: str, parameter: str, **more: Any) -> Iterator[Any]:
    """Yield what all pages of a list have."""
    document = served.client.get(url, params=more).json()
    while True:
        assert len(document[key]) <= more["limit"]
        yield from document[key]
        if document["next"] is None:
            return
        more[parameter] = document["next"]
        document = served.client.get(url, params=more).json()


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_lists_come_in_pages(stocked: Served, limit: int) -> None:
    """All pages together are the whole list, in order, without doubles."""
    names = list(paged(stocked, "/v1/datasets", "datasets", "after", limit=limit))
    assert names == stocked.store.datasets()
    some = paged(stocked, "/v1/datasets", "datasets", "after", limit=limit, prefix="team/")
    assert list(some) == ["team/cats", "team/pets"]
    versions = paged(stocked, f"{DATASET}/versions", "versions", "before", limit=limit)
    assert [version["version"] for version in versions] == [5, 4, 3, 2, 1]
    url = f"{DATASET}/versions/latest/entries"
    entries = paged(stocked, url, "entries", "after", limit=limit)
    assert [e["path"] for e in entries] == [e.path for e in stocked.store.entries("team/pets")]
    changes = paged(stocked, f"{DATASET}/versions/5/diff/2", "changes", "after", limit=limit)
    assert [(c["path"], c["change"]) for c in changes] == [
        ("f2", "added"),
        ("f3", "added"),
        ("f4", "added"),
    ]


def test_a_version(stocked: Served) -> None:
    """A version is described by number, tag, ~N and the dataset's own address."""
    for version in ("2", "rel~two", "~3"):
        document = stocked.client.get(f"{DATASET}/versions/{version}").json()
        assert (document["version"], document["message"]) == (2, "m1")
        assert document["manifest"] == stocked.store.version("team/pets@2").manifest_id.hex()
    assert stocked.client.get(DATASET).json()["tags"] == ["latest"]
    below = stocked.client.get(f"{DATASET}/versions/5/entries", params={"path": "f3"}).json()
    (entry,) = below["entries"]
    assert (entry["path"], entry["kind"], entry["size"]) == ("f3", "file", 2000)


def test_sizes(stocked: Served) -> None:
    """The sizes are those that the library gives."""
    whole = stocked.client.get("/v1/stat").json()
    assert whole["stored_bytes"] == stocked.store.stat().stored_bytes
    dataset = stocked.client.get(f"{DATASET}/stat").json()
    assert dataset["total_size"] == stocked.store.dataset_stat("team/pets").total_size
    version = stocked.client.get(f"{DATASET}/versions/1/stat").json()
    assert version["unique_bytes"] == stocked.store.version_stat("team/pets@1").unique_bytes


def test_tags(stocked: Served) -> None:
    """A tag is set, moved and taken away; what can be no tag is refused."""
    tag = f"{DATASET}/tags/prod"
    assert stocked.client.put(tag, json={"version": "rel/two"}).json()["version"] == 2
    assert stocked.client.put(tag, json={"version": "~1"}).json()["version"] == 4
    assert stocked.client.get(f"{DATASET}/tags").json() == {"rel/two": 2, "prod": 4, "latest": 5}
    assert stocked.client.delete(tag).status_code == 204
    stocked.problem(stocked.client.delete(tag), 404, "not_found")
    stocked.problem(stocked.client.put(tag, json={"version": "9"}), 404, "not_found")
    stocked.problem(stocked.client.put(tag, json={}), 400, "invalid_input")
    latest = f"{DATASET}/tags/latest"
    stocked.problem(stocked.client.put(latest, json={"version": "1"}), 400, "invalid_input")


def test_versions_are_dropped(stocked: Served) -> None:
    """A version that was dropped is gone, with its tags; the others stay."""
    assert stocked.client.delete(f"{DATASET}/versions/rel~two").json()["dropped"] == [2]
    stocked.problem(stocked.client.get(f"{DATASET}/versions/2"), 404, "not_found")
    assert [v.number for v in stocked.store.dataset("team/pets").versions] == [1, 3, 4, 5]
    stocked.problem(stocked.client.delete(f"{DATASET}/versions/2"), 404, "not_found")


def test_dropped_versions_come_back(stocked: Served) -> None:
    """Those that were dropped are listed, and come back with their numbers and tags, by choice."""
    for version in ("rel~two", "1", "4"):
        stocked.client.delete(f"{DATASET}/versions/{version}")
    url = f"{DATASET}/dropped"
    for limit in (1, 2, 100):
        listed = list(paged(stocked, url, "versions", "before", limit=limit))
        assert [(v["version"], v["tags"]) for v in listed] == [(4, []), (2, ["rel/two"]), (1, [])]
    undo = f"{DATASET}/undo"
    back = stocked.client.post(undo, json={"versions": [2, 1]}).json()["versions"]
    assert [(v["version"], v["tags"], v["message"]) for v in back] == [
        (1, [], "m0"),
        (2, ["rel/two"], "m1"),
    ]
    stocked.problem(stocked.client.post(undo, json={"versions": [4, 1]}), 404, "not_found")
    assert [v["version"] for v in stocked.client.get(url).json()["versions"]] == [4]
    assert [v["version"] for v in stocked.client.post(undo, json={}).json()["versions"]] == [4]
    stocked.problem(stocked.client.post(undo, json={}), 404, "not_found")
    stocked.problem(stocked.client.post(undo, json={"versions": ["x"]}), 400, "invalid_input")
    assert stocked.client.get(url).json() == {"dataset": "team/pets", "versions": [], "next": None}
    assert [v.number for v in stocked.store.dataset("team/pets").versions] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "url",
    [
        "/v1/datasets?limit=0",
        "/v1/datasets?limit=x",
        f"{DATASET}/versions?before=x",
        "/v1/datasets/a..b/versions",
        f"{DATASET}/versions/latest/entries?limit=100000",
    ],
)
def test_parameters_that_cannot_be(stocked: Served, url: str) -> None:
    """They are a 400 with the parameter's name."""
    stocked.problem(stocked.client.get(url), 400, "invalid_input")


def test_health_and_metrics(stocked: Served) -> None:
    """The process and its storage say that they are well; counters count, without names."""
    assert stocked.client.get("/healthz").json() == {"status": "ok"}
    assert stocked.client.get("/readyz").json() == {"status": "ok"}
    stocked.client.get(DATASET)
    text = stocked.client.get("/metrics").text
    line = 'chunkstore_http_requests_total{method="GET",route="/v1/datasets/{name}",status="200"}'
    assert f"{line} 1.0" in text
    assert "chunkstore_downloads_active 0.0" in text
    assert "pets" not in text


def test_a_storage_that_is_gone(stocked: Served, tmp_path: Any) -> None:
    """The server lives, but is not ready."""
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert stocked.client.get("/healthz").status_code == 200
    stocked.problem(stocked.client.get("/readyz"), 503, "unavailable")
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert stocked.client.get("/readyz").status_code == 200
