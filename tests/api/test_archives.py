"""A version or folder comes as one archive, and an archive goes in as a version."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from chunkstore import Store
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.api.conftest import Served, serving

VERSION = "/v1/datasets/team~pets/versions/latest"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a large file, a link and an empty folder."""
    tree = make_tree(tmp_path / "tree")
    (tree / "large.bin").write_bytes(random_bytes(3_000_000, 2) + bytes(3_000_000))
    (tree / "hollow").mkdir()
    (tree / "to").symlink_to("large.bin")
    return tree


@pytest.mark.parametrize("way", ["POST", "PUT"])
def test_a_tree_goes_in_and_out_by_tar(
    served: Served, tree: Path, tmp_path: Path, way: str
) -> None:
    """What GNU tar packs comes back to GNU tar, encoded on the way or not."""
    command = ["tar", "--format=posix", "-C", tree, "-cf", "-", "."]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    where = f"{VERSION}/archive.tar" if way == "PUT" else VERSION.rpartition("/")[0]
    answer = served.client.request(way, where, content=packed, params={"message": "all"})
    assert answer.status_code == 201, answer.text
    assert served.client.get(answer.headers["location"]).json()["message"] == "all"
    assert served.client.request(way, where, content=packed).status_code == 200
    for coding in ("identity", "zstd, gzip", "gzip"):
        got = served.client.get(f"{VERSION}/archive.tar", headers={"Accept-Encoding": coding})
        assert got.headers["content-type"] == "application/x-tar"
        assert got.headers["content-disposition"] == 'attachment; filename="pets-1.tar"'
    data = served.client.get(f"{VERSION}/archive.tar").content
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xf", "-"], input=data, check=True)
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_a_tree_comes_out_by_zip(served: Served, tree: Path, tmp_path: Path) -> None:
    """A zip has every file with its bytes, links as links, folders as folders."""
    served.store.push(tree, "team/pets")
    got = served.client.get(f"{VERSION}/archive.zip")
    with zipfile.ZipFile(io.BytesIO(got.content)) as archive:
        assert archive.testzip() is None
        names = {info.filename: info for info in archive.infolist()}
        for entry, content in served.store.contents("team/pets"):
            data = archive.read(entry.path)
            assert data == (content.read(0, content.size) if content else entry.target.encode())
        assert names["to"].external_attr >> 28 == 0o12
        assert names["hollow/"].is_dir()


def test_a_folder_alone(served: Served, tree: Path) -> None:
    """A path chooses what is at and below it; one that is not there is a 404."""
    served.store.push(tree, "team/pets")
    paths = {entry.path for entry in served.store.entries("team/pets")}
    folder = next(path.split("/")[0] for path in sorted(paths) if "/" in path.rstrip("/"))
    got = served.client.get(f"{VERSION}/archive.tar", params={"path": f"{folder}/"})
    with tarfile.open(fileobj=io.BytesIO(got.content)) as archive:
        names = {info.name + ("/" if info.isdir() else "") for info in archive}
    assert names == {path for path in paths if path.startswith(f"{folder}/")}
    served.problem(
        served.client.get(f"{VERSION}/archive.zip", params={"path": "none"}), 404, "not_found"
    )
    served.problem(served.client.get(f"{VERSION}/archive.rar"), 400, "invalid_input")
    described = served.client.head(f"{VERSION}/archive.tar")
    assert (described.status_code, described.content) == (200, b"")
    assert "content-length" not in described.headers


def test_a_hostile_archive_leaves_nothing(served: Served) -> None:
    """What the reader refuses is a 400, and no version."""
    served.problem(
        served.client.post("/v1/datasets/pets/versions", content=b"no archive" * 100),
        400,
        "invalid_input",
    )
    assert served.store.datasets() == []


def test_a_zip_of_too_many_files_is_refused(store: Store, tree: Path) -> None:
    """A zip over the bound of members is refused, a tar is not."""
    store.push(tree, "team/pets")
    with serving(store, members=5) as served:
        served.problem(served.client.get(f"{VERSION}/archive.zip"), 413, "too_large")
        assert served.client.get(f"{VERSION}/archive.tar").status_code == 200
