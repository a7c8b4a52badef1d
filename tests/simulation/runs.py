"""One run: a store, its weather, and actors who push, read, tag, remove, bring back and collect."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

from chunkstore import ChunkerSpec, Store, compaction, fragmentation, stretch, view
from chunkstore.backends.base import Backend
from chunkstore.backends.memory import MemoryBackend
from chunkstore.backends.retry import RetryBackend
from chunkstore.errors import (
    BackendError,
    ConflictError,
    MissingObjectError,
    NotFoundError,
)
from chunkstore.events import ignore
from chunkstore.format.config import Config
from chunkstore.gc import Collector, GcOptions, accept
from chunkstore.objects import Objects
from tests.simulation.determinism import Time
from tests.simulation.scheduler import Actor, Call, Link, Scheduler, Weather
from tests.simulation.truth import COPIED, Files, LossError, Truth, read_version

CONFIG: Final = Config(
    store_id=b"simulated stores",
    created_ns=1,
    chunker=ChunkerSpec(min_size=1024, avg_size=2048, max_size=4096),
    frame_size=4096,
    pack_length=6144,
)
DATASETS: Final = ("a", "b")
BLOCKS: Final = tuple(random.Random(n).randbytes(1500 + 1700 * n) for n in range(4))
OPERATIONS: Final = 4
"""How much each writer does in a run."""
COLLECTIONS: Final = 3
RESCUES: Final = 3
"""How often versions are brought back, or copied from elsewhere."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to; `loss` is None where every promise held."""

    seed: int
    loss: BaseException | None
    history: list[Call]
    versions: int
    deleted: int
    commits: int

    def told(self, last: int = 60) -> str:
        """Return the end of the history and the loss, to be read by people."""
        lines = [str(call) for call in self.history[-last:]]
        return "\n".join([f"seed {self.seed}: {self.loss}", *lines])


def contents(number: int) -> Files:
    """Return the files of one of twelve trees, which share blocks."""
    first, second = BLOCKS[number % 4], BLOCKS[number // 4 % 4]
    return {"one": first, "two": second, "small": b"%d" % (number % 3)}


class World:
    """The trees that all runs push, written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trees: list[tuple[Path, Files]] = []
        for number in range(12):
            files = contents(number)
            tree = folder / f"tree-{number}"
            tree.mkdir(parents=True)
            for name, data in files.items():
                (tree / name).write_bytes(data)
            self.trees.append((tree, files))
        self.elsewhere: dict[str, Files] = {}
        self._other = MemoryBackend()
        assert Objects(self._other).create_config(CONFIG)
        for number in (1, 6, 11):
            tree, files = self.trees[number]
            message = f"{COPIED} {number}"
            self.elsewhere[message] = files
            self.other().push(tree, "there", message=message)

    def other(self) -> Store:
        """Open a store with three versions, which nobody changes."""
        return Store(self._other, CONFIG, None)


class Run:
    """The actors of one run and what they do."""

    def __init__(
        self,
        seed: int,
        world: World,
        clock: Time,
        chance: random.Random,
        weather: Weather | None,
    ) -> None:
        chance.seed(seed)
        clock.now, clock.tick = 1_000_000.0 + seed % 1000, 0
        self.chance = random.Random(seed * 7 + 1)  # of what is done; `chance` is the library's own
        self.world = world
        self.truth = Truth(clock)
        self.truth.pushed.update(world.elsewhere)
        self.clock = clock
        self.weather = weather or _weather(self.chance)
        self.scheduler = Scheduler(random.Random(seed * 7 + 2), clock, self.weather)
        self.retries = self.chance.random() < 0.5
        self.cache: Path | None = None
        self.commits = 0
        self._pushes = 0

    def bodies(self, writers: int, collectors: int) -> dict[str, Callable[[Actor], None]]:
        """Return what the actors do."""
        return {
            **{f"writer {n}": self._write for n in range(writers)},
            **{f"gc {n}": self._collect for n in range(collectors)},
            "reader": self._read,
            "rescuer": self._rescue,
        }

    def store(self, actor: Actor) -> Store:
        """Open the store as one of several machines."""
        cache = str(self.cache / actor.name) if self.cache else None
        return Store(self.link(actor), CONFIG, cache)

    def link(self, actor: Actor) -> Backend:
        """Return an actor's way to the storage."""
        link = Link(self.scheduler, actor, self.truth)
        if not self.retries:
            return link
        return RetryBackend(
            link, clock=self.clock.time, sleep=self.clock.sleep, jitter=lambda: 0.5, deadline=1e9
        )

    def _write(self, actor: Actor) -> None:
        for _ in range(OPERATIONS):
            doing = self.chance.choices([self._push, self._remove, self._tag], [5, 3, 1])[0]
            self._try(doing, actor)

    def _try(self, doing: Callable[[Store, Actor], None], actor: Actor) -> None:
        """Do one thing, which others or the storage may make impossible."""
        try:
            doing(self.store(actor), actor)
        except (ConflictError, NotFoundError) as error:
            self.scheduler.note(actor.name, "gives up", "", str(error)[:60])
        except BackendError as error:
            self._expected(error)
            self.scheduler.note(actor.name, "fails", "", str(error)[:60])

    def _push(self, store: Store, actor: Actor) -> None:
        self._pushes += 1
        message = f"{self._pushes} by {actor.name}"
        dataset = self.chance.choice(DATASETS)
        if self.chance.random() < 0.3:
            data = self.chance.choice(BLOCKS)
            self.truth.pushed[message] = {"one": data}
            self.scheduler.note(actor.name, "PUSH", dataset, f"stream, {message}")
            result = store.push(io.BytesIO(data), dataset, name="one", message=message)
        else:
            tree, files = self.chance.choice(self.world.trees)
            self.truth.pushed[message] = files
            self.scheduler.note(actor.name, "PUSH", dataset, f"{tree.name}, {message}")
            result = store.push(tree, dataset, message=message)
        assert result.version is not None
        self.scheduler.note(actor.name, "PUSHED", dataset, f"as {result.version}")
        self.truth.acknowledge(dataset, result.version, message)
        self.commits += 1

    def _remove(self, store: Store, actor: Actor) -> None:
        dataset = self.chance.choice(DATASETS)
        numbers = [version.number for version in store.dataset(dataset).versions]
        chosen = self.chance.sample(numbers, self.chance.randint(1, len(numbers)))
        self.scheduler.note(actor.name, "REMOVE", dataset, str(chosen))
        removed = [(dataset, number) for number in chosen]
        self.truth.dropped.update(removed)
        self.truth.removals.update(removed)
        self.truth.open_removals.update(removed)
        store.remove(dataset, chosen)
        self.truth.open_removals.subtract(removed)

    def _tag(self, store: Store, actor: Actor) -> None:
        dataset = self.chance.choice(DATASETS)
        version = self.chance.choice(store.dataset(dataset).versions)
        store.tag(f"{dataset}@{version.number}", "good")

    def _rescue(self, actor: Actor) -> None:
        for _ in range(RESCUES):
            self._try(self.chance.choice([self._undo, self._copy]), actor)

    def _undo(self, store: Store, actor: Actor) -> None:
        dataset = self.chance.choice(DATASETS)
        self.scheduler.note(actor.name, "UNDO", dataset, "")
        begun = self.truth.removals.copy()
        numbers = [version.number for version in store.undo(dataset)]
        self.scheduler.note(actor.name, "UNDONE", dataset, str(numbers))
        self.truth.brought_back(dataset, numbers, begun)

    def _copy(self, store: Store, actor: Actor) -> None:
        dataset = self.chance.choice(DATASETS)
        number = self.chance.randint(1, len(self.world.elsewhere))
        self.scheduler.note(actor.name, "COPY", dataset, f"there@{number}")
        result = self.world.other().copy(store, [f"there@{number}"], dataset=dataset)
        (copied,) = result.versions
        assert copied.version is not None
        self.scheduler.note(actor.name, "COPIED", dataset, f"is {copied.version}")
        self.truth.acknowledge(dataset, copied.version, list(self.world.elsewhere)[number - 1])

    def _collect(self, actor: Actor) -> None:
        for _ in range(COLLECTIONS):
            store = self.store(actor)
            collector = Collector(
                store._objects,
                CONFIG,
                store._reader,
                None,
                GcOptions(apply=True, grace=0.0, reader_grace=0.0, force=True),
                confirm=accept,
                progress=ignore,
                now=self.clock.time,
                wait=lambda _: self.scheduler.switch(actor),
            )
            self.scheduler.note(actor.name, "COLLECT", "", "")
            try:
                result = collector.run()
            except ConflictError as error:
                self.scheduler.note(actor.name, "gives up", "", str(error)[:60])
            except BackendError as error:
                self._expected(error)
                self.scheduler.note(actor.name, "fails", "", str(error)[:60])
            else:
                freed = result.deleted_packs + result.finished
                self.scheduler.note(actor.name, "COLLECTED", "", f"{freed} packs")

    def _read(self, actor: Actor) -> None:
        for _ in range(3):
            try:
                self._read_one(self.store(actor), self.chance.choice(DATASETS), actor)
            except NotFoundError as error:
                self.scheduler.note(actor.name, "gives up", "", str(error)[:60])
            except BackendError as error:
                self._expected(error)

    def _read_one(self, store: Store, dataset: str, actor: Actor) -> None:
        record = self.chance.choice(store._refs.require(dataset).ref.versions)
        deleted = self.truth.deleted
        self.scheduler.note(actor.name, "READ", f"{dataset}@{record.number}", "")
        try:
            found = read_version(store._reader(), record.manifest_id)
        except MissingObjectError as error:
            listed = record in self.truth.refs[dataset].versions
            if listed and self.truth.deleted == deleted:
                raise LossError(f"{dataset}@{record.number} could not be read: {error}") from error
            self.scheduler.note(actor.name, "misses", str(listed), str(error)[:60])
            return
        if found != self.truth.pushed[record.message]:
            raise LossError(f"{dataset}@{record.number} was read wrong")

    def _expected(self, error: BackendError) -> None:
        if not (self.weather.lose or self.weather.crash):
            raise error


def _weather(chance: random.Random) -> Weather:
    faulty = chance.random() < 0.5
    return Weather(
        stick=chance.choice([0, 0.5, 0.8, 0.95]),
        sleep=chance.choice([0, 0.002, 0.01, 0.03]),
        crash=chance.choice([0, 0.002]) if faulty else 0,
        lose=chance.choice([0, 0.005, 0.03]) if faulty else 0,
        double=chance.choice([0, 0.03]) if faulty else 0,
    )


@contextlib.contextmanager
def _knobs(chance: random.Random) -> Iterator[None]:
    """Let pushes of a few KB do what larger ones do, more or less of it."""
    with contextlib.ExitStack() as stack:

        def set_to(module: object, name: str, *values: object) -> None:
            stack.enter_context(mock.patch.object(module, name, chance.choice(values)))

        set_to(view, "_TINY", 0, 0, 65536)
        set_to(view, "_SMALL", 1, 1, 4 << 20)
        set_to(compaction, "MOST_SEGMENTS", 2, 4, 32)
        set_to(stretch, "LEAST_SIZE", 1, stretch.LEAST_SIZE)
        set_to(fragmentation, "MOST_READ", 1.0, fragmentation.MOST_READ)
        yield


class Player:
    """Plays runs; `chance` and `clock` are those by which the library was made deterministic."""

    def __init__(self, world: World, clock: Time, chance: random.Random) -> None:
        self._world = world
        self._clock = clock
        self._chance = chance

    def play(
        self, seed: int, *, writers: int = 4, collectors: int = 2, weather: Weather | None = None
    ) -> Outcome:
        """Play one run: the promises are held against every write, and every byte at its end."""
        run = Run(seed, self._world, self._clock, self._chance, weather)
        loss: BaseException | None = None
        versions = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(_knobs(run.chance))
            if run.chance.random() < 0.25:
                folder = tempfile.TemporaryDirectory(dir=self._world.folder)
                run.cache = Path(stack.enter_context(folder))
            try:
                assert Objects(run.truth).create_config(CONFIG)
                run.scheduler.run(run.bodies(writers, collectors))
                versions = run.truth.read_all()
            except Exception as error:  # noqa: BLE001  # whatever it is, it ended the run
                loss = error
        truth = run.truth
        return Outcome(seed, loss, run.scheduler.history, versions, truth.deleted, run.commits)
