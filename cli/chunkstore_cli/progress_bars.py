"""Two bars on the terminal: the user's bytes that were read, and the stored bytes that were sent.

Deduplication and compression make the two differ: both are drawn against the user's bytes, so
the shorter bar shows what was saved. rich is imported when an operation turns out to take time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from chunkstore.events import Progress, Step
from chunkstore_cli import output
from chunkstore_cli.progress import Watch, Words, step_text, time_left

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.status import Status

PATIENCE: Final = 0.3
"""Seconds before bars appear: what is done by then needs none."""


class Bars(Watch):
    """Draws the bars on stderr."""

    def __init__(self, words: Words) -> None:
        super().__init__(words)
        self._screen: RichProgress | None = None
        self._status: Status | None = None
        self._tasks: list[TaskID] = []

    def show(self, progress: Progress) -> None:
        """Move the bars."""
        if self._screen is None:
            if time.monotonic() - self.started < PATIENCE:
                return
            self._screen = self._new_screen()  # known before it starts: Ctrl-C may come within
            self._screen.start()
        seconds = time.monotonic() - self.started
        rates = [size / seconds for size in (progress.done_bytes, progress.moved_bytes)]
        left = ""
        if progress.total_bytes is not None and rates[0]:
            left = f"{time_left(progress.total_bytes - progress.done_bytes, rates[0])} left"
        files = output.count_text(progress.done_files, self.words.noun)
        rows = [
            (progress.done_bytes, progress.total_bytes, f"{files}  {left}"),
            (progress.moved_bytes, None, ""),
        ]
        for task, rate, (size, total, more) in zip(self._tasks, rates, rows, strict=False):
            self._screen.update(
                task,
                completed=size,
                total=progress.total_bytes,
                amount=output.part_text(size, total),
                rate=f"{output.size_text(int(rate))}/s",
                more=more,
            )

    def step(self, step: Step) -> None:
        """Show the step on one line that is overwritten, once it takes long."""
        waits = step.name == "wait" and step.total
        if time.monotonic() - self.started < PATIENCE and not waits:
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status("", spinner="line")
            self._status.start()
        self._status.update(step_text(step))

    def close(self) -> None:
        """Take the bars away."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._screen is not None:
            self._screen.stop()
            self._screen = None

    def _new_screen(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        screen = RichProgress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=None),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in ("amount", "rate", "more")),
            console=Console(stderr=True),
            transient=True,
            expand=True,
            redirect_stdout=False,
        )
        words = [word for word in (self.words.done, self.words.moved) if word]
        self._tasks = [
            screen.add_task(word, total=None, amount="", rate="", more="") for word in words
        ]
        return screen
