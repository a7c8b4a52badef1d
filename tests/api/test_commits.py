"""Refs that lie: no version becomes visible that the server has not gone through."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chunkstore import HttpOptions, Store, layout
from chunkstore.backends.base import CreateOnly
from chunkstore.format.blob import encode_list, make_blob
from chunkstore.format.gc import GcState, encode_condemned, encode_gc_state
from chunkstore.format.pack import PackClass
from chunkstore.format.ref import Ref, decode_ref, empty_ref, encode_ref
from chunkstore.ids import ChunkKind, ManifestId, chunk_id
from chunkstore.testing.trees import random_bytes
from tests.api.conftest import Served, serving
from tests.api.forging import (
    OBJECTS,
    Draft,
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

CONTENT = b"what a file holds"
OTHER = b"what no file holds yet"
NEVER = b"what is never stored"
_names = (f"d{number}" for number in itertools.count())


class Dataset:
    """A dataset of the shared server, with one good version."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.name = next(_names)
        self.key = layout.ref_key(self.name)
        store_chunks(served.client, CONTENT, self.name.encode())
        first = empty_ref(self.name)
        answer = put(served.client, self.key, encode_ref(first))
        assert answer.status_code == 201
        answer = commit(served.client, self.draft(), first, answer.headers["etag"])
        assert answer.status_code == 200, answer.text

    def draft(self, *pages: list[list[Any]], **more: Any) -> Draft:
        """Return a version of this dataset; without pages a good one."""
        good = [[file_entry("a", CONTENT), file_entry("b", self.name.encode())]]
        return Draft(pages or good, dataset=self.name, **more)

    @property
    def now(self) -> tuple[Ref, str]:
        """The ref, and the version of the object."""
        answer = self.served.client.get(f"{OBJECTS}/{self.key}")
        return decode_ref(answer.content, self.key), answer.headers["etag"]

    def refuses(self, ref: Ref, status: int, code: str) -> dict[str, object]:
        """Check that a ref is refused and the one that is there stays."""
        before, version = self.now
        answer = put(self.served.client, self.key, encode_ref(ref), version)
        found = self.served.problem(answer, status, code)
        assert self.now == (before, version)
        return found

    def refuses_version(self, draft: Draft, status: int, code: str) -> dict[str, object]:
        """Check that a version is refused."""
        before, version = self.now
        found = self.served.problem(
            commit(self.served.client, draft, before, version), status, code
        )
        assert self.now == (before, version)
        return found

    def takes(self, draft: Draft) -> None:
        """Check that a version is committed."""
        answer = commit(self.served.client, draft, *self.now)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def dataset(shared: Served) -> Dataset:
    """A new dataset of the shared server."""
    return Dataset(shared)


def test_a_good_version_is_taken(dataset: Dataset) -> None:
    """Pages of any number, links, empty folders, files that share chunks."""
    dataset.takes(
        dataset.draft(
            [file_entry("a", CONTENT), ["b", 2, "a"], file_entry("c-d", CONTENT)],
            [["c/", 1], file_entry("e/f", CONTENT)],
        )
    )
    names = [entry.path for entry in dataset.served.store.entries(dataset.name)]
    assert names == ["a", "b", "c-d", "c/", "e/f"]


def test_chunks_that_are_not_there_are_named(dataset: Dataset) -> None:
    """A file, a page or a list of which nothing is stored: 409, and the id is told."""
    lost = chunk_id(ChunkKind.DATA, NEVER)
    problem = dataset.refuses_version(
        dataset.draft([file_entry("a", NEVER)]), 409, "missing_object"
    )
    assert lost.hex() in str(problem["detail"])
    draft = dataset.draft()
    pages = [[lost, "a", 2, [], None]]
    dataset.refuses_version(dataclasses.replace(draft, root={7: pages}), 409, "missing_object")
    listed = file_entry("a", CONTENT, depth=1, ids=lost, sizes=len(CONTENT).to_bytes(8, "little"))
    dataset.refuses_version(dataset.draft([listed]), 409, "missing_object")


def test_a_manifest_must_be_there(dataset: Dataset) -> None:
    """A ref that names a manifest which nobody stored: 409."""
    ref, _ = dataset.now
    record = dataset.draft().recorded(2)._replace(manifest_id=ManifestId(bytes(range(32))))
    dataset.refuses(
        follow(ref, versions=(*ref.versions, record), next_number=3), 409, "missing_object"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": (5).to_bytes(4, "little"), "size": 5},
        {"sizes": (1 << 20).to_bytes(4, "little"), "size": 1 << 20},
    ],
)
def test_sizes_are_those_of_the_chunks(dataset: Dataset, change: dict[str, Any]) -> None:
    """A file that says of a chunk that it is shorter or longer is refused."""
    dataset.refuses_version(
        dataset.draft([file_entry("a", CONTENT, **change)]), 422, "invalid_object"
    )


@pytest.mark.parametrize(
    "pages",
    [
        [["a", "b"], ["b"]],
        [["a", "c"], ["b"]],
        [["a"], ["a/b"]],
        [["a", "a-"], ["a/b"]],
        [["a"], ["a-"], ["a/b/c"]],
        [["a/b", "c"], ["c/"]],
        [["c/"], ["c/d"]],
        [["x"], ["x!"], ["x/"], ["y"]],
    ],
)
def test_paths_are_in_order_over_pages(dataset: Dataset, pages: list[list[str]]) -> None:
    """Twice the same path, another order, a path below a file or an empty folder: refused."""
    made = [
        [[path, 1] if path.endswith("/") else file_entry(path, CONTENT) for path in page]
        for page in pages
    ]
    dataset.refuses_version(dataset.draft(*made), 422, "invalid_object")


def test_what_is_below_a_name_is_found_behind_pages_that_are_known(dataset: Dataset) -> None:
    """A new page is held against the old ones that stay, before and behind it."""
    old = [[file_entry(path, CONTENT)] for path in ("a", "a-x", "b/y", "c")]
    dataset.takes(dataset.draft(*old))
    below = [old[0], old[1], [file_entry("a/b", CONTENT)], *old[2:]]
    dataset.refuses_version(dataset.draft(*below), 422, "invalid_object")
    above = [*old[:2], [file_entry("b", CONTENT)], *old[2:]]
    dataset.refuses_version(dataset.draft(*above), 422, "invalid_object")
    folder = [*old[:2], [["b/", 1]], *old[2:]]
    dataset.refuses_version(dataset.draft(*folder), 422, "invalid_object")
    dataset.takes(dataset.draft(*old[:2], [file_entry("a0", CONTENT)], *old[2:]))


@pytest.mark.parametrize("total", [0, 1, 1 << 40])
def test_totals_are_those_of_the_files(dataset: Dataset, total: int) -> None:
    """The size of a version is that of its files, of old pages and new."""
    draft = dataset.draft([file_entry("a", CONTENT)], [file_entry("b", CONTENT)])
    wrong = dataclasses.replace(draft, root={5: [2, total, 0]}, record={"size": total})
    dataset.refuses_version(wrong, 422, "invalid_object")
    dataset.takes(draft)
    more = dataset.draft(*draft.pages, [file_entry("c", CONTENT)])
    wrong = dataclasses.replace(more, root={5: [3, total, 0]}, record={"size": total})
    dataset.refuses_version(wrong, 422, "invalid_object")
    dataset.takes(more)


@pytest.mark.parametrize(
    "record",
    [{"files": 3}, {"size": 1}, {"new_bytes": 1}, {"message": "other"}, {"created_ns": 2}],
)
def test_a_ref_says_what_the_manifest_says(dataset: Dataset, record: dict[str, Any]) -> None:
    """Files, sizes, message and time in the ref are those of the manifest."""
    draft = dataclasses.replace(dataset.draft(), record=record)
    dataset.refuses_version(draft, 422, "invalid_object")


def test_a_version_is_of_its_own_dataset(dataset: Dataset) -> None:
    """A manifest of another dataset is not committed."""
    ref, version = dataset.now
    draft = dataclasses.replace(dataset.draft(), dataset="another")
    data = draft.manifest()
    put(dataset.served.client, layout.manifest_key(draft.recorded(2).manifest_id), data)
    dataset.refuses(with_version(ref, draft), 422, "invalid_object")
    assert dataset.now == (ref, version)


def lists_of(served: Served, depth: int, width: int) -> tuple[bytes, int]:
    """Store lists that each name the one below `width` times; return id and size of the top."""
    identifier, size = chunk_id(ChunkKind.DATA, CONTENT), len(CONTENT)
    for level in range(depth):
        blob = make_blob(level, identifier * width, [size] * width)
        data = encode_list(blob)
        frame = frame_of([data], ChunkKind.LIST)
        key, pack = pack_of((frame, data), pack_class=PackClass.METADATA)
        assert put(served.client, key, pack).status_code == 201
        assert put(served.client, *segment_of(indexed(pack))).status_code == 201
        identifier, size = chunk_id(ChunkKind.LIST, data), blob.size
    return identifier, size


def test_lists_of_lists_of_lists_cost_little(dataset: Dataset) -> None:
    """A file of 17 * 500^3 bytes in three lists is gone through list by list."""
    identifier, size = lists_of(dataset.served, 3, 500)
    entry = file_entry(
        "a", CONTENT, depth=3, size=size, ids=identifier, sizes=size.to_bytes(8, "little")
    )
    dataset.takes(dataset.draft([entry]))
    shorter = file_entry(
        "a", CONTENT, depth=3, size=size - 1, ids=identifier, sizes=(size - 1).to_bytes(8, "little")
    )
    dataset.refuses_version(dataset.draft([shorter]), 422, "invalid_object")
    flat = file_entry(
        "a", CONTENT, depth=2, size=size, ids=identifier, sizes=size.to_bytes(8, "little")
    )
    dataset.refuses_version(dataset.draft([flat]), 422, "invalid_object")


@pytest.mark.parametrize(
    "edit",
    [
        lambda ref: ref,
        lambda ref: follow(ref, sequence=ref.sequence),
        lambda ref: follow(ref, sequence=ref.sequence + 2),
        lambda ref: follow(ref, nonce=ref.nonce, nonces=(ref.nonce, *ref.nonces)),
        lambda ref: follow(ref, nonces=(follow(ref).nonce,)),
        lambda ref: follow(ref, nonces=(follow(ref).nonce, *ref.nonces[1:])),
        lambda ref: follow(ref, next_number=ref.next_number + 1),
        lambda ref: follow(ref, next_number=ref.next_number + 5, versions=()),
        lambda ref: follow(ref, tags=(("latest", 1),)),
        lambda ref: follow(ref, tags=(("7", 1),)),
        lambda ref: follow(ref, dataset="another"),
        lambda ref: follow(
            ref,
            versions=(*ref.versions, ref.versions[0]._replace(number=ref.next_number + 1_000_000)),
            next_number=ref.next_number + 1_000_001,
        ),
    ],
)
def test_history_is_not_made_up(dataset: Dataset, edit: Callable[[Ref], Ref]) -> None:
    """Writes that do not follow, nonces that were there, numbers that are not next: refused."""
    ref, _ = dataset.now
    dataset.refuses(edit(ref), 422, "invalid_object")


def test_numbers_may_be_passed_over(dataset: Dataset) -> None:
    """A copy of a dataset of which versions were dropped keeps the numbers."""
    ref, version = dataset.now
    draft = dataset.draft([file_entry("x", CONTENT)])
    data = draft.manifest()
    put(dataset.served.client, layout.manifest_key(draft.recorded(9).manifest_id), data)
    ahead = follow(ref, versions=(*ref.versions, draft.recorded(9)), next_number=10)
    answer = put(dataset.served.client, dataset.key, encode_ref(ahead), version)
    assert answer.status_code == 200, answer.text


def test_an_old_ref_is_not_put_back(dataset: Dataset) -> None:
    """A replay of what was once there is refused, whatever version it names."""
    old, old_version = dataset.now
    dataset.takes(dataset.draft([file_entry("new", CONTENT)]))
    now, version = dataset.now
    client, key = dataset.served.client, dataset.key
    dataset.served.problem(put(client, key, encode_ref(old), old_version), 412, "condition_failed")
    dataset.served.problem(put(client, key, encode_ref(old), version), 422, "invalid_object")
    dataset.served.problem(put(client, key, encode_ref(old)), 422, "invalid_object")
    dataset.served.problem(
        put(client, key, encode_ref(empty_ref(dataset.name))), 412, "condition_failed"
    )
    assert dataset.now == (now, version)


def test_a_dataset_begins_empty(dataset: Dataset) -> None:
    """The first ref of a name has no versions, tags or past."""
    ref, _ = dataset.now
    name = next(_names)
    first = empty_ref(name)
    for wrong in (
        dataclasses.replace(ref, dataset=name),
        dataclasses.replace(first, next_number=5),
        dataclasses.replace(first, sequence=2),
        dataclasses.replace(first, gc_generation=1),
        dataclasses.replace(first, nonces=(first.nonce, bytes(16))),
    ):
        answer = put(dataset.served.client, layout.ref_key(name), encode_ref(wrong))
        dataset.served.problem(answer, 422, "invalid_object")
    answer = put(dataset.served.client, layout.ref_key(name), encode_ref(first), '"1"')
    dataset.served.problem(answer, 412, "condition_failed")
    assert name not in dataset.served.store.datasets()


def test_bytes_that_are_no_ref(dataset: Dataset) -> None:
    """Damaged, cut or foreign bytes are refused."""
    ref, version = dataset.now
    data = encode_ref(with_version(ref, dataset.draft()))
    for at in range(0, len(data), 7):
        damaged = data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :]
        answer = put(dataset.served.client, dataset.key, damaged, version)
        dataset.served.problem(answer, 422, "invalid_object")
    for other in (b"", data[:-1], data + b"x", dataset.draft().manifest()):
        answer = put(dataset.served.client, dataset.key, other, version)
        dataset.served.problem(answer, 422, "invalid_object")


def test_a_collection_fences_commits(dataset: Dataset) -> None:
    """A ref of before a collection goes back to W5; what is condemned is not referred to."""
    storage = dataset.served.store.objects.backend
    doomed = store_chunks(dataset.served.client, OTHER, b"doomed")
    dataset.takes(dataset.draft([file_entry("a", OTHER)]))
    ref, version = dataset.now
    condemned = "gc/condemned/1-test"
    storage.put(condemned, [encode_condemned(frozenset([doomed.pack_id]))], CreateOnly())
    storage.put(layout.GC_CURRENT, [encode_gc_state(GcState(1, condemned))], CreateOnly())
    try:
        draft = dataset.draft([file_entry("b", b"doomed")])
        stale = commit(dataset.served.client, draft, ref, version)
        dataset.served.problem(stale, 412, "condition_failed")
        fenced = dataclasses.replace(with_version(ref, draft), gc_generation=1)
        dataset.refuses(fenced, 409, "missing_object")
        store_chunks(dataset.served.client, b"doomed")
        answer = put(dataset.served.client, dataset.key, encode_ref(fenced), version)
        assert answer.status_code == 200, answer.text
    finally:
        storage.delete([layout.GC_CURRENT, condemned])


def test_of_racing_servers_one_wins(dataset: Dataset) -> None:
    """Two processes judge two commits of one state of a ref; one is told to read it again."""
    ref, version = dataset.now
    with serving(dataset.served.store) as other:
        one = commit(dataset.served.client, dataset.draft(), ref, version)
        two = commit(other.client, dataset.draft([file_entry("z", CONTENT)]), ref, version)
    assert one.status_code == 200
    dataset.served.problem(two, 412, "condition_failed")


def test_versions_are_dropped_and_never_numbered_again(dataset: Dataset) -> None:
    """Who may admin drops versions; the next one has the next number."""
    ref, version = dataset.now
    dropped = follow(ref, versions=())
    assert put(dataset.served.client, dataset.key, encode_ref(dropped), version).status_code == 200
    ref, version = dataset.now
    again = dataset.draft().recorded(1)
    dataset.refuses(follow(ref, versions=(again,)), 422, "invalid_object")
    dataset.takes(dataset.draft())
    assert [record.number for record in dataset.now[0].versions] == [2]
    changed = tuple(record._replace(message="x") for record in dataset.now[0].versions)
    dataset.refuses(follow(dataset.now[0], versions=changed), 422, "invalid_object")


def test_a_list_is_no_part_of_a_file(dataset: Dataset) -> None:
    """A chunk of metadata under a file is not there, though its id and size are."""
    identifier, _ = lists_of(dataset.served, 1, 3)
    data = encode_list(make_blob(0, chunk_id(ChunkKind.DATA, CONTENT) * 3, [len(CONTENT)] * 3))
    assert chunk_id(ChunkKind.LIST, data) == identifier
    entry = file_entry("a", data, ids=identifier)
    dataset.refuses_version(dataset.draft([entry]), 409, "missing_object")


def test_many_push_through_two_servers(served: Served, tmp_path: Path) -> None:
    """Pushes to one dataset by two processes at once: each becomes a version, none is lost."""
    with serving(served.store) as other:

        def push(number: int) -> int | None:
            tree = tmp_path / str(number)
            tree.mkdir()
            (tree / "file").write_bytes(random_bytes(150_000, number))
            address = (served.address, other.address)[number % 2]
            with Store.open(address, http=HttpOptions(), cache_folder=tree / "cache") as store:
                return store.push(tree / "file", "pets", name="file").version

        with ThreadPoolExecutor(4) as pool:
            numbers = list(pool.map(push, range(6)))
    assert sorted(number for number in numbers if number) == [1, 2, 3, 4, 5, 6]
    for number, version in enumerate(numbers):
        with served.store.open_file(f"pets@{version}:file") as file:
            assert file.read() == random_bytes(150_000, number)
