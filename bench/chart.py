"""The chart of the bench: seconds of each step on the packages, bytes on every workload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.results import STEPS, Results, Spread, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS: Final = "#d1632b"
OTHERS: Final = "#7aa6c2"
NO_STORE: Final = "#b8b8b8"


def draw(results: Results, path: Path) -> None:
    """Draw a PNG; the workload packages must have been measured."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    tools = results.tools("packages")
    panels = upper.subplots(1, len(STEPS) + 1, sharey=True)
    for axes, (step, title) in zip(panels, STEPS.items(), strict=False):
        _bars(axes, tools, [results.seconds("packages", tool, step) for tool in tools])
        axes.set_title(f"{title}, s", fontsize=10)
    stored = [spread([results.stored("packages", tool)[2] / 1e6]) for tool in tools]
    _bars(panels[-1], tools, stored)
    panels[-1].set_title("stored, MB", fontsize=10)
    panels[-1].invert_yaxis()  # of all, as they share it
    upper.suptitle(
        "Packages: seconds (line: least to most) and bytes of both versions", fontsize=11
    )
    _added(lower.subplots(), results)
    figure.savefig(path, dpi=110)


def _colour(tool: str) -> str:
    return {"chunkstore": OURS, "cp -r": NO_STORE}.get(tool, OTHERS)


def _bars(axes: Axes, tools: list[str], spreads: list[Spread | None]) -> None:
    """Draw a bar for each median, a line over the range, the figure right of both."""
    medians = [0.0 if one is None else one.median for one in spreads]
    axes.barh(tools, medians, color=[_colour(tool) for tool in tools], height=0.7)
    for at, one in enumerate(spreads):
        if one is not None:
            axes.plot([one.least, one.most], [at, at], color="#222", linewidth=1)
            text = f"{one.median:,.2f}" if one.median < 10 else f"{one.median:,.0f}"
            axes.annotate(
                text,
                (one.most, at),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    most = max((one.most for one in spreads if one is not None), default=1)
    axes.set_xlim(0, most * 1.35)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _added(axes: Axes, results: Results) -> None:
    """Draw what version 2 added to the store, for each workload and tool, on a log scale."""
    names = results.measured()
    tools = [tool for tool in results.tools("packages") if tool != "cp -r"]
    width = 0.8 / len(tools)
    shades = [OURS, "#1f4e6b", "#3a78a1", "#7aa6c2", "#a9c6d8", "#8a8a8a", "#c4c4c4"]
    for number, tool in enumerate(tools):
        at = [place + (number - (len(tools) - 1) / 2) * width for place in range(len(names))]
        added = [
            results.stored(name, tool)[1] / 1e6 if tool in results.tools(name) else 0
            for name in names
        ]
        axes.bar(at, added, width * 0.9, color=shades[number % len(shades)], label=tool)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_title("MB that version 2 adds to the store, on a log scale", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(fontsize=8, ncols=len(tools), frameon=False)
