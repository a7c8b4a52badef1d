"""`--profile`: where the time of a push or pull went, as a table on stderr.

Neighbours: the library's `profile` measures; `documents` has the same for programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chunkstore_cli import output

if TYPE_CHECKING:
    from types import TracebackType

    from chunkstore.profile import GroupTime, Profile, ProfileReport, StageTime
    from chunkstore_cli.common import Common


class Profiling:
    """Measures what is done while it is open, if that is wanted, and prints it however that ends.

    Attributes:
        profile: what the library is to be given, None where nothing is wanted.
        report: what was found, once it was closed; None likewise.
    """

    def __init__(self, common: Common, *, wanted: bool) -> None:
        self._shown = not common.json
        self.profile: Profile | None = None
        self.report: ProfileReport | None = None
        if wanted:
            from chunkstore.profile import Profile

            self.profile = Profile()

    def __enter__(self) -> Profiling:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.profile is not None:
            self.report = self.profile.report()
            if self._shown and self.report.stages:
                _print(self.report)


def _print(report: ProfileReport) -> None:
    rows: list[tuple[str, ...]] = [
        ("threads", "stage", "calls", "CPU s", "wall s", "bytes", "per CPU s")
    ]
    for group in report.groups:
        of_group = [stage for stage in report.stages if stage.group == group.group]
        rows += [_row(group, stage, first=stage is of_group[0]) for stage in of_group]
    staged = sum(group.cpu_seconds for group in report.groups)
    rows.append(("", "other", "", f"{max(0.0, report.cpu_seconds - staged):.2f}", "", "", ""))
    rows.append(("", "all", "", f"{report.cpu_seconds:.2f}", f"{report.seconds:.2f}", "", ""))
    output.note_table(rows, right=(2, 3, 4, 5, 6))
    busy = ", ".join(f"{_name(group)} {group.busy:.0%}" for group in report.groups)
    output.note(f"busy: {busy}")


def _row(group: GroupTime, stage: StageTime, *, first: bool) -> tuple[str, ...]:
    speed = stage.bytes / stage.cpu_seconds if stage.bytes and stage.cpu_seconds > 1e-3 else 0
    return (
        _name(group) if first else "",
        stage.stage,
        f"{stage.calls:,}",
        f"{stage.cpu_seconds:.2f}",
        f"{stage.wall_seconds:.2f}",
        output.size_text(stage.bytes) if stage.bytes else "",
        output.size_text(int(speed)) if speed else "",
    )


def _name(group: GroupTime) -> str:
    return f"{group.group} x{group.threads}" if group.threads > 1 else group.group
