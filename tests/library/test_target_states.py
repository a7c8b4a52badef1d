"""A pull into a folder in any state: what it keeps, what it replaces, what it says."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chunkstore import BackendError, FilesystemError, Item, RefusedError, Store
from chunkstore.backends.memory import MemoryBackend
from chunkstore.errors import UnavailableError
from chunkstore.filters import IGNORE_FILE
from chunkstore.objects import Objects
from chunkstore.target import fail, part_name
from chunkstore.testing.trees import random_bytes, tree_state
from chunkstore.walk import PART_PREFIX
from tests.library.forgery import CONTENT, Forged, file, folder, forge, link


@pytest.fixture
def version() -> Store:
    """A store with the files `a` and `d/e/f`, an empty folder `h/` and a link `l` to `a`."""
    return forge(Forged([[file("a"), file("d/e/f"), folder("h/"), link("l", "a")]]))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def names(root: Path) -> list[str]:
    """Return all paths below `root`, sorted; folders too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


WHOLE = ["a", "d", "d/e", "d/e/f", "h", "l"]


# targets that are no folders


@pytest.mark.parametrize("target", ["file", "file/below", "dangling", "loop", "a\0b", "x" * 300])
def test_a_target_that_can_be_no_folder_is_refused(
    version: Store, tmp_path: Path, target: str
) -> None:
    """The error names it and says what to give instead; what stands there stays."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FilesystemError, match="cannot restore into") as caught:
        version.pull("data", str(tmp_path / target))
    assert caught.value.hint is not None
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_missing_folders_above_the_target_are_made(version: Store, tmp_path: Path) -> None:
    """As `mkdir -p` does it; a target that is a link to a folder is that folder."""
    version.pull("data", tmp_path / "some" / "where" / "new")
    assert names(tmp_path / "some" / "where" / "new") == WHOLE
    (tmp_path / "alias").symlink_to(tmp_path / "some")
    version.pull("data", tmp_path / "alias")
    assert (tmp_path / "some" / "a").read_bytes() == CONTENT


# other people's


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach; the test runs as nobody where it may become that."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def as_nobody(run: Callable[[], object]) -> None:
    """Run something without the rights of root."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        run()
    finally:
        os.seteuid(os.getuid())


@pytest.mark.parametrize("place", ["", "d", "d/e"])
def test_a_read_only_folder_is_named(version: Store, shared: Path, place: str) -> None:
    """The error says which path cannot be written, and no part of a file stays."""
    target = shared / "out"
    (target / "d" / "e").mkdir(parents=True)
    for path in (target, target / "d", target / "d" / "e"):
        os.chown(path, 65534 if os.geteuid() == 0 else -1, -1)
    (target / place).chmod(0o555)
    if place == "d":  # what is to be made in it
        (target / place / "e").rmdir()

    def pull() -> None:
        with pytest.raises(FilesystemError, match="cannot write") as caught:
            version.pull("data", target)
        assert caught.value.hint == "check the permissions of the target folder"

    as_nobody(pull)
    assert not [name for name in names(target) if PART_PREFIX in name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_files_of_other_people_are_replaced_not_rewritten(version: Store, shared: Path) -> None:
    """In a folder of one's own another's file gives way to a new one, even an unreadable one."""
    target = shared / "out"
    target.mkdir()
    os.chown(target, 65534, -1)
    for name, content in (("a", b"theirs"), ("other", b"theirs too")):
        (target / name).write_bytes(content)
        (target / name).chmod(0o600)
    os.link(target / "a", shared / "their-name-of-it")
    as_nobody(lambda: version.pull("data", target))
    assert (target / "a").read_bytes() == CONTENT
    assert (target / "a").stat().st_uid == 65534
    assert (shared / "their-name-of-it").read_bytes() == b"theirs"
    assert (target / "other").read_bytes() == b"theirs too"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_another_s_file_that_is_right_is_left_alone(version: Store, shared: Path) -> None:
    """Where bytes, mode and time are right already, nothing needs to be allowed."""
    target = shared / "out"
    version.pull("data", target)
    as_nobody(lambda: version.pull("data", target))
    assert names(target) == WHOLE


def test_a_pull_that_finds_all_in_place_touches_nothing(version: Store, out: Path) -> None:
    """Not even the time of a folder changes."""
    version.pull("data", out)
    before = {name: (out / name).lstat().st_mtime_ns for name in (".", *WHOLE)}
    version.pull("data", out, delete=True)
    assert {name: (out / name).lstat().st_mtime_ns for name in (".", *WHOLE)} == before


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some room"),
        (errno.EEXIST, "other pull"),
        (errno.ENOENT, "removed meanwhile"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "another folder"),
    ],
)
def test_the_hint_of_what_cannot_be_written(number: int, words: str) -> None:
    """It goes by the reason: no room, another pull, a folder that went away, no right."""
    with pytest.raises(FilesystemError) as caught:
        fail(OSError(number, os.strerror(number)), "a")
    assert words in str(caught.value.hint)


# obstacles


@pytest.mark.parametrize("obstacle", ["empty folder", "folder", "link to folder"])
@pytest.mark.parametrize("name", ["a", "d/e/f", "l"])
def test_a_folder_where_a_file_belongs(
    version: Store, out: Path, tmp_path: Path, name: str, obstacle: str
) -> None:
    """Without --delete it stays and the file is named; with it the folder goes with all in it."""
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if obstacle == "link to folder":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        (place / "deep").mkdir(parents=True)
        (place / "deep" / "x").write_text("mine")
        if obstacle == "empty folder":
            shutil.rmtree(place / "deep")
    left_out = version.pull("data", out).left_out
    if obstacle == "link to folder":
        assert left_out == ()
        assert (tmp_path / "elsewhere").is_dir()
    else:
        assert left_out == ((name, "a folder stands where a file or link is needed"),)
        assert place.is_dir()
    assert version.pull("data", out, delete=True).left_out == ()
    assert names(out) == WHOLE


@pytest.mark.parametrize("name", ["d", "d/e", "h"])
@pytest.mark.parametrize("obstacle", ["file", "link", "pipe"])
def test_a_file_where_a_folder_belongs(version: Store, out: Path, name: str, obstacle: str) -> None:
    """Without --delete it stays and what belongs below is named; with it a file or link goes."""
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if obstacle == "file":
        place.write_text("mine")
    elif obstacle == "link":
        place.symlink_to("a")
    else:
        os.mkfifo(place)
    result = version.pull("data", out)
    assert [path for path, _ in result.left_out] == ["h/" if name == "h" else "d/e/f"]
    assert place.is_symlink() or not place.is_dir()
    assert version.pull("data", out, delete=True).left_out == ()
    assert names(out) == WHOLE


@pytest.mark.parametrize("name", ["a", "d/e/f", "l"])
@pytest.mark.parametrize("obstacle", ["pipe", "socket", "device"])
def test_what_is_no_file_where_a_file_belongs(
    version: Store, out: Path, name: str, obstacle: str
) -> None:
    """It is never replaced unasked, and a device not even by --delete."""
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = {"pipe": stat.S_IFIFO, "socket": stat.S_IFSOCK, "device": stat.S_IFCHR}[obstacle]
    try:
        os.mknod(place, 0o600 | mode, os.makedev(1, 7))  # the number of /dev/full
    except PermissionError:
        pytest.skip("making devices takes root")
    before = place.lstat()
    kind = "device" if obstacle == "device" else "pipe or socket"
    left_out = ((name, f"a {kind} stands where a file or link is needed"),)
    assert version.pull("data", out).left_out == left_out
    if name != "l":
        with pytest.raises(RefusedError, match="not a file"):
            version.pull(f"data:{name}", place)
    assert place.lstat() == before
    stays = obstacle == "device"
    assert version.pull("data", out, delete=True).left_out == (left_out if stays else ())
    assert (place.lstat() == before) is stays


@pytest.mark.parametrize("where", ["a", "d"])
def test_obstacles_that_are_ignored_are_kept_even_by_delete(
    version: Store, out: Path, where: str
) -> None:
    """A folder with an ignored file in it, or an ignored file, is never given up."""
    (out / IGNORE_FILE).write_text("*.key\n/d\n")
    if where == "a":
        (out / "a" / "deep").mkdir(parents=True)
        (out / "a" / "deep" / "my.key").write_text("mine")
        (out / "a" / "other").write_text("also")
    else:
        (out / "d").write_text("mine")
    before = tree_state(out)
    result = version.pull("data", out, delete=True)
    assert [path for path, _ in result.left_out] == ["a" if where == "a" else "d/e/f"]
    kept = "a/deep/my.key" if where == "a" else "d"
    assert tree_state(out)[kept] == before[kept]


def test_a_dry_run_changes_nothing_whatever_stands_there(version: Store, out: Path) -> None:
    """It names what a pull would leave out, and makes and removes nothing."""
    (out / "a" / "x").mkdir(parents=True)
    (out / "d").write_text("file")
    (out / "extra").write_text("x")
    before = tree_state(out)
    result = version.pull("data", out, dry_run=True)
    assert [path for path, _ in result.left_out] == ["a", "d/e/f"]
    assert result.stats.deleted == 0
    assert tree_state(out) == before
    result = version.pull("data", out, dry_run=True, delete=True)
    assert result.left_out == ()
    assert result.stats.deleted == 3
    assert tree_state(out) == before
    assert version.pull("data", out, delete=True).stats.deleted == 3


# --delete


def test_delete_keeps_what_is_ignored(version: Store, out: Path) -> None:
    """By ignore files of the target at any depth, and by the patterns of this pull."""
    (out / "sub" / "deep").mkdir(parents=True)
    (out / "sub" / IGNORE_FILE).write_text("*.tmp\n!keep-not.tmp\ndeep/\n")
    for name in ("x.tmp", "keep-not.tmp", "gone", "deep/any"):
        (out / "sub" / name).write_text("x")
    (out / "model.bin").write_text("x")
    version.pull("data", out, delete=True, exclude=["*.bin", ".chunkstoreignore"])
    assert (out / "model.bin").exists()
    assert sorted(os.listdir(out / "sub")) == [IGNORE_FILE, "deep", "x.tmp"]
    (out / "mine").write_text("x")
    (out / "other.txt").write_text("x")
    version.pull("data", out, delete=True, include=["*.txt"])
    assert (out / "mine").exists()
    assert (out / "a").exists()
    assert not (out / "other.txt").exists()


def test_delete_asks_patterns_for_the_paths_of_the_version(out: Path) -> None:
    """Also where only a folder of it is pulled."""
    store = forge(Forged([[file("data/train/x"), file("y")]]))
    (out / "keep.log").write_text("x")
    (out / "gone").write_text("x")
    store.pull("data:data/train", out, delete=True, exclude=["/data/train/*.log"])
    assert names(out) == ["keep.log", "x"]


def test_delete_leaves_folders_that_the_version_has_empty(version: Store, out: Path) -> None:
    """What is in such a folder goes, the folder stays; other folders that become empty go."""
    (out / "h" / "sub").mkdir(parents=True)
    (out / "h" / "sub" / "x").write_text("x")
    (out / "i" / "sub").mkdir(parents=True)
    (out / "i" / "sub" / "x").write_text("x")
    version.pull("data", out, delete=True)
    assert names(out) == WHOLE


def test_delete_keeps_what_no_version_can_hold(version: Store, out: Path) -> None:
    """Pipes, and names that are no paths, cannot have come from a push: they stay."""
    os.mkfifo(out / "pipe")
    (out / "new\nline").write_text("x")
    version.pull("data", out, delete=True)
    assert names(out) == sorted([*WHOLE, "pipe", "new\nline"])


def test_delete_finds_names_in_another_normal_form(out: Path) -> None:
    """A file spelt otherwise beside the version's own is removed under its own name."""
    store = forge(Forged([[file("\u00e9"), file("\u00fc/x")]]))
    (out / "e\u0301").write_text("twin")
    (out / "u\u0308").mkdir()
    (out / "u\u0308" / "x").write_text("twin")
    (out / "o\u0308").write_text("extra")
    store.pull("data", out, delete=True)
    assert names(out) == ["\u00e9", "\u00fc", "\u00fc/x"]


def test_delete_removes_parts_of_files_that_nobody_finishes(version: Store, out: Path) -> None:
    """An interrupted pull of another version leaves nothing for ever."""
    (out / f"{PART_PREFIX}{'0' * 32}").write_text("part")
    version.pull("data", out, delete=True)
    assert names(out) == WHOLE


# file systems that cannot tell names apart


def test_names_that_a_file_system_folds_are_left_out(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of names that differ in case the first is restored and the others are named."""
    monkeypatch.setattr("chunkstore.target._folds", lambda _: True)
    entries = [
        *(file("A/x"), file("B"), file("README"), file("Stra\u00dfe"), link("a", "/etc")),
        *(file("b/x"), file("d/Q"), link("d/q", "Q"), file("readme"), file("strasse")),
    ]
    result = forge(Forged([sorted(entries, key=lambda e: e[0].encode())])).pull("data", out)
    assert sorted(path for path, _ in result.left_out) == ["a", "b/x", "d/q", "readme", "strasse"]
    assert all("cannot tell" in reason for _, reason in result.left_out)
    assert names(out) == sorted(["A", "A/x", "B", "README", "Stra\u00dfe", "d", "d/Q"])


def test_delete_knows_files_that_a_file_system_folds(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the version that is on disk in another case is not taken for another file."""
    monkeypatch.setattr("chunkstore.target._folds", lambda _: True)
    (out / "Readme").write_text("what such a file system would show")
    (out / "extra").write_text("x")
    forge(Forged([[file("README")]])).pull("data", out, delete=True)
    assert "Readme" in names(out)
    assert "extra" not in names(out)


# going on


class Failing(MemoryBackend):
    """A backend that ends to answer after some ranges were read."""

    left = 1 << 30

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> object:  # type: ignore[override]
        if byte_range and key.startswith("packs/"):
            self.left -= 1
            if self.left < 0:
                raise UnavailableError("away", operation="get", key=key)
        return super().get(key, byte_range)


def test_a_pull_that_was_broken_off_goes_on(tmp_path: Path, out: Path) -> None:
    """Each attempt keeps what it verified: none of it is fetched again, and all comes together."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(random_bytes(60_000_000, 1))
    (source / "small").write_bytes(b"small")
    template = forge(Forged([[file("x")]]))
    backend = Failing()
    Objects(backend).create_config(template.config)
    store = Store(backend, template.config, None)
    store.push(source, "data")
    written = attempts = 0
    while True:
        backend.left = 6
        attempts += 1
        try:
            result = store.pull("data", out)
        except BackendError:
            continue
        break
    assert attempts > 2
    assert tree_state(out) == tree_state(source)
    written = result.stats.written_bytes
    assert written + result.stats.reused_bytes == result.stats.size
    assert written < 40_000_000


def test_a_pull_over_an_older_copy_reuses_its_chunks(tmp_path: Path, out: Path) -> None:
    """Also where they moved within the file; what is fetched is about what changed."""
    source = tmp_path / "source"
    source.mkdir()
    data = random_bytes(5_000_000, 1)
    (source / "file").write_bytes(data)
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        store.push(source, "data")
        store.pull("data", out)
        (out / "file").chmod(0o4711)
        (source / "file").write_bytes(data[2_000_000:] + b"!" + data[:2_000_000])
        store.push(source, "data")
        result = store.pull("data", out)
    assert tree_state(out) == tree_state(source)
    assert result.stats.written_bytes < 1_000_000
    assert stat.S_IMODE((out / "file").stat().st_mode) & 0o7111 == 0


@pytest.mark.parametrize("state", ["empty", "older"])
def test_a_pull_that_is_broken_off_ends(state: str, tmp_path: Path) -> None:
    """Whatever a callback raises ends the pull, however much waits to be written or compared."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for number in range(2000):
        (source / f"{number:04}").write_bytes(random_bytes(8000, number))
    for number in range(40):
        (source / f"large-{number}").write_bytes(random_bytes(200_000, number))
    if state == "older":
        shutil.copytree(source, out)
        (source / "0000").write_bytes(b"newer")
        (source / "large-0").write_bytes(random_bytes(200_000, 99))

    def give_up(event: object) -> None:
        if isinstance(event, Item):
            raise KeyboardInterrupt

    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        store.push(source, "data")
        with pytest.raises(KeyboardInterrupt):
            store.pull("data", out, progress=give_up)
        store.pull("data", out)
    assert tree_state(out) == tree_state(source)


def test_small_files_over_other_ones(tmp_path: Path) -> None:
    """A small file takes the place of an older, longer, linked or half-finished one."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    for name in ("changed", "shortened", "linked", "linked-same", "part", "empty"):
        (source / name).write_bytes(b"" if name == "empty" else name.encode() * 100)
    (out / "changed").write_bytes(b"CHANGED" * 100)
    (out / "shortened").write_bytes(b"shortened" * 200)
    (out / "empty").write_bytes(b"full")
    for name, content in (("linked", b"mine"), ("linked-same", b"linked-same" * 100)):
        (tmp_path / f"other-{name}").write_bytes(content)
        os.link(tmp_path / f"other-{name}", out / name)
    (out / part_name("part")).write_bytes(b"part" * 50)
    others = {path: path.stat().st_mtime_ns for path in tmp_path.glob("other-*")}
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        store.push(source, "data")
        store.pull("data", out)
    assert tree_state(out) == tree_state(source)
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert (tmp_path / "other-linked").read_bytes() == b"mine"
    assert not list(out.glob(f"{PART_PREFIX}*"))
