"""What a profile says of a push and a pull agrees with what they did."""

from __future__ import annotations

from pathlib import Path

from chunkstore import Profile, ProfileReport, Store

FILES = {"small.txt": b"small", "large.bin": bytes(range(256)) * 20_000}


def bytes_of(report: ProfileReport, name: str) -> int:
    return sum(each.bytes for each in report.stages if each.stage == name)


def test_a_push(tmp_path: Path) -> None:
    """A push reads the files once, cuts them, and compresses and checks what is new."""
    for name, content in FILES.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    profile = Profile()
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        pushed = store.push(tmp_path / "data", "pets", profile=profile)
    report = profile.report()
    assert bytes_of(report, "read") == pushed.stats.size
    data = bytes_of(report, "compress")
    assert data == bytes_of(report, "check") >= pushed.stats.new_bytes  # and pages
    assert {"caller", "work", "upload"} == {group.group for group in report.groups}
    assert all(0 <= group.busy <= 1 for group in report.groups)


def test_a_pull(tmp_path: Path) -> None:
    """A pull writes what it fetched and checked; what is there already it compares."""
    (tmp_path / "a.bin").write_bytes(FILES["large.bin"])
    profile, again = Profile(), Profile()
    with Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        store.push(tmp_path / "a.bin", "pets")
        pulled = store.pull("pets", tmp_path / "out", profile=profile)
        store.pull("pets", tmp_path / "out", profile=again)
    assert bytes_of(profile.report(), "write") == pulled.stats.written_bytes
    assert bytes_of(again.report(), "compare") == pulled.stats.size
    assert bytes_of(again.report(), "write") == 0
