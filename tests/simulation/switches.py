"""How a rule is switched off: a part of the real code is bent while a run is played."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias
from unittest import mock

from tests.simulation.scheduler import Weather

Switch: TypeAlias = Callable[[], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class Rule:
    """A switch, and what to play so that the loss comes soon.

    Attributes:
        switch: turns the rule off.
        seeds: so many runs are enough, many times over.
        weather: of all runs; None for each its own.
    """

    switch: Switch
    seeds: int = 300
    writers: int = 4
    collectors: int = 2
    weather: Weather | None = None


def bend(owner: object, name: str, make: Callable[[Any], Any]) -> Switch:
    """Return a switch that puts `make` of what is there in its place."""
    return lambda: mock.patch.object(owner, name, make(getattr(owner, name)))


def bend_all(*bent: tuple[object, str, Any]) -> Switch:
    """Return a switch that puts values in places."""

    @contextlib.contextmanager
    def switch() -> Any:
        with contextlib.ExitStack() as stack:
            for owner, name, value in bent:
                stack.enter_context(mock.patch.object(owner, name, value))
            yield

    return switch
