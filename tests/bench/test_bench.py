"""The bench measures what it says: its data, its runs and its tables."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from bench import report, run, workloads
from bench.kernels import KERNELS, Kernels
from bench.measure import Cost, digest_of, measure
from bench.peers import TOOLS
from bench.results import Results, Run, load, machine
from chunkstore.testing.trees import tree_state

AMOUNTS = {"small-files": 200, "tiny-files": 200}
MADE = [workload for workload in workloads.WORKLOADS if workload.name != "packages"]
OURS, COPIES = (next(t for t in TOOLS if t.name == name) for name in ("chunkstore", "cp -r"))


@pytest.mark.parametrize("workload", MADE, ids=lambda workload: workload.name)
def test_data_are_the_same_each_time(workload: workloads.Workload, tmp_path: Path) -> None:
    """A workload made twice has the same bytes and times; its versions differ."""
    if workload.name.startswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is of the extra `bench`")
    roots = [tmp_path / "once", tmp_path / "again"]
    for root in roots:
        workloads.make(workload, root, AMOUNTS.get(workload.name, 300_000))
    first, second = (tree_state(root) for root in roots)
    assert first == second
    assert digest_of(roots[0] / "v1") != digest_of(roots[0] / "v2")


def test_small_files_that_stay_are_the_same_files(tmp_path: Path) -> None:
    """Of 200 files two are changed, two gone and two new; the others keep their inode."""
    root = tmp_path / "made"
    workloads.make_small_files(_two(root), 200, size=500)
    inodes = [
        {path.name: path.stat().st_ino for path in (root / version).rglob("*.json")}
        for version in ("v1", "v2")
    ]
    assert len(inodes[0].items() & inodes[1].items()) == 196
    assert (len(inodes[0].keys() - inodes[1]), len(inodes[1].keys() - inodes[0])) == (2, 2)


def test_a_bench_is_run_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both tools get through a workload, verified, and a second bench has nothing left to run."""
    monkeypatch.setattr(run, "DATA", tmp_path)
    monkeypatch.setattr(workloads, "DATA", tmp_path)
    workload = next(w for w in MADE if w.name == "csv")
    workloads.make(workload, tmp_path / "sample/csv", 300_000)
    command = ["bench", "--rounds", "1", "--workload", "csv", "--tool", "chunkstore"]
    monkeypatch.setattr("sys.argv", [*command, COPIES.name])
    assert run.main() == 0
    results = load(tmp_path / "sample/results.json", "sample")
    ours, copies = results.of("csv", OURS.name)[0], results.of("csv", COPIES.name)[0]
    assert ours.costs.keys() == {"first", "second", "unchanged", "pull", "over"}
    assert copies.costs.keys() == {"first", "second", "pull"}
    assert copies.stored == (
        results.sizes["csv"][0][1],
        sum(size for _, size in results.sizes["csv"]),
    )
    assert 0 < ours.stored[0] < ours.stored[1] < copies.stored[1]
    assert ours.costs["first"].cpu > 0
    assert results.kernels["csv"][0][0].keys() == set(KERNELS)
    assert all(results.together_seconds("csv", version) > 0 for version in (1, 2))
    assert "| chunkstore |" in capsys.readouterr().out
    monkeypatch.setattr(run, "Course", None)  # nothing more is run
    assert run.main() == 0


def test_other_files_are_not_taken_for_a_result(tmp_path: Path) -> None:
    """A tool that restores something else than was pushed gets no figures."""
    root = _two(tmp_path / "data")
    (root / "v1/file").write_text("one")
    (root / "v2/file").write_text("two")
    course = run.Course(COPIES, root, {"v2": "of something else"}, tmp_path / "work")
    with pytest.raises(RuntimeError, match="restored other files"):
        course.run()
    assert sorted(path.name for path in root.iterdir()) == ["v1", "v2"]


def test_a_tool_pulls_no_more_than_it_can(tmp_path: Path) -> None:
    """Where a version has more files than a tool is let restore, its pushes are measured alone."""
    root = _two(tmp_path / "data")
    for name in ("v1/file", "v2/file", "v2/other"):
        (root / name).write_text(name)
    digests = {"v2": digest_of(root / "v2")}
    for most, pulled in ((1, False), (2, True)):
        tool = dataclasses.replace(COPIES, pulls_at_most=most)
        costs, _ = run.Course(tool, root, digests, tmp_path / "work").run()
        assert ("pull" in costs) == pulled


def test_a_version_gets_its_name_back(tmp_path: Path) -> None:
    """A bench that was killed while a version stood at the source leaves nothing lost."""
    root = _two(tmp_path / "data")
    (root / "v2").rename(root / "current")
    run.put_back(root)
    assert sorted(path.name for path in root.iterdir()) == ["v1", "v2"]


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    """What it wrote to stderr is in the error."""
    with pytest.raises(RuntimeError, match="no such place"):
        measure(["sh", "-c", "echo no such place >&2; exit 3"], tmp_path, {})


def test_kernels_compress_what_is_new(tmp_path: Path) -> None:
    """A folder whose chunks were seen costs no compression."""
    root = _two(tmp_path / "data")
    (root / "v1/file").write_bytes(bytes(range(256)) * 40_000)
    kernels = Kernels()
    assert kernels.folder(root / "v1")["compress"] > 0
    again = kernels.folder(root / "v1")
    assert again["compress"] == 0
    assert again["cut"] > 0


def test_another_machine_or_version_is_measured_anew(tmp_path: Path) -> None:
    """Runs of another version of a tool are forgotten, and all of another machine."""
    results = _results()
    results.forget_other_versions("chunkstore", "2.0")
    assert [made.tool for made in results.runs] == ["restic", "cp -r", "restic"]
    path = tmp_path / "results.json"
    results.save(path)
    assert load(path, "sample") == results
    document = json.loads(path.read_text())
    document["machine"]["cores"] = "many"
    path.write_text(json.dumps(document))
    assert load(path, "sample").runs == []


def test_tables_show_what_others_do_better() -> None:
    """Medians with their range, the best in bold but not `cp`, and each loss in words."""
    text = report.tables(_results())
    assert "| chunkstore | **2.00 (1.00-3.00)** | 5.00 (5.00-5.00) |" in text
    assert "| restic | 4.00 (4.00-4.00) | **4.50 (4.00-5.00)** |" in text
    assert "- restic: push of v2 4.50 s to 5.00 s, added by v2 1.00 MB to 2.00 MB" in text
    assert "**0.50" not in text
    cores = os.cpu_count() or 1
    assert f"({2.0 / (4.0 / cores):.2f} times by the 4.00 s" in text


def test_publishing_writes_all_again(tmp_path: Path) -> None:
    """The table, the figures, the chart and the block of the README are replaced in place."""
    pytest.importorskip("matplotlib", reason="matplotlib is of the extra `bench`")
    for folder in ("docs/design", "docs/images"):
        (tmp_path / folder).mkdir(parents=True)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    for _ in range(2):
        report.publish(_results(), tmp_path)
        text = readme.read_text()
        assert text.startswith("before\n<!-- bench -->\n![")
        assert text.endswith("|\n\n<!-- /bench -->\nafter\n")
        assert "old" not in text
    assert (tmp_path / "docs/images/bench.png").read_bytes().startswith(b"\x89PNG")
    assert "restic 0.18" in (tmp_path / "docs/design/performance-table.md").read_text()
    assert json.loads((tmp_path / "docs/design/bench.json").read_text())["scale"] == "sample"


def _two(root: Path) -> Path:
    for version in ("v1", "v2"):
        (root / version).mkdir(parents=True)
    return root


def _results() -> Results:
    """Return two rounds of two tools and one of `cp`."""

    def made(tool: str, version: str, first: float, second: float, added: int) -> Run:
        costs = {"first": Cost(first, 3.0, 10**8), "second": Cost(second, 3.0, 10**8)}
        stored = (10**7, 10**7 + added)
        return Run("packages", tool, version, "2026-01-01T00:00:00+00:00", costs, stored)

    results = Results("sample", machine(), {"packages": [(10, 10**7), (11, 10**7)]})
    results.runs = [
        made("chunkstore", "1.0", 1.0, 5.0, 2 * 10**6),
        made("restic", "0.18", 4.0, 4.0, 10**6),
        made("cp -r", "9", 0.5, 0.5, 10**7),
        made("chunkstore", "1.0", 3.0, 5.0, 2 * 10**6),
        made("restic", "0.18", 4.0, 5.0, 10**6),
    ]
    results.kernels = {"packages": [[dict.fromkeys(KERNELS, 0.5)] * 2]}
    results.together = {"packages": [[4.0, 4.0]]}
    return results
