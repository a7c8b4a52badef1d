"""How far a push, pull or status is: bars on a terminal, lines off it, JSON, or nothing.

A Watch is the callback that the library calls. It remembers the last Progress, so that Ctrl-C can
say how far the work came. Neighbour: `progress_bars` draws.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from chunkstore.events import Event, Item, LostPath, Notice, Progress, Step
from chunkstore_cli import output

if TYPE_CHECKING:
    from chunkstore_cli.common import Common

LINE_SECONDS: Final = 10.0
JSON_SECONDS: Final = 0.5

SIGNS: Final = {"added": "+", "modified": "~", "removed": "-", "restored": "+", "reused": "="}
"""How a listing marks what became of a path."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a verb speaks of its progress.

    Attributes:
        done: of the user's bytes that are dealt with.
        moved: of stored bytes that went over the wire; "" where none do.
        kept: of the user's bytes that need not be done again; "" where nothing is kept.
        noun: what is counted.
    """

    done: str
    moved: str = ""
    kept: str = ""
    noun: str = "file"


PUSH: Final = Words("read", "sent", "stored")
PULL: Final = Words("restored", "fetched", "in place")
ARCHIVE: Final = Words("written", "fetched")
OUTPUT: Final = Words("read", "sent")
STATUS: Final = Words("read")
COPY: Final = Words("copied", "sent", "stored", noun="version")
VERIFY: Final = Words("checked", noun="pack")
COLLECTION: Final = Words("read")


class Watch:
    """Takes the events of one operation and shows none but what must not be missed."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.last: Progress | None = None
        self.started = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Progress):
            self.last = event
            self.show(event)
        elif isinstance(event, Step):
            self.step(event)
        elif isinstance(event, Notice):
            output.note(f"note: {event.message}")
            output.hint(event.hint)
        elif isinstance(event, LostPath):
            self.lost(event)
        elif event.action == "left out":
            self.left_out(event)
        else:
            self.item(event)

    def show(self, progress: Progress) -> None:
        """Show how far it is."""

    def step(self, step: Step) -> None:
        """Show how far a step is."""

    def item(self, item: Item) -> None:
        """Show what became of a path."""

    def left_out(self, item: Item) -> None:
        """Show that a path was passed over."""
        output.note(f"left out: {item.path}: {item.reason}")

    def lost(self, path: LostPath) -> None:
        """Show that a path cannot be read whole; who shows all of them at the end does not."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def text(self, progress: Progress) -> str:
        """Return one line about `progress`."""
        seconds = max(time.monotonic() - self.started, 1e-3)
        rate = progress.done_bytes / seconds
        parts = [f"{output.part_text(progress.done_bytes, progress.total_bytes)} {self.words.done}"]
        if self.words.moved:
            parts.append(f"{output.size_text(progress.moved_bytes)} {self.words.moved}")
        parts.append(output.count_text(progress.done_files, self.words.noun))
        parts.append(f"{output.size_text(int(rate))}/s")
        if progress.total_bytes is not None and rate:
            parts.append(f"{time_left(progress.total_bytes - progress.done_bytes, rate)} left")
        return ", ".join(parts)


class Items(Watch):
    """Prints each path on stdout: what a dry run would do."""

    def item(self, item: Item) -> None:
        """Print what would become of a path."""
        output.line(f"{SIGNS[item.action]} {output.size_text(item.size):>10}  {item.path}")


class Lines(Watch):
    """Prints a line on stderr now and then."""

    def __init__(self, words: Words) -> None:
        super().__init__(words)
        self._told_at = self.started

    def show(self, progress: Progress) -> None:
        """Print a line if the last one is ten seconds ago."""
        now = time.monotonic()
        if now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            output.note(self.text(progress))

    def step(self, step: Step) -> None:
        """Print a line if the last one is ten seconds ago, and before a wait."""
        now = time.monotonic()
        if now - self._told_at >= LINE_SECONDS or (step.name == "wait" and step.total):
            self._told_at = now
            output.note(step_text(step))


class JsonLines(Watch):
    """Prints events on stdout for programs."""

    def __init__(self, words: Words, *, progress: bool) -> None:
        super().__init__(words)
        self._progress = progress
        self._told_at = float("-inf")

    def show(self, progress: Progress) -> None:
        """Print the progress, twice a second at most."""
        now = time.monotonic()
        if self._progress and now - self._told_at >= JSON_SECONDS:
            self._told_at = now
            output.json_line({"type": "progress", **asdict(progress)})

    def step(self, step: Step) -> None:
        """Print the step, twice a second at most."""
        now = time.monotonic()
        if self._progress and now - self._told_at >= JSON_SECONDS:
            self._told_at = now
            output.json_line(
                {"type": "progress", "step": step.name, "done": step.done, "total": step.total}
            )

    def item(self, item: Item) -> None:
        """Print what became of a path."""
        output.json_line(
            {"type": "item", "action": item.action, "path": item.path, "size": item.size}
        )

    def lost(self, path: LostPath) -> None:
        """Print that a path cannot be read whole."""
        output.json_line({"type": "lost", **asdict(path)})

    def left_out(self, item: Item) -> None:
        """Print that a path was passed over."""
        output.json_line(
            {"type": "error", "code": "left_out", "path": item.path, "message": item.reason}
        )


@contextmanager
def watching(common: Common, words: Words, *, items: bool = False) -> Iterator[Watch]:
    """Watch an operation the way the options and the terminal ask for.

    With `items` each path is printed, for people too. Ctrl-C gets a note how far it came.
    """
    watch = _choose(common, words, items=items)
    try:
        yield watch
    except KeyboardInterrupt as stop:
        if words.kept:
            stop.add_note(_how_far(watch.last, words))
        raise
    finally:
        watch.close()


def _how_far(progress: Progress | None, words: Words) -> str:
    again = "run the same command to go on"
    if progress is None:
        return again
    return f"{output.part_text(progress.done_bytes, progress.total_bytes)} {words.kept}; {again}"


def _choose(common: Common, words: Words, *, items: bool) -> Watch:
    if common.json:
        return JsonLines(words, progress=not common.no_progress)
    if common.quiet:
        return Watch(words)
    if items:
        return Items(words)
    if common.no_progress:
        return Watch(words)
    if sys.stderr is not None and sys.stderr.isatty():
        from chunkstore_cli.progress_bars import Bars

        return Bars(words)
    return Lines(words)


_STEPS: Final = {
    "mark": "versions looked through",
    "plan": "entries of the index looked through",
    "copy": "chunks copied",
    "fence": "datasets fenced",
    "reindex": "index segments looked at",
    "delete": "objects deleted",
}


def step_text(step: Step) -> str:
    """Return one line about a step."""
    if step.name == "wait":
        return f"waiting {time_left(step.total or 0, 1)} so that running pulls can end"
    of = "" if step.total is None else f" of {step.total:,}"
    return f"{step.done:,}{of} {_STEPS.get(step.name, step.name)}"


def time_left(size: int, rate: float) -> str:
    """Return how long `size` more bytes take at `rate` bytes a second: "1:02:03", "0:07"."""
    minutes, seconds = divmod(round(max(size, 0) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
