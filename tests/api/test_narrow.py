"""Narrow tokens at the objects of a store: what they reach is there, all else is not."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from chunkstore_api import narrow
from chunkstore_api.tokens import Right

from chunkstore import HttpOptions, Store, layout
from chunkstore.backends.base import Backend, Buffer, Fetched, PutMode
from chunkstore.backends.location import open_backend
from chunkstore.errors import BackendError, NotFoundError
from chunkstore.format.document import encode_document
from chunkstore.format.manifest import PAGE, Entry, EntryKind, encode_page
from chunkstore.format.pack import PackClass, decode_directory, decode_trailer
from chunkstore.format.ref import decode_ref, empty_ref, encode_ref
from chunkstore.ids import ID_SIZE, ChunkKind, chunk_id
from chunkstore.objects import Objects
from chunkstore.testing.backends import CountingBackend
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.api.conftest import Served, listing, serving, tokens_file
from tests.api.forging import (
    Draft,
    chunk_key,
    commit,
    file_entry,
    follow,
    frame_of,
    indexed,
    pack_of,
    put,
    segment_of,
    store_chunks,
    with_version,
)


@dataclass
class Scene:
    """A server with tokens; `pets` and `cats` share packs, `team/a` is to be pushed to.

    Attributes:
        backend: all objects, as they are; counts what is asked of it.
    """

    server: Served
    tokens: dict[str, str]
    backend: CountingBackend

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


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Run a server on a new store in which datasets share chunks, frames and packs."""
    file, tokens = tokens_file(
        tmp_path,
        pets=(Right.READ, "pets"),
        team=(Right.WRITE, "team/*"),
        all=(Right.ADMIN, "*"),
        writer=(Right.WRITE, "*"),
    )
    Store.create(str(tmp_path / "store")).close()
    calls = CountingBackend(open_backend(str(tmp_path / "store")))
    with Store(calls, Objects(calls).read_config(), str(tmp_path / "cache")) as store:
        mixed = tmp_path / "mixed"
        mixed.mkdir()
        (mixed / "pet.bin").write_bytes(random_bytes(3_000_000, 1))
        (mixed / "secret.bin").write_bytes(random_bytes(3_000_000, 2))
        store.push(mixed, "cats")
        (mixed / "secret.bin").unlink()
        store.push(mixed, "pets")
        with serving(store, tokens=file.path) as server:
            yield Scene(server, tokens, calls)


def ids_of(store: Store, dataset: str) -> set[bytes]:
    """Return the ids of the chunks of the files of a dataset's newest version."""
    blobs = [entry.blob.ids for entry in store.entries(dataset)]
    return {ids[at : at + 32] for ids in blobs for at in range(0, len(ids), 32)}


def test_a_team_uses_its_datasets_and_no_others(scene: Scene, tmp_path: Path) -> None:
    """Push, push again, pull and tag by a token of some datasets; others are not there."""
    tree, copy = make_tree(tmp_path / "tree", files=30), tmp_path / "copy"
    with opened(scene, "team", tmp_path) as store:
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
        shown: set[bytes] = set()
        for info in scene.backend.list("packs/"):
            whole = scene.backend.get(info.key).data
            length, _, _ = decode_trailer(whole[-44:], len(whole), info.key)
            true = decode_directory(whole[length:], length, info.key)
            if not set(split(true.ids.tobytes())) & pets:
                assert client.head(f"/v1/objects/{info.key}").status_code == 404
                continue
            got = client.get(f"/v1/objects/{info.key}").content
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
                part = client.get(answer.url.path, headers={"Range": "bytes=3-9"})
                assert (part.status_code, part.content) == (206, answer.content[3:10])
                head = client.head(answer.url.path)
                assert int(head.headers["content-length"]) == len(answer.content)
            else:
                scene.server.problem(answer, 404, "key_absent")


def test_a_range_of_a_pack_is_one_request(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its directory is known, the server asks the storage for the range, without a HEAD."""
    store = scene.server.store
    mine = ids_of(store, "pets")
    key = next(i.key for i in scene.backend.list("packs/") if holds(scene.backend, i.key, mine))
    asked: list[tuple[str, tuple[int, int] | None]] = []
    whole = scene.backend.get

    def get(key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        asked.append((key, byte_range))
        return whole(key, byte_range)

    with scene.client("pets", "pets") as client:
        first = client.get(f"/v1/objects/{key}", headers={"Range": "bytes=0-99999"})
        monkeypatch.setattr(scene.backend, "get", get)
        monkeypatch.setattr(scene.backend, "head", None)  # is not called
        again = client.get(f"/v1/objects/{key}", headers={"Range": "bytes=0-99999"})
    assert (again.status_code, again.content) == (206, first.content)
    assert again.headers["etag"] == first.headers["etag"]
    assert [each for each in asked if each[0] != "refs/pets"] == [(key, (0, 100_000))]


def split(ids: bytes) -> list[bytes]:
    """Return joined ids one by one."""
    return [ids[at : at + ID_SIZE] for at in range(0, len(ids), ID_SIZE)]


def opened(scene: Scene, token: str, folder: Path) -> Store:
    """Open the store as the library does, with a token."""
    options = HttpOptions(token=scene.tokens[token])
    return Store.open(scene.server.address, http=options, cache_folder=folder / f"cache-{token}")


def test_the_library_pulls_from_shared_packs(scene: Scene, tmp_path: Path) -> None:
    """Chunks among others' in one frame come one by one; what was pulled is whole."""
    with opened(scene, "pets", tmp_path) as store:
        store.pull("pets", tmp_path / "copy")
        assert store.datasets() == ["pets"]
        with pytest.raises(NotFoundError):
            store.pull("cats", tmp_path / "cats")
    assert (tmp_path / "copy" / "pet.bin").read_bytes() == random_bytes(3_000_000, 1)


def test_a_narrow_push_sends_what_its_datasets_lack(scene: Scene, tmp_path: Path) -> None:
    """Deduplicated against the versions it may read, and against nothing else."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "secret.bin").write_bytes(random_bytes(3_000_000, 2))
    with opened(scene, "team", tmp_path) as store:
        first = store.push(tree, "team/a")
        assert first.stats.new_bytes == 3_000_000  # though the store has it, in `cats`
        (tree / "more.bin").write_bytes(random_bytes(100_000, 7))
        second = store.push(tree, "team/a")
        assert second.stats.new_bytes < 200_000
    with opened(scene, "all", tmp_path) as store:
        store.pull("team/a", tmp_path / "copy")
    assert tree_state(tmp_path / "copy") == tree_state(tree)


def test_a_narrow_push_goes_on(scene: Scene, tmp_path: Path) -> None:
    """What a push sent that did not end is found by the next one."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.bin").write_bytes(random_bytes(2_000_000, 8))
    with opened(scene, "team", tmp_path) as store:
        whole = store.objects.backend.put

        def put(key: str, data: Sequence[Buffer], mode: PutMode) -> str:
            if key.startswith("manifests/"):
                raise BackendError("killed", operation="put")
            return whole(key, data, mode)

        store.objects.backend.put = put  # type: ignore[method-assign]  # a push that ends there
        with pytest.raises(BackendError):
            store.push(tree, "team/a")
    assert list(scene.backend.list("uploads/team~a/"))
    with opened(scene, "team", tmp_path / "elsewhere") as store:
        assert store.push(tree, "team/a").stats.new_bytes == 0
    assert not list(scene.backend.list("uploads/"))


def test_old_notes_are_removed(scene: Scene, tmp_path: Path) -> None:
    """What was sent a month ago and never committed is forgotten at the next commit."""
    with scene.client("team", "team~a") as client:
        store_chunks(client, b"never committed")
        (note,) = scene.backend.list("uploads/")
        old = time.time() - 31 * 86400
        os.utime(tmp_path / "store" / note.key, (old, old))
        store_chunks(client, b"committed")
        first = empty_ref("team/a")
        version = put(client, "refs/team~a", encode_ref(first)).headers["etag"]
        draft = Draft([[file_entry("f", b"committed")]], dataset="team/a")
        assert commit(client, draft, first, version).status_code == 200
    assert not list(scene.backend.list("uploads/"))


def test_what_is_not_readable_is_as_what_is_not_there(scene: Scene) -> None:
    """Whatever is asked of another's objects, the answer is that of absent ones."""
    none = bytes(32).hex()
    lone = Store(scene.backend, scene.server.store.config, None)
    lone.push(io.BytesIO(random_bytes(50_000, 9)), "dogs", name="f")
    dogs = ids_of(lone, "dogs")
    packs = [i.key for i in scene.backend.list("packs/") if holds(scene.backend, i.key, dogs)]
    kinds = {
        "packs/": (packs[0], f"packs/00/{none}"),
        "index/": (next(iter(scene.backend.list("index/"))).key, f"index/{none}"),
        "manifests/": (named_by(lone, "dogs"), f"manifests/{none}"),
        "refs/": ("refs/dogs", "refs/owls"),
        "chunks/": (f"chunks/data/{min(dogs).hex()}", f"chunks/data/{none}"),
    }
    with scene.client("pets", "pets") as client:
        for there, absent in kinds.values():
            for headers in ({}, {"Range": "bytes=0-99"}):
                one = client.get(f"/v1/objects/{there}", headers=headers)
                two = client.get(f"/v1/objects/{absent}", headers=headers)
                assert one.status_code == two.status_code == 404
                assert one.text == two.text.replace(absent, there)
                assert one.headers.keys() == two.headers.keys()
            assert client.head(f"/v1/objects/{there}").status_code == 404
        assert [info.key for info in listing(client, "manifests/")] == [named_by(lone, "pets")]
        assert [info.key for info in listing(client, "refs/")] == ["refs/pets"]
        for prefix in ("index/", "gc/", "refs/dogs/"):
            assert not list(listing(client, prefix))
        for prefix in ("", "packs/", "uploads/", "uploads/dogs/", "chunks/"):
            answer = client.get("/v1/objects", params={"prefix": prefix})
            scene.server.problem(answer, 403, "forbidden")


def test_what_is_not_readable_costs_as_much_as_what_is_not_there(scene: Scene) -> None:
    """The storage is asked the same for another's object as for an absent one.

    But for packs: their names are hashes of random bytes, which nobody guesses. Absent ones are
    asked for first, so that nothing is known already of what is there.
    """
    store, none = scene.server.store, random_bytes(32, 7)
    store.push(io.BytesIO(random_bytes(50_000, 9)), "dogs", name="f")
    dog = min(ids_of(store, "dogs"))
    index = next(iter(scene.backend.list("index/"))).key
    page = encode_document(PAGE, [file_entry("f", b"a page that another pushed")])
    pages = {"secret": page, "nothing": encode_document(PAGE, [file_entry("g", b"nobody's")])}
    key, data = pack_of((frame_of([page], ChunkKind.PAGE), page), pack_class=PackClass.METADATA)
    with scene.client("all") as other:
        assert put(other, key, data).is_success
        assert put(other, *segment_of(indexed(data))).is_success
    first = empty_ref("team/a")
    with scene.client("team", "team~a") as client:
        version = put(client, "refs/team~a", encode_ref(first)).headers["etag"]

        def committing(draft: Draft) -> Callable[[], httpx.Response]:
            (record,) = with_version(first, draft).versions
            assert put(client, layout.manifest_key(record.manifest_id), draft.manifest()).is_success
            ref = encode_ref(with_version(first, draft))
            return lambda: put(client, "refs/team~a", ref, version)

        def of_file(content: bytes) -> Callable[[], httpx.Response]:
            return committing(Draft([[file_entry("f", content)]], dataset="team/a"))

        def of_page(data: bytes) -> Callable[[], httpx.Response]:
            pages = [[chunk_id(ChunkKind.PAGE, data), "f", 1, [], None]]
            return committing(Draft([[file_entry("f", b"x")]], {7: pages}, dataset="team/a"))

        def of_key(method: str, key: str) -> Callable[[], httpx.Response]:
            return lambda: client.request(method, f"/v1/objects/{key}")

        def missing(identifier: bytes) -> Callable[[], httpx.Response]:
            asked = {"dataset": "team/a", "ids": [identifier.hex()]}
            return lambda: client.post("/v1/chunks:missing", json=asked)

        pairs = [
            (of_key(method, absent), of_key(method, there))
            for method in ("GET", "HEAD")
            for absent, there in (
                ("refs/owls", "refs/dogs"),
                (f"manifests/{none.hex()}", named_by(store, "dogs")),
                (f"index/{none.hex()}", index),
                (chunk_key("data", none), chunk_key("data", dog)),
            )
        ]
        pairs += [
            (missing(none), missing(dog)),
            (of_file(b"nobody's"), of_file(random_bytes(50_000, 9))),
            (of_page(pages["nothing"]), of_page(pages["secret"])),
        ]
        for absent, there in pairs:
            absent()
            answers = []
            for ask in (absent, there):
                scene.backend.reset()
                answers.append((ask().status_code, dict(scene.backend.requests)))
            assert answers[0] == answers[1]


def holds(backend: Backend, key: str, ids: set[bytes]) -> bool:
    """Whether a pack has one of these chunks."""
    return bool(set(split(indexed(backend.get(key).data).directory.ids.tobytes())) & ids)


def named_by(store: Store, dataset: str) -> str:
    """Return the key of the manifest of a dataset's newest version."""
    return f"manifests/{store.version(dataset).manifest_id.hex()}"


def test_a_version_of_anothers_chunks_is_refused(scene: Scene) -> None:
    """Who knows the id and size of a chunk and may not read it cannot refer to it."""
    secret = random_bytes(60_000, 2)
    store_chunks(scene.client("all"), secret)
    with scene.client("team", "team~a") as client:
        first = empty_ref("team/a")
        version = put(client, "refs/team~a", encode_ref(first)).headers["etag"]
        answers = []
        for content in (secret, b"what nobody has"):
            draft = Draft([[file_entry("f", content)]], dataset="team/a")
            answers.append(commit(client, draft, first, version))
        for answer in answers:
            scene.server.problem(answer, 409, "missing_object")
        ids = [chunk_id(ChunkKind.DATA, c).hex() for c in (secret, b"what nobody has")]
        assert answers[0].text.replace(ids[0], ids[1]) == answers[1].text
        asked = {"dataset": "team/a", "ids": ids}
        assert client.post("/v1/chunks:missing", json=asked).json() == {"missing": ids}
        store_chunks(client, secret)  # sent, it may be referred to
        assert client.post("/v1/chunks:missing", json=asked).json() == {"missing": ids[1:]}
        draft = Draft([[file_entry("f", secret)]], dataset="team/a")
        assert commit(client, draft, first, version).status_code == 200
    with scene.client("all") as client:
        assert client.post("/v1/chunks:missing", json=asked).json() == {"missing": ids[1:]}


def test_a_segment_of_anothers_packs_is_refused(scene: Scene) -> None:
    """Who knows all ids of another's pack does not get at its chunks by listing it."""
    secret = random_bytes(60_000, 3)
    pack = store_chunks(scene.client("all"), secret)
    key, data = segment_of(pack)
    with scene.client("team", "team~a") as client:
        other, mine = pack_of((frame_of([b"mine"]), b"mine"))
        assert put(client, other, mine).status_code == 201
        for segment in ((key, data), segment_of(indexed(mine), pack)):
            scene.server.problem(put(client, *segment), 422, "invalid_object")
        assert client.get(f"/v1/objects/{chunk_key('data', pack.directory.ids[0])}").is_error
        assert not list(scene.backend.list("uploads/"))
        segment = segment_of(indexed(mine))
        assert put(client, *segment).status_code == 201
        assert put(client, *segment).status_code == 200  # its answer was lost
    with scene.client("team") as client:
        scene.server.problem(put(client, *segment), 400, "invalid_input")


def test_rights_of_commits(scene: Scene) -> None:
    """Dropping and changing versions takes admin, deleting objects admin of all datasets."""
    with scene.client("writer") as client:
        answer = client.get("/v1/objects/refs/pets")
        ref, version = decode_ref(answer.content, "ref"), answer.headers["etag"]
        renamed = tuple(record._replace(number=2) for record in ref.versions)
        for lie in (
            follow(ref, versions=()),
            follow(ref, versions=renamed, next_number=3),
        ):
            refusal = put(client, "refs/pets", encode_ref(lie), version)
            scene.server.problem(refusal, 403, "forbidden")
        tagged = follow(ref, tags=(("prod", 1),))
        assert put(client, "refs/pets", encode_ref(tagged), version).status_code == 200
        answer = client.post("/v1/objects:delete", json={"keys": ["refs/pets"]})
        scene.server.problem(answer, 403, "forbidden")
    with scene.client("pets", "pets") as client:
        for key in ("refs/pets", f"manifests/{bytes(32).hex()}"):
            scene.server.problem(put(client, key, b"x"), 403, "forbidden")
    with scene.client("team", "team~a") as client:
        scene.server.problem(put(client, "refs/pets", encode_ref(tagged)), 404, "not_found")
        draft = Draft([[file_entry("f", b"x")]], dataset="pets")
        manifest = layout.manifest_key(draft.recorded(1).manifest_id)
        scene.server.problem(put(client, manifest, draft.manifest()), 404, "not_found")
    with scene.client("team", "pets") as client:
        sent = pack_of((frame_of([b"for others"]), b"for others"))
        problem = scene.server.problem(put(client, *sent), 404, "not_found")
        assert problem["detail"] == "no dataset 'pets'"
        assert "team/*" in str(problem["hint"])
        assert client.head(f"/v1/objects/{sent[0]}").status_code == 404
    for headers in ({"Chunkstore-Dataset": "A"}, {"Chunkstore-Dataset": ",".join("abcdefghi")}):
        with scene.client("pets") as client:
            answer = client.get("/v1/objects/config", headers=headers)
            scene.server.problem(answer, 400, "invalid_input")


def test_what_was_dropped_is_readable_no_longer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, five seconds but here less, the chunks of a version that is gone are too."""
    monkeypatch.setattr(narrow, "_FRESH", 0.1)
    pets = min(ids_of(scene.server.store, "pets"))
    with scene.client("pets", "pets") as client:
        url = f"/v1/objects/chunks/data/{pets.hex()}"
        assert client.get(url).status_code == 200
        scene.server.store.remove("pets", [1])
        deadline = time.monotonic() + 60
        while client.get(url).status_code == 200:
            assert time.monotonic() < deadline


def test_damage_hides_nothing_else(scene: Scene) -> None:
    """A version of which a page is gone leaves the chunks of the others readable."""
    store = scene.server.store
    pets = min(ids_of(store, "pets"))
    data = encode_page([Entry(f"f{number:05}/", EntryKind.FOLDER) for number in range(1)])
    with scene.client("all") as client:
        frame = frame_of([data], ChunkKind.PAGE)
        key, pack = pack_of((frame, data), pack_class=PackClass.METADATA)
        assert put(client, key, pack).status_code == 201
        assert put(client, *segment_of(indexed(pack))).status_code == 201
        answer = client.get("/v1/objects/refs/pets")
        ref, version = decode_ref(answer.content, "ref"), answer.headers["etag"]
        pages = [[chunk_id(ChunkKind.PAGE, data), "f00000/", 1, [], None]]
        draft = Draft([], root={5: [1, 0, 0], 7: pages}, dataset="pets", record={"files": 1})
        assert commit(client, draft, ref, version).status_code == 200
    scene.backend.delete([key])
    with scene.client("pets", "pets") as client:
        assert client.get(f"/v1/objects/chunks/data/{pets.hex()}").status_code == 200
        page = chunk_id(ChunkKind.PAGE, data)
        assert client.get(f"/v1/objects/chunks/page/{page.hex()}").status_code == 500
