"""What was measured, as Markdown and as a chart; `publish` writes both into the documentation."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeAlias

from bench.chart import draw
from bench.peers import ROOT, TOOLS
from bench.results import STEPS, Results, Spread, spread
from bench.workloads import WORKLOADS

OURS: Final = "chunkstore"
NO_STORE: Final = "cp -r"
"""It is in the tables to compare with, but keeps no store, so it is never called the best."""

BLOCK: Final = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)

Cells: TypeAlias = dict[str, float | None]


def tables(results: Results) -> str:
    """Return a section for each workload that was measured."""
    return "\n".join(_section(results, name) for name in results.measured())


def _section(results: Results, name: str) -> str:
    workload = next(workload for workload in WORKLOADS if workload.name == name)
    sizes = (
        f"{files:,} {'file' if files == 1 else 'files'}, {size / 1e6:,.0f} MB"
        for files, size in results.sizes[name]
    )
    lines = [
        f"## {name}\n",
        f"{workload.says[0].upper()}{workload.says[1:]}. v1: {'; v2: '.join(sizes)}.\n",
    ]
    lines += [_time_table(results, name), _resource_table(results, name)]
    if results.kernels.get(name):
        lines.append(_kernels(results, name))
    if behind := list(_behind(results, name)):
        lines += [f"Better than {OURS} here, in the median:\n", *behind, ""]
    return "\n".join(lines)


def _time_table(results: Results, name: str) -> str:
    """Return seconds by the clock."""
    rows = {
        tool: {f"{title}, s": results.seconds(name, tool, step) for step, title in STEPS.items()}
        for tool in results.tools(name)
    }
    return _table(rows, _seconds)


def _resource_table(results: Results, name: str) -> str:
    """Return CPU, memory and bytes."""
    rows = {}
    for tool in results.tools(name):
        runs = results.of(name, tool)
        first, added, both = (stored / 1e6 for stored in results.stored(name, tool))

        def of(step: str, value: Callable[..., float], runs: list[object] = runs) -> Spread | None:
            return spread([value(run.costs[step]) for run in runs if step in run.costs])

        rows[tool] = {
            "CPU first push, s": of("first", lambda cost: cost.cpu),
            "CPU pull, s": of("pull", lambda cost: cost.cpu),
            "memory push, MB": of("first", lambda cost: cost.memory / 1e6),
            "memory pull, MB": of("pull", lambda cost: cost.memory / 1e6),
            "stored v1, MB": spread([first]),
            "added by v2, MB": spread([added]),
            "both, MB": spread([both]),
        }
    return _table(rows, lambda value: _number(value.median))


def _table(rows: dict[str, dict[str, Spread | None]], cell: Callable[[Spread], str]) -> str:
    """Return a table, the best of each column in bold."""
    columns = list(next(iter(rows.values())))
    best = {}
    for column in columns:
        values = [row[column] for tool, row in rows.items() if tool != NO_STORE]
        medians = [value.median for value in values if value is not None]
        best[column] = min(medians, default=None)
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for tool, row in rows.items():
        cells = []
        for column in columns:
            value = row[column]
            text = "" if value is None else cell(value)
            bold = value is not None and tool != NO_STORE and value.median == best[column]
            cells.append(f"**{text}**" if bold else text)
        lines.append(f"| {tool} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _seconds(value: Spread) -> str:
    least, most = _number(value.least), _number(value.most)
    return f"{_number(value.median)} ({least}-{most})"


def _number(value: float) -> str:
    """Return three figures, or what is before the point."""
    if value < 0.1:
        return f"{value:.3f}"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _kernels(results: Results, name: str) -> str:
    """Return what the kernels take, and how near pushes come to them spread over all cores."""
    cores = os.cpu_count() or 1
    parts = []
    for version, step in ((1, "first"), (2, "second")):
        seconds = results.kernel_seconds(name, version)
        total = sum(seconds.values())
        text = ", ".join(f"{kernel} {value:.2f}" for kernel, value in seconds.items())
        part = (
            f"{total:.2f} s of CPU for v{version} ({text}), on {cores} cores {total / cores:.2f} s"
        )
        together = results.together_seconds(name, version)
        ours = results.seconds(name, OURS, step)
        if ours is not None and total:
            part += f", and the push takes {ours.median / (total / cores):.2f} times that"
            part += (
                f" ({ours.median / (together / cores):.2f} times by the {together:.2f} s that they "
                f"take with {cores} at once)"
            )
        parts.append(part)
    return f"The kernels alone, in one thread: {'; '.join(parts)}.\n"


def _behind(results: Results, name: str) -> Iterator[str]:
    """Say for each tool where it is better: a smaller median of a step, or fewer bytes."""
    if OURS not in results.tools(name):
        return
    for tool in results.tools(name):
        if tool in (OURS, NO_STORE):
            continue
        better = []
        for step, title in STEPS.items():
            ours, theirs = (results.seconds(name, who, step) for who in (OURS, tool))
            if ours and theirs and theirs.median < ours.median:
                better.append(f"{title} {_number(theirs.median)} s to {_number(ours.median)} s")
        for mine, other, title in zip(
            results.stored(name, OURS),
            results.stored(name, tool),
            ("stored v1", "added by v2", "stored of both"),
            strict=True,
        ):
            if other < mine:
                better.append(f"{title} {_number(other / 1e6)} MB to {_number(mine / 1e6)} MB")
        if better:
            yield f"- {tool}: {', '.join(better)}"


def conditions(results: Results) -> str:
    """Return what the runs were made with and on."""
    versions = {run.tool: run.version for run in results.runs}
    tools = [
        f"- {tool.name} {versions[tool.name]}: {tool.says}"
        for tool in TOOLS
        if tool.name in versions
    ]
    tools += [f"- {tool} failed on {name}" for name, tool, _ in results.failures]
    missing = [tool.name for tool in TOOLS if tool.name not in versions]
    if missing:
        tools.append(f"- not installed, so not measured: {', '.join(missing)}")
    machine = results.machine
    times = sorted(run.at for run in results.runs)
    rounds = sorted(
        {len(results.of(name, t)) for name in results.measured() for t in results.tools(name)}
    )
    counted = " to ".join(map(str, sorted({rounds[0], rounds[-1]})))
    return "\n".join(
        [
            f"Scale {results.scale}, {counted} rounds, from {times[0]} to {times[-1]}, on "
            f"{machine['cores']} cores of {machine['processor']}, {machine['memory']}, "
            f"{machine['file system']}, {machine['system']}, Python {machine['python']}.\n",
            *tools,
            "",
        ]
    )


def summary(results: Results, name: str) -> str:
    """Return the short table of the README."""
    rows = {}
    for tool in results.tools(name):
        rows[tool] = {
            **{f"{title}, s": results.seconds(name, tool, step) for step, title in STEPS.items()},
            "stored, MB": spread([results.stored(name, tool)[2] / 1e6]),
        }
    return _table(rows, lambda value: _number(value.median))


def publish(results: Results, root: Path = ROOT) -> None:
    """Write the table, the chart, all figures as JSON, and the block of the README.

    Raises:
        ValueError: the README has no such block, or packages were not measured.
    """
    if not results.tools("packages"):
        raise ValueError("the README shows the workload packages, which was not measured")
    design, readme = root / "docs/design", root / "README.md"
    text = readme.read_text()
    if not BLOCK.search(text):
        raise ValueError(f"{readme} has no block between <!-- bench --> and <!-- /bench -->")
    table = (
        "# The table of the bench\n\n"
        "Written by `python -m bench.run --publish`; [how it is measured](performance.md). "
        "Seconds are medians, with the least and the most; the best of a column is bold, without "
        f"`{NO_STORE}`.\n\n{conditions(results)}\n{tables(results)}"
    )
    (design / "performance-table.md").write_text(table)
    (design / "bench.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    draw(results, root / "docs/images/bench.png")
    (files, size), (_, second) = results.sizes["packages"]
    block = (
        f"![Seconds and bytes of chunkstore and other tools](docs/images/bench.png)\n\n"
        f"{files:,} files of Python packages, {size / 1e9:.2f} GB, then their next releases, "
        f"{second / 1e9:.2f} GB: medians on {results.machine['cores']} cores.\n\n"
        f"{summary(results, 'packages')}\n"
    )
    readme.write_text(BLOCK.sub(lambda match: match[1] + block + match[2], text))
