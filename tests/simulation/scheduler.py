"""Actors that take turns at every call of the storage, in an order that a seed decides.

Each actor is a thread, of which one runs at a time: the one that comes to a call chooses who goes
on. `Link` is an actor's way to the storage, on which requests and answers are lost, late and
doubled, and where the actor dies.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from chunkstore.backends.base import Backend, Buffer, Capabilities, Fetched, ObjectInfo, PutMode
from chunkstore.errors import BackendError, UnavailableError
from chunkstore.testing.backends import CrashError
from tests.simulation.determinism import Time

Result = TypeVar("Result")

FOR_EVER = 1 << 60
PAGE = 3
"""Keys that one request of a listing gives: the store may change between two of them."""


@dataclass(frozen=True)
class Weather:
    """How bad a run is; probabilities are for each call.

    Attributes:
        stick: that the same actor goes on.
        sleep: that it is not heard of for long, sometimes until all others have ended.
        crash: that it dies.
        lose: that a request or its answer is lost; it may arrive later.
        double: that a request arrives a second time, later.
    """

    stick: float = 0.0
    sleep: float = 0.0
    crash: float = 0.0
    lose: float = 0.0
    double: float = 0.0


class Call(NamedTuple):
    """One line of the history of a run."""

    step: int
    actor: str
    method: str
    key: str
    outcome: str

    def __str__(self) -> str:
        """Return the line, ids shortened."""
        parts = [part[:12] if len(part) > 40 else part for part in self.key.split("/")]
        return f"{self.step:5} {self.actor:10} {self.method:6} {'/'.join(parts):40} {self.outcome}"


@dataclass
class Actor:
    """One process: what it does, and until which step it is not to be heard of."""

    name: str
    body: Callable[[Actor], None]
    asleep_until: int = 0
    dead: bool = False
    baton: threading.Lock = field(default_factory=threading.Lock)


class Scheduler:
    """Lets actors run, one at a time, and keeps the history of their calls.

    Attributes:
        step: how many calls were made.
        history: all of them.
    """

    def __init__(self, chance: random.Random, clock: Time, weather: Weather) -> None:
        self.chance = chance
        self.weather = weather
        self.step = 0
        self.history: list[Call] = []
        self._clock = clock
        self._actors: list[Actor] = []
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._main = threading.Lock()
        self._failure: BaseException | None = None

    def run(self, bodies: dict[str, Callable[[Actor], None]]) -> None:
        """Run actors to their ends; raise what one of them raised, but for its death."""
        self._main.acquire()
        self._actors = [Actor(name, body) for name, body in bodies.items()]
        threads = []
        for actor in self._actors:
            actor.baton.acquire()
            threads.append(threading.Thread(target=self._live, args=(actor,), daemon=True))
            threads[-1].start()
        self._next().baton.release()
        self._main.acquire()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        while self._late:
            self._arrive(FOR_EVER)

    def later(self, call: Callable[[], object]) -> None:
        """Let a request arrive after some more steps."""
        self._late.append((self.step + self._long(), call))

    def note(self, actor: str, method: str, key: str, outcome: str) -> None:
        """Add a line to the history."""
        self.history.append(Call(self.step, actor, method, key, outcome))

    def switch(self, actor: Actor) -> None:
        """Come to a call: others may go on first, for ever perhaps."""
        self.step += 1
        self._clock.now += 0.01
        if self._failure is not None:
            actor.dead = True
        if not actor.dead:
            self._arrive(self.step)
            if self.chance.random() < self.weather.sleep:
                for_ever = self.chance.random() < 0.2
                actor.asleep_until = FOR_EVER if for_ever else self.step + self._long()
            if self.chance.random() >= self.weather.stick or actor.asleep_until > self.step:
                other = self._next()
                if other is not actor:
                    other.baton.release()
                    actor.baton.acquire()
        if actor.dead or self._failure is not None:
            actor.dead = True
            raise CrashError(f"{actor.name} is dead")

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        try:
            if self._failure is None:
                actor.body(actor)
        except CrashError:
            pass
        except BaseException as error:  # noqa: BLE001  # raised again in `run`
            self._failure = self._failure or error
        self._actors.remove(actor)
        if self._actors:
            self._next().baton.release()
        else:
            self._main.release()

    def _next(self) -> Actor:
        awake = [actor for actor in self._actors if actor.asleep_until <= self.step]
        if awake:
            return self.chance.choice(awake)
        first = min(self._actors, key=lambda actor: actor.asleep_until)
        if first.asleep_until == FOR_EVER:  # all are left alone: they wake up, or never do
            for sleeper in self._actors:
                sleeper.asleep_until = 0
                sleeper.dead = sleeper.dead or self.chance.random() < 0.3
        first.asleep_until = 0
        return first

    def _long(self) -> int:
        return int(10 ** self.chance.uniform(0.5, 2.7))

    def _arrive(self, step: int) -> None:
        if self._late:
            due = [call for at, call in self._late if at <= step]
            self._late = [late for late in self._late if late[0] > step]
            for call in due:
                call()


class Link(Backend):
    """An actor's way to the storage."""

    def __init__(self, scheduler: Scheduler, actor: Actor, storage: Backend) -> None:
        self._scheduler = scheduler
        self._actor = actor
        self._storage = storage

    @property
    def url(self) -> str:
        return self._storage.url

    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        return self._call("get", key, lambda: self._storage.get(key, byte_range))

    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        joined = b"".join(data)
        return self._call("put", key, lambda: self._storage.put(key, [joined], mode), writes=True)

    def head(self, key: str) -> ObjectInfo:
        return self._call("head", key, lambda: self._storage.head(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        last = after

        def page() -> list[ObjectInfo]:
            return [*itertools.islice(self._storage.list(prefix, after=last), PAGE)]

        while found := self._call("list", prefix, page):
            yield from found
            last = found[-1].key
            if len(found) < PAGE:
                return

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:  # a storage deletes them one by one
            self._call("delete", key, lambda key=key: self._storage.delete([key]), writes=True)  # type: ignore[misc]

    def probe(self) -> Capabilities:
        return self._storage.probe()

    def _call(
        self, method: str, key: str, effect: Callable[[], Result], *, writes: bool = False
    ) -> Result:
        scheduler, actor = self._scheduler, self._actor
        scheduler.switch(actor)
        weather, chance = scheduler.weather, scheduler.chance

        def happen(outcome: str) -> Result:
            try:
                result = effect()
            except BackendError as error:
                scheduler.note(actor.name, method, key, f"{outcome} {type(error).__name__}")
                raise
            scheduler.note(actor.name, method, key, outcome)
            return result

        def in_vain(outcome: str) -> None:
            try:
                happen(outcome)
            except BackendError:
                return

        if chance.random() < weather.crash:
            actor.dead = True
            if writes and chance.random() < 0.5:
                in_vain("done, then died")
            else:
                scheduler.note(actor.name, method, key, "died before")
            raise CrashError(f"{actor.name} died")
        if chance.random() < weather.lose:
            fate = chance.choice(["request", "answer", "late"] if writes else ["request"])
            if fate == "answer":
                in_vain("answer lost")
            else:
                scheduler.note(actor.name, method, key, f"lost ({fate})")
            if fate == "late":
                scheduler.later(lambda: in_vain("arrives late"))
            raise UnavailableError(
                f"{method} of {key}: lost", operation=method, key=key, retryable=True
            )
        result = happen("")
        if writes and chance.random() < weather.double:
            scheduler.later(lambda: in_vain("arrives again"))
        return result
