"""Ctrl-C and SIGTERM: the first ends the work in good order, the second at once.

While `run` runs a process, signals are that process's affair.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from chunkstore_cli.exit_codes import Status

_STATUS: Final = {signal.SIGINT: Status.INTERRUPTED, signal.SIGTERM: Status.TERMINATED}
_SIGNAL: Final = {status: number for number, status in _STATUS.items()}
_SHOW_CURSOR: Final = b"\x1b[?25h"
_MOMENT: Final = 0.01  # in seconds: finalizers end in less
_hurries: Final[list[Callable[[], object]]] = []
_farewells: Final[list[Callable[[], object]]] = []
_lost: Final[list[signal.Signals]] = []

_PASSED: Final = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
)


class Stopped(KeyboardInterrupt):
    """The user or the system wants the command to end.

    A KeyboardInterrupt, so that all below treats SIGTERM as it treats Ctrl-C. Whoever knows how
    far the work came adds that as a note.
    """

    def __init__(self, status: Status) -> None:
        super().__init__()
        self.status = status


def catch_signals() -> None:
    """From now on raise Stopped in the main thread at the first signal, and end at the second."""
    for number in _STATUS:
        signal.signal(number, _first)
    sys.unraisablehook = _unraisable


def ignore_signals() -> None:
    """From now on let no signal change how the command ends."""
    for number in _STATUS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def hurried_by(hurry: Callable[[], object]) -> Iterator[None]:
    """Within the block, have `hurry` called at the first signal, in a thread of its own.

    Threads that wait for a storage that is away would otherwise hold up the end for minutes.
    """
    _hurries.append(hurry)
    try:
        yield
    finally:
        _hurries.remove(hurry)


@contextlib.contextmanager
def hangup_stops() -> Iterator[None]:
    """Within the block, treat a closed terminal as SIGTERM, unless hang-ups are ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda _, frame: _first(signal.SIGTERM, frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def passing_on(send: Callable[[signal.Signals], bool]) -> Iterator[None]:
    """Within the block, hand signals to `send`, which passes them on to the process that runs.

    That process decides what they do. `send` returns False where there is none any more: then
    they stop the command as ever.
    """

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not send(signal.Signals(number)) and number in _STATUS:
            _first(number, frame)

    heeded = [number for number in _PASSED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Within the block, a short one, have signals wait for its end.

    A process that is being started would otherwise be left behind by what a signal raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    held: list[int] = []
    numbers = [number for number in _PASSED if callable(signal.getsignal(number))]
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in held:
            signal.raise_signal(late)


@contextlib.contextmanager
def parting_with(farewell: Callable[[], object]) -> Iterator[None]:
    """Within the block, have `farewell` called where a second signal ends the command at once."""
    _farewells.append(farewell)
    try:
        yield
    finally:
        _farewells.remove(farewell)


def _hurry() -> None:
    for hurry in tuple(_hurries):
        hurry()


def _first(number: int, _frame: FrameType | None) -> None:
    for each in _STATUS:
        signal.signal(each, _second)
    _say(b"\nstopping; once more ends at once\n")
    _thread.start_new_thread(_hurry, ())  # takes no lock that the interrupted thread may hold
    raise Stopped(_STATUS[signal.Signals(number)])


def _second(number: int, _frame: FrameType | None) -> None:
    if _lost:
        raise Stopped(_STATUS[_lost.pop()])
    _say(_SHOW_CURSOR)  # the bars hide it
    for farewell in _farewells:
        farewell()
    os._exit(_STATUS[signal.Signals(number)])


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Raise once more, a moment later, what came out of a finalizer, where Python drops it.

    A signal is handled wherever the main thread is, also in a `__del__` or in the callback of a
    weak reference, such as the one that drops an import's lock.
    """
    if not isinstance(lost.exc_value, Stopped):
        sys.__unraisablehook__(lost)
        return
    _lost.append(_SIGNAL[lost.exc_value.status])
    _thread.start_new_thread(_once_more, (threading.get_ident(),))


def _once_more(thread: int) -> None:
    time.sleep(_MOMENT)  # until the finalizer has ended
    for number in _lost[-1:]:
        signal.pthread_kill(thread, number)  # wakes it where it waits


def _say(text: bytes) -> None:
    """Write past Python's buffers, which the signal may have interrupted in the middle."""
    if sys.stderr is not None and os.isatty(2):
        os.write(2, text)
