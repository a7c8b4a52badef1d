"""Narrow tokens at the objects of a store: what they reach is there, all else is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import Store
from chunkstore.errors import BackendError
from chunkstore.format.pack import decode_directory, decode_trailer
from chunkstore.ids import ID_SIZE, ChunkKind, chunk_id
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.api.conftest import Served, serving
from tests.api.remote import Remote, remote_store


@dataclass
class Scene:
    """A server with tokens; `pets` and `cats` share packs, `team/a` is to be pushed to."""

    server: Served
    tokens: dict[str, str]

    def client(self, token: str, *datasets: str) -> httpx.Client:
        """Return a client with a token, that names datasets."""
        return httpx.Client(
            base_url=self.server.address,
            timeout=60,
            headers={
                "Authorization": f"Bearer {self.tokens[token]}",
                "Chunkstore-Dataset": ", ".join(datasets),
            },
        )

    @property
    def backend(self) -> Remote:
        """All objects, as they are."""
        return self.server.store.objects.backend  # type: ignore[return-value]  # it does the same


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Run a server on a new store in which datasets share chunks, frames and packs."""
    file = TokensFile(str(tmp_path / "tokens.json"))
    tokens = {
        name: file.create(name, right, patterns)[1]
        for name, right, patterns in (
            ("pets", Right.READ, ["pets"]),
            ("team", Right.WRITE, ["team/*"]),
            ("both", Right.WRITE, ["team/*", "pets"]),
            ("all", Right.ADMIN, ["*"]),
            ("writer", Right.WRITE, ["*"]),
        )
    }
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        mixed = tmp_path / "mixed"
        mixed.mkdir()
        (mixed / "pet.bin").write_bytes(random_bytes(3_000_000, 1))
        (mixed / "secret.bin").write_bytes(random_bytes(3_000_000, 2))
        store.push(mixed, "cats")
        (mixed / "secret.bin").unlink()
        store.push(mixed, "pets")
        with serving(store, tokens=file.path) as server:
            yield Scene(server, tokens)


def ids_of(store: Store, dataset: str) -> set[bytes]:
    """Return the ids of the chunks of the files of a dataset's newest version."""
    blobs = [entry.blob.ids for entry in store.entries(dataset)]
    return {ids[at : at + 32] for ids in blobs for at in range(0, len(ids), 32)}


def test_a_team_uses_its_datasets_and_no_others(scene: Scene, tmp_path: Path) -> None:
    """Push, push again, pull and tag by a token of some datasets; others are not there."""
    tree, copy = make_tree(tmp_path / "tree", files=30), tmp_path / "copy"
    with scene.client("team", "team~a") as client, remote_store(client) as store:
        assert store.push(tree, "team/a").version == 1
        (tree / "more.bin").write_bytes(random_bytes(200_000, 5))
        second = store.push(tree, "team/a", tags=["prod"])
        assert second.version == 2
        store.pull("team/a", copy)
        assert store.datasets() == ["team/a"]
        assert list(scene.backend.list("uploads/")) == []  # a version has all that was sent
        with pytest.raises(BackendError):
            store.push(tree, "pets")
    assert tree_state(copy) == tree_state(tree)


def test_what_is_seen_of_a_shared_pack(scene: Scene) -> None:
    """A reader of one dataset pulls it from packs that hold another's chunks, and sees none."""
    store = scene.server.store
    pets, cats = ids_of(store, "pets"), ids_of(store, "cats")
    assert pets < cats
    with scene.client("pets", "pets") as client:
        remote, shown = Remote(client), set()
        for info in scene.backend.list("packs/"):
            whole = scene.backend.get(info.key).data
            length, _, _ = decode_trailer(whole[-44:], len(whole), info.key)
            true = decode_directory(whole[length:], length, info.key)
            if not set(split(true.ids.tobytes())) & pets:
                assert client.head(f"/v1/objects/{info.key}").status_code == 404
                continue
            got = remote.get(info.key).data
            assert len(got) == len(whole)
            directory = decode_directory(got[length:], length, info.key)
            shown |= set(split(directory.ids.tobytes()))
            for frame, codec in enumerate(directory.frame_codecs.tolist()):
                start = int(directory.frame_offsets[frame])
                end = start + int(directory.frame_lengths[frame])
                ids = set(split(true.ids[true.chunk_frames == frame].tobytes()))
                expected = whole[start:end] if ids <= pets else bytes(end - start)
                assert got[start:end] == expected, codec
        assert not shown & (cats - pets)
        for identifier in cats:
            answer = client.get(f"/v1/objects/chunks/data/{identifier.hex()}")
            if identifier in pets:
                assert chunk_id(ChunkKind.DATA, answer.content) == identifier
            else:
                scene.server.problem(answer, 404, "key_absent")


def split(ids: bytes) -> list[bytes]:
    """Return joined ids one by one."""
    return [ids[at : at + ID_SIZE] for at in range(0, len(ids), ID_SIZE)]
