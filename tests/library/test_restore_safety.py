"""A pull writes inside its target and nowhere else, whatever stands there or appears meanwhile."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chunkstore import FilesystemError, Store
from chunkstore.fetcher import Fetcher
from chunkstore.format.manifest import PackHint
from chunkstore.restore import LinkPolicy
from chunkstore.small_file import SmallFile
from chunkstore.target import Target, link_leads_out, part_name
from chunkstore.testing.trees import random_bytes, tree_state
from tests.library.forgery import CONTENT, Forged, file, folder, forge, link


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the target; the test fails if anything in it has changed."""
    place = tmp_path / "outside"
    (place / "folder").mkdir(parents=True)
    (place / "file").write_text("precious")
    (place / "folder" / "file").write_text("precious too")
    os.utime(place / "file", (1, 1))
    (place / "file").chmod(0o640)
    before = tree_state(place), (place / "file").stat().st_mode
    yield place
    assert (tree_state(place), (place / "file").stat().st_mode) == before


@pytest.fixture
def version() -> Store:
    """A store with `a`, `d/e/f`, an empty folder `h/` and a link `l` to `a`."""
    return forge(Forged([[file("a"), file("d/e/f"), folder("h/"), link("l", "a")]]))


def whole(out: Path) -> bool:
    """Whether the target has all of `version`, as files and folders of its own."""
    names = ("a", "d/e/f")
    return (
        all((out / name).read_bytes() == CONTENT for name in names)
        and not any((out / name).is_symlink() for name in (*names, "d", "d/e", "h"))
        and os.readlink(out / "l") == "a"
        and (out / "h").is_dir()
    )


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("name", ["a", "l", "d", "d/e", "d/e/f", "h"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_in_the_target_are_not_followed(
    version: Store, outside: Path, tmp_path: Path, delete: bool, name: str, kind: str
) -> None:
    """A link where a file belongs is replaced; where a folder belongs only with --delete."""
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(outside / kind)
    result = version.pull("data", out, delete=delete)
    if name in ("d", "d/e", "h") and not delete:
        expected = {"d": ["d/e/f"], "d/e": ["d/e/f"], "h": ["h/"]}[name]
        assert [path for path, _ in result.left_out] == expected
        assert (out / name).is_symlink()
    else:
        assert result.left_out == ()
        assert whole(out)


@pytest.mark.parametrize("delete", [False, True])
def test_links_to_folders_are_not_walked_through_by_delete(
    version: Store, outside: Path, tmp_path: Path, delete: bool
) -> None:
    """The link itself goes, what it points to stays."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "extra").symlink_to(outside)
    (out / "extra-file").symlink_to(outside / "file")
    version.pull("data", out, delete=delete)
    assert (out / "extra").is_symlink() is not delete
    assert (out / "extra-file").is_symlink() is not delete
    assert whole(out)


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder link"])
def test_part_files_that_are_no_part_files_are_not_written(
    version: Store, outside: Path, tmp_path: Path, kind: str
) -> None:
    """Somebody who guesses the name of a part file cannot lead the bytes elsewhere."""
    out = tmp_path / "out"
    out.mkdir()
    part = out / part_name("a")
    if kind == "link":
        part.symlink_to(outside / "file")
    elif kind == "folder link":
        part.symlink_to(outside / "folder")
    elif kind == "hard link":
        os.link(outside / "file", part)
    else:
        os.mkfifo(part)
    version.pull("data", out)
    assert whole(out)
    assert not part.exists()


def test_identical_files_with_other_names_are_not_touched(version: Store, tmp_path: Path) -> None:
    """A hard link to a file outside is replaced rather than given another mode and time."""
    out, mine = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    mine.write_bytes(CONTENT)
    mine.chmod(0o4755)
    os.utime(mine, (7, 7))
    before = mine.stat()
    os.link(mine, out / "a")
    result = version.pull("data", out)
    assert result.stats.fetched_bytes == 0 or result.stats.reused_bytes >= len(CONTENT)
    after = mine.stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)
    assert (out / "a").stat().st_ino != after.st_ino
    assert whole(out)


@pytest.mark.parametrize("same", [True, False])
def test_special_bits_are_cleared_and_the_umask_holds(
    version: Store, tmp_path: Path, same: bool
) -> None:
    """Whatever mode a file had before, it gets a plain one and the version's time."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(CONTENT if same else b"old")
    (out / "a").chmod(0o7777)
    old = os.umask(0o027)
    try:
        version.pull("data", out)
    finally:
        os.umask(old)
    status = (out / "a").stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_mtime_ns == 0
    assert stat.S_IMODE((out / "d").stat().st_mode) & 0o7027 == 0


@pytest.mark.parametrize(
    "time_ns", [0, -1, 1, -(1 << 63), (1 << 63) - 1, 1_700_000_000_123_456_789]
)
def test_any_time_can_be_restored(tmp_path: Path, time_ns: int) -> None:
    """Times before the epoch and after all file systems do no harm, sane ones are exact."""
    store = forge(Forged([[file("a", mtime=time_ns, executable=True)]]))
    store.pull("data", tmp_path / "out")
    status = (tmp_path / "out" / "a").stat()
    if abs(time_ns) < 1 << 61:
        assert status.st_mtime_ns == time_ns
    assert status.st_mode & 0o111


# links of the version


@pytest.mark.parametrize(
    ("path", "target", "leads_out"),
    [
        ("a", "b", False),
        ("a", "./b", False),
        ("a", ".", False),
        ("a", "b/c/", False),
        ("a", "..b", False),
        ("d/a", "../b", False),
        ("d/a", "..", False),
        ("d/e/a", "../../b", False),
        ("a", "..", True),
        ("a", "../b", True),
        ("a", "./../b", True),
        ("a", ".//../b", True),
        ("d/a", "../../b", True),
        ("a", "/", True),
        ("a", "/etc/passwd", True),
        ("a", "//x", True),
        ("a", "b/../c", True),
        ("a", "b/../../c", True),
        ("d/a", "../b/..", True),
        ("a", "b/..", True),
    ],
)
def test_links_that_may_lead_out_are_made_only_when_asked(
    tmp_path: Path, path: str, target: str, leads_out: bool
) -> None:
    """`inside` makes what cannot lead out, names the others; `none` none, `all` all."""
    assert link_leads_out(path, target) is leads_out
    store = forge(Forged([[link(path, target)]]))
    policies: tuple[LinkPolicy, ...] = ("none", "inside", "all")
    for policy in policies:
        out = tmp_path / policy
        result = store.pull("data", out, links=policy)
        made = policy == "all" or (policy == "inside" and not leads_out)
        assert (out / path).is_symlink() is made
        assert [name for name, _ in result.left_out] == ([] if made else [path])


def test_a_link_is_judged_by_where_it_goes(tmp_path: Path) -> None:
    """One that stays inside the version leads out of a folder of it that is pulled alone."""
    store = forge(Forged([[file("a"), link("d/up", "../a"), file("d/x")]]))
    assert store.pull("data", tmp_path / "all").left_out == ()
    result = store.pull("data:d", tmp_path / "part")
    assert [path for path, _ in result.left_out] == ["d/up"]


# what happens meanwhile


def test_the_target_s_parent_may_become_a_link_meanwhile(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pull goes on in the folder that it opened, deletions included."""
    names = [f"f{number}" for number in range(10)]
    store = forge(Forged([[file(name) for name in names]]))
    (tmp_path / "parent" / "out").mkdir(parents=True)
    (tmp_path / "parent" / "out" / "extra").write_text("x")
    (outside / "out").mkdir()
    (outside / "out" / "keep").write_text("x")
    real = Fetcher.want_small
    calls: list[int] = []

    def want(self: Fetcher, file: SmallFile, hints: Sequence[PackHint]) -> None:
        if not calls:
            os.rename(tmp_path / "parent", tmp_path / "moved")
            (tmp_path / "parent").symlink_to(outside)
        calls.append(1)
        real(self, file, hints)

    monkeypatch.setattr(Fetcher, "want_small", want)
    store.pull("data", tmp_path / "parent" / "out", delete=True)
    assert len(calls) == len(names)
    assert sorted(os.listdir(tmp_path / "moved" / "out")) == names
    assert os.listdir(outside / "out") == ["keep"]
    shutil.rmtree(outside / "out")


def test_a_folder_may_become_a_link_meanwhile(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go into the folder that was opened or are left out; the link is not followed."""
    store = forge(Forged([[file("d/a"), file("d/b"), file("e"), file("f")]]))
    out = tmp_path / "out"
    real = Target.folder

    def swap(self: Target, path: str, *, create: bool = True) -> object:
        found = real(self, path, create=create)
        if (out / "d").is_dir() and not (out / "d").is_symlink() and path == "":
            shutil.move(out / "d", tmp_path / "old-d")
            (out / "d").symlink_to(outside / "folder")
        return found

    monkeypatch.setattr(Target, "folder", swap)
    store.pull("data", out)
    assert (out / "e").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path / "old-d")) == ["a", "b"]


def test_two_pulls_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    """While one writes a file another refuses to; at the end the file is one of the two."""
    one, two = random_bytes(3_000_000, 1), random_bytes(3_000_000, 2)
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        for data in (one, two):
            (source / "file").write_bytes(data)
            store.push(source, "data")

        def pull(number: int) -> None:
            for _ in range(15):
                try:
                    store.pull(f"data@{number}", out)
                except FilesystemError as error:
                    refusals.append(error)

        refusals: list[FilesystemError] = []
        threads = [threading.Thread(target=pull, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.001)
                try:
                    assert (out / "file").read_bytes() in (one, two)
                except FileNotFoundError:
                    continue
        assert all("another pull" in str(e) or "cannot write" in str(e) for e in refusals)
        store.pull("data@1", out)
        assert (out / "file").read_bytes() == one
        assert os.listdir(out) == ["file"]


FEW = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from chunkstore import Store
with Store.open(sys.argv[1], cache_folder=sys.argv[2]) as store:
    store.pull("data", sys.argv[3])
    store.pull("data", sys.argv[3], delete=True)
"""


def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    """A version of very many folders is pulled with 256 descriptors, parts of files included."""
    tree, out = tmp_path / "tree", tmp_path / "out"
    for number in range(1200):
        (tree / f"d{number:04}").mkdir(parents=True)
        (tree / f"d{number:04}" / "file").write_bytes(b"%d" % number)
    for number in range(300):
        (tree / f"two-chunks-{number:03}").write_bytes(random_bytes(70_000, number))
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        store.push(tree, "data")
    out.mkdir()
    for number in range(300):  # what an interrupted pull has left
        name = f"two-chunks-{number:03}"
        (out / part_name(name)).write_bytes((tree / name).read_bytes()[:50_000])
    arguments = [str(tmp_path / "store"), str(tmp_path / "cache"), str(out)]
    subprocess.run([sys.executable, "-c", FEW, *arguments], check=True)
    assert tree_state(out) == tree_state(tree)
