"""A store behind a server is used like any other: same deduplication, same verbs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from chunkstore_api import narrow
from chunkstore_api.tokens import Right

from chunkstore import (
    BackendError,
    HttpOptions,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    Store,
    UnavailableError,
)
from chunkstore.backends.base import CreateOnly
from chunkstore.backends.http_client import Call, HttpClient
from chunkstore.compaction import MOST_SEGMENTS
from chunkstore.errors import ConditionFailedError, KeyAbsentError, MissingObjectError
from chunkstore.format.ref import Ref, empty_ref, encode_ref
from chunkstore.testing import servers
from chunkstore.testing.line import Answer, Line, Request, running
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.api.conftest import serving, tokens_file
from tests.cli.conftest import Place as Desk
from tests.conftest import Place
from tests.wire.server_process import server_process

MIB = 1 << 20


@dataclass
class Guarded:
    """A server that asks for tokens, the store behind it, and clients of it."""

    address: str
    behind: Store
    tokens: dict[str, str]
    folder: Path

    @contextlib.contextmanager
    def as_(self, name: str, cache: str | None = None) -> Iterator[Store]:
        """Open the store through the server with the token of a name."""
        options = HttpOptions(token=self.tokens[name])
        folder = self.folder / f"cache-{cache or name}"
        with Store.open(self.address, http=options, cache_folder=folder, deadline=20) as store:
            yield store


@contextlib.contextmanager
def guarded(store: Store, folder: Path) -> Iterator[Guarded]:
    file, tokens = tokens_file(
        folder,
        reader=(Right.READ, "*"),
        writer=(Right.WRITE, "*"),
        admin=(Right.ADMIN, "*"),
        team=(Right.WRITE, "team/*"),
        guest=(Right.READ, "team/*"),
    )
    with serving(store, tokens=file.path) as served:
        yield Guarded(served.address, store, tokens, folder)


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Guarded]:
    with guarded(store, tmp_path) as opened:
        yield opened


def numbers(store: Store, dataset: str) -> list[int]:
    return [version.number for version in store.dataset(dataset).versions]


@pytest.mark.parametrize("place", ["folder", "minio"], indirect=True)
@pytest.mark.parametrize("tokens", [False, True])
def test_push_and_pull(place: Place, tmp_path: Path, tree: Path, tokens: bool) -> None:
    """What is pushed and pulled through a server moves and stores just what it would without."""
    (tree / "large.bin").write_bytes(random_bytes(3 * MIB, 1))
    with Store.create(str(tmp_path / "other"), cache_folder=tmp_path / "other-cache") as plain:
        expected = [plain.push(tree, "data").stats]
        (tree / "large.bin").write_bytes(random_bytes(3 * MIB, 1)[:-5] + b"other")
        expected.append(plain.push(tree, "data").stats)
    (tree / "large.bin").write_bytes(random_bytes(3 * MIB, 1))
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(place.create())
        if tokens:
            client = stack.enter_context(
                stack.enter_context(guarded(behind, tmp_path)).as_("writer")
            )
        else:
            address = stack.enter_context(serving(behind)).address
            client = stack.enter_context(Store.open(address, cache_folder=tmp_path / "cache"))
        found = [client.push(tree, "data").stats]
        (tree / "large.bin").write_bytes(random_bytes(3 * MIB, 1)[:-5] + b"other")
        found.append(client.push(tree, "data").stats)
        for mine, theirs in zip(found, expected, strict=True):
            assert (mine.new_bytes, mine.new_files) == (theirs.new_bytes, theirs.new_files)
            assert abs(mine.sent_bytes - theirs.sent_bytes) < 2000  # times are not alike
        assert client.push(tree, "data").unchanged
        pulled = client.pull("data", tmp_path / "out").stats
        assert pulled.fetched_bytes > 3 * MIB
        assert tree_state(tmp_path / "out") == tree_state(tree)
        assert client.pull("data@1", tmp_path / "out").stats.fetched_bytes < MIB
        client.tag("data@1", "first")
        assert client.dataset_stat("data").versions == 2
        assert client.stat().datasets == 1
        assert behind.version("data@first").number == 1
        with client.open_file("data:large.bin") as file:
            file.seek(-5, 2)
            assert file.read() == b"other"


def test_objects_are_those_of_the_storage(server: Guarded, tree: Path) -> None:
    """Every object is got, whole and by ranges, and listed through a server as it is stored."""
    server.behind.push(tree, "data")
    server.behind.push(tree, "team/a", message="again")
    behind = server.behind.objects.backend
    with server.as_("admin") as store:
        through = store.objects.backend
        for prefix in ("", "packs/", "index/", "manifests/", "refs/", "gc/", "nothing/"):
            stored = list(behind.list(prefix))
            assert list(through.list(prefix)) == stored
            for info in stored:
                assert list(through.list(prefix, after=info.key)) == [
                    other for other in stored if other.key > info.key
                ]
        for info in behind.list(""):
            fetched = behind.get(info.key)
            assert through.get(info.key) == fetched
            told = through.head(info.key)
            assert replace(told, modified=info.modified) == info
            assert abs(told.modified - info.modified) < 0.001
            for start, end in ((0, 1), (info.length - 1, info.length), (3, info.length - 3)):
                assert through.get(info.key, (start, end)).data == fetched.data[start:end]
            with pytest.raises(UnavailableError) as short:
                through.get(info.key, (1, info.length + 1))
            assert not short.value.retryable
        for kind in ("packs/aa/aa", "index/", "manifests/"):
            key = kind + "a" * 62 + ("" if kind.startswith("packs") else "aa")
            for call in (through.get, through.head):
                with pytest.raises(KeyAbsentError):
                    call(key)
            through.delete([key])
        with pytest.raises(ConditionFailedError):
            through.put("refs/data", [encode_ref(empty_ref("data"))], CreateOnly())
        for key in ("config", "free", "packs/free", "refs/UPPER", "gc/other"):
            with pytest.raises(BackendError) as refused:
                through.put(key, [b"x"], CreateOnly())
            assert not refused.value.retryable
        assert list(through.list("")) == list(behind.list(""))


def test_rights(server: Guarded, tree: Path) -> None:
    """Who may read does not write, who may write drops nothing, and an admin may all."""
    with server.as_("writer") as store:
        store.push(tree, "data")
        store.tag("data@1", "kept")
        with pytest.raises(PermissionDeniedError):
            store.remove("data", [1])
    with server.as_("reader") as store:
        assert numbers(store, "data") == [1]
        (tree / "more").write_bytes(b"more")
        for change in (
            lambda: store.push(tree, "data"),
            lambda: store.tag("data@1", "other"),
            lambda: store.untag("data", "kept"),
        ):
            with pytest.raises(PermissionDeniedError) as caught:
                change()
            assert caught.value.hint
        assert server.behind.stat().packs == 1  # nothing was sent in vain
    with server.as_("admin") as store:
        store.untag("data", "kept")
        store.push(tree, "data")
        store.remove("data", [1])
        assert numbers(store, "data") == [2]


def test_a_writer_without_the_right_to_delete_merges_nothing(
    server: Guarded, tmp_path: Path
) -> None:
    """Where segments are many, who may not delete them leaves them; the next admin merges them."""
    source = tmp_path / "source"
    source.mkdir()
    with server.as_("writer") as store:
        for number in range(MOST_SEGMENTS + 2):
            (source / "file").write_bytes(random_bytes(100_000, number))
            store.push(source, "data")
        assert store.stat().index_segments > MOST_SEGMENTS
    with server.as_("admin") as store:
        (source / "file").write_bytes(random_bytes(100_000, 1000))
        store.push(source, "data")
        assert store.stat().index_segments <= MOST_SEGMENTS
        assert store.pull("data@1", tmp_path / "out").stats.written_bytes == 100_000


# a token for some datasets


def test_a_narrow_token_sees_its_own(server: Guarded, tree: Path, tmp_path: Path) -> None:
    """A dataset out of reach is as one that is not there, for reading and for writing."""
    server.behind.push(tree, "secret")
    server.behind.push(tree, "team/a")
    for name in ("team", "guest"):
        with server.as_(name) as store:
            assert store.datasets() == ["team/a"]
            for dataset in ("secret", "nothing"):
                with pytest.raises(NotFoundError) as caught:
                    store.dataset(dataset)
                assert "secret" not in (caught.value.hint or "")
    with server.as_("team") as store:
        packs = server.behind.stat().packs
        with pytest.raises(PermissionDeniedError) as refused:
            store.push(tree, "secret")
        assert "does not reach the dataset 'secret'" in refused.value.message
        assert server.behind.stat().packs == packs  # nothing was sent in vain
        assert numbers(server.behind, "secret") == [1]


def test_a_narrow_token_pushes_and_pulls(server: Guarded, tree: Path, tmp_path: Path) -> None:
    """A writer of some datasets pushes, sends only what these lack, and gets all back."""
    (tree / "large.bin").write_bytes(random_bytes(3 * MIB, 1))
    with server.as_("team") as store:
        first = store.push(tree, "team/a").stats
        assert store.push(tree, "team/a").unchanged
    (tree / "large.bin").write_bytes(random_bytes(3 * MIB, 1)[:-5] + b"other")
    with server.as_("team", cache="fresh") as store:
        second = store.push(tree, "team/a").stats
        assert second.new_bytes < first.new_bytes / 4
        store.pull("team/a", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(tree)
        store.tag("team/a@1", "first")
    with server.as_("guest") as store:
        assert store.pull("team/a@first", tmp_path / "two").stats.written_bytes > 3 * MIB
        assert next(store.diff("team/a@1", "team/a@2")).path == "large.bin"
        for measure in (store.stat, lambda: store.dataset_stat("team/a")):
            with pytest.raises(PermissionDeniedError):  # by a part of the index they would be wrong
                measure()


def test_a_narrow_token_reads_what_lies_among_others(server: Guarded, tmp_path: Path) -> None:
    """Chunks that share frames with another dataset's are got one by one, and all of them."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
    for number in range(60):
        data = random_bytes(3000, number)
        (theirs / f"{number:02}").write_bytes(data)
        if number % 3 == 0:
            (mine / f"{number:02}").write_bytes(data)
    (mine / "own").write_bytes(random_bytes(200_000, 99))
    server.behind.push(theirs, "secret")
    server.behind.push(mine, "team/a")
    with server.as_("guest") as store:
        store.pull("team/a", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(mine)
        with store.open_file("team/a:03") as file:
            assert file.read() == random_bytes(3000, 3)
    with server.as_("team") as store:
        (mine / "new").write_bytes(b"new")
        assert store.push(mine, "team/a").version == 2
        store.pull("team/a", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(mine)


def test_a_push_begins_again_where_its_ground_is_gone(
    server: Guarded, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version whose chunks a push refers to is dropped before it commits: it sends them."""
    monkeypatch.setattr(narrow, "_FRESH", 0.0)
    with server.as_("team") as store:
        store.push(tree, "team/a")
        (tree / "more.bin").write_bytes(random_bytes(100_000, 1))
        put, dropped = store.objects.put_ref, []

        def meddling(ref: Ref, replaces: str | None) -> str:
            if not dropped:
                dropped.extend(server.behind.remove("team/a", [1]))
            return put(ref, replaces)

        monkeypatch.setattr(store.objects, "put_ref", meddling)
        again = store.push(tree, "team/a")
        assert again.version == 2
        assert again.stats.new_bytes > 100_000
        assert numbers(server.behind, "team/a") == [2]
        assert server.behind.verify(level="data").well


def test_a_copy_begins_again_where_its_ground_is_gone(
    server: Guarded, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a push does; the version is not taken for damaged."""
    with (
        Store.create(str(tmp_path / "source"), cache_folder=tmp_path / "mine") as source,
        server.as_("writer") as target,
    ):
        source.push(tree, "data")
        put, refused = target.objects.put_ref, []

        def meddling(ref: Ref, replaces: str | None) -> str:
            if ref.versions and not refused:
                refused.append(ref)
                raise MissingObjectError("409")
            return put(ref, replaces)

        monkeypatch.setattr(target.objects, "put_ref", meddling)
        result = source.copy(target, ["data"])
        assert refused
        assert (len(result.versions), result.failed) == (1, ())


def test_keep_by_a_narrow_token(server: Guarded, tmp_path: Path) -> None:
    """One file is put beside the others by who has some datasets only."""
    tree = make_tree(tmp_path / "tree", files=12)
    file = tmp_path / "new.bin"
    file.write_bytes(random_bytes(50_000, 5))
    with server.as_("team") as store:
        store.push(tree, "team/a")
        store.push(file, "team/a", name="beside.bin", keep=True)
        store.pull("team/a", tmp_path / "out")
    (tree / "beside.bin").write_bytes(file.read_bytes())
    assert tree_state(tmp_path / "out", times=False).keys() == tree_state(tree, times=False).keys()


# direct transfers


def test_bulk_goes_past_the_server(
    minio: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --direct packs go straight to and from MinIO; who cannot is served all the same."""
    url = minio.store_url("tests", tmp_path.name)
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin").write_bytes(random_bytes(4 * MIB, 1))
    Store.create(url, s3=minio.options, cache_folder=tmp_path / "cache").close()
    with (
        server_process(url, tmp_path, "--direct") as server,
        running(Meter(server.port)) as line,
    ):
        with Store.open(line.endpoint, cache_folder=tmp_path / "cache") as store:
            assert store.push(source, "data").stats.sent_bytes > 4 * MIB
            store.pull("data", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(source)
        assert line.moved < MIB
        monkeypatch.setattr(HttpClient, "send_elsewhere", _no_way)
        with Store.open(line.endpoint, cache_folder=tmp_path / "cache") as store:
            (source / "a.bin").write_bytes(random_bytes(4 * MIB, 2))
            store.push(source, "data")
            store.pull("data", tmp_path / "out")
        assert tree_state(tmp_path / "out") == tree_state(source)
        assert line.moved > 8 * MIB


class Meter(Line):
    """A line that counts the bytes of all bodies."""

    moved = 0

    def handle(self, request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
        """Pass everything on."""
        answer = forward(request)
        self.moved += len(request.body) + len(answer.body)
        return answer


def _no_way(client: HttpClient, call: Call, *_: object, **__: object) -> Answer:
    raise client.unusable(call, "blocked")


# the library


def test_no_store_is_created_through_a_server(server: Guarded) -> None:
    """`create` says where stores are created."""
    with pytest.raises(InvalidInputError) as caught:
        Store.create(server.address)
    assert "serve" in (caught.value.hint or "")


# the command line


@pytest.fixture
def desk(server: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder in which commands are run, with the server as the store."""
    folder = tmp_path / "home" / "work"
    folder.mkdir(parents=True)
    desk = Desk(folder, monkeypatch)
    desk.variable("CHUNKSTORE_STORE", server.address)
    desk.variable("CHUNKSTORE_DEADLINE", "20")
    return desk


def test_every_verb(server: Guarded, desk: Desk) -> None:
    """Each verb does through a server what it does on a folder."""
    desk.variable("CHUNKSTORE_TOKEN", server.tokens["admin"])
    desk.file("data/a.txt", "a\n")
    desk.file("data/b/c.txt", "c\n")
    desk.well("push", "data", "pets", "-m", "first")
    desk.file("data/a.txt", "other\n")
    assert "a.txt" in desk.well("status", "data", "pets").text
    desk.well("push", "data", "pets", "--tag", "v2")
    assert desk.well("ls", "-q").lines == ["pets"]
    assert "c.txt" in desk.well("ls", "pets@v2:b").text
    assert desk.well("cat", "pets@1:a.txt").output == b"a\n"
    assert "a.txt" in desk.well("diff", "pets@1", "pets@2").text
    assert "first" in desk.well("log", "pets").text
    desk.well("tag", "pets@1", "old")
    desk.well("stat", "pets")
    assert desk.well("stat", "--json").document["versions"] == 2
    desk.well("pull", "pets", "out")
    assert (desk.folder / "out/a.txt").read_text() == "other\n"
    desk.well("rm", "pets@1", "--yes")
    assert "1" in desk.well("undo", "pets", "--list").lines[1]
    assert "pets@1" in desk.well("undo", "pets").text
    desk.well("run", "--in", "pets@old=in", "--out", "made=job", "--", "cp", "-r", "in", "made")
    assert desk.well("cat", "job:a.txt").output == b"a\n"
    archive = desk.file("pets.tar", desk.well("pull", "pets", "--tar", "-").output)
    desk.well("push", "--tar", str(archive), "tarred")
    desk.well("verify", "--read-data")
    desk.well("repair")
    desk.well("rm", "job@1", "--yes")
    none = ("--grace", "0s", "--reader-grace", "0s")
    desk.well("gc", "--apply", "--yes", "--force", *none)
    assert "brought back" in desk.failing(4, "undo", "job")
    desk.well("init", "../mirror")
    desk.well("copy", "pets", "../mirror:")
    text = desk.well("doctor").text
    assert "admin on all datasets" in text
    assert "honours conditional writes" in text
    assert "not created through a server" in desk.failing(2, "init")


def test_how_to_give_a_token(server: Guarded, desk: Desk) -> None:
    """Without a token the ways to give one are named; each of them works."""
    errors = desk.failing(5, "ls")
    assert "CHUNKSTORE_TOKEN" in errors
    assert "--token-file" in errors
    file = desk.file("token", server.tokens["reader"] + "\n")
    file.chmod(0o600)
    desk.well("remote", "add", "team", server.address, "--token-file", "token")
    desk.well("ls", "-s", "team")
    desk.variable("CHUNKSTORE_TOKEN_FILE", str(file))
    desk.well("ls")
    desk.variable("CHUNKSTORE_TOKEN", "cs_of_nobody")
    assert "another token" in desk.failing(5, "ls")
    desk.well("ls", "-s", "team")  # what the address says goes first
    file.chmod(0o644)
    assert "chmod" in desk.failing(5, "ls", "-s", "team")
    assert "no token file" in desk.failing(4, "ls", "-s", f"{server.address}?token_file=none")


def test_the_token_is_never_told_or_written(server: Guarded, desk: Desk) -> None:
    """No token stands in any output, JSON, debug log, settings file or cache."""
    secret = server.tokens["reader"].rpartition("_")[2]
    desk.variable("CHUNKSTORE_TOKEN", server.tokens["reader"])
    server.behind.push(make_tree(desk.folder / "data"), "pets")
    desk.well("remote", "add", "lab", server.address, "--default")
    for command in (
        ["pull", "pets", "out"],
        ["push", "data", "other"],
        ["ls", "nothing"],
        ["stat", "--json"],
        ["doctor"],
        ["ls", "-s", f"{server.address}/nowhere"],
        ["ls", "-s", "http://127.0.0.1:1"],
        ["remote", "list"],
    ):
        desk.variable("CHUNKSTORE_DEADLINE", "0")
        ended = desk.run("--debug", *command)
        assert secret not in ended.errors, command
        assert secret.encode() not in ended.output, command
    for path in desk.folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    for path in (desk.folder.parent / "cache").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
