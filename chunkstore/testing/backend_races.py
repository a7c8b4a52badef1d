"""The part of the conformance suite in which several threads use a backend at once.

Neighbour: `backend_suite`, whose class has these laws too.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from chunkstore.backends.base import Backend, CreateOnly, Fetched, Overwrite, PutMode, ReplaceIf
from chunkstore.errors import ConditionFailedError


def race_of(
    backend: Backend, key: str, mode: PutMode, writers: int
) -> tuple[list[bytes], list[bytes]]:
    """Let writers put different bytes at once; return what the winners and the losers wrote."""
    start = threading.Barrier(writers)

    def write(number: int) -> tuple[bytes, bool]:
        data = b"%03d" % number * 1000
        start.wait()
        try:
            backend.put(key, [data], mode)
        except ConditionFailedError:
            return data, False
        return data, True

    with ThreadPoolExecutor(writers) as pool:
        outcomes = list(pool.map(write, range(writers)))
    return [data for data, won in outcomes if won], [data for data, won in outcomes if not won]


class Races:
    """Tests of one backend under several threads.

    Attributes:
        many_writers: whether the storage honours conditions under racing writers. Where not,
            at least one of them wins, and one writer at a time is still served rightly.
        writers: how many of them race.
        rounds: how often they race.
    """

    many_writers: ClassVar[bool] = True
    writers: ClassVar[int] = 16
    rounds: ClassVar[int] = 5

    def test_one_of_racing_creators_wins(self, backend: Backend) -> None:
        """Of CreateOnly writes at once exactly one is accepted, and its bytes are there."""
        for number in range(self.rounds):
            self._check_race(backend, f"race/{number}", CreateOnly())

    def test_one_of_racing_replacers_wins(self, backend: Backend) -> None:
        """Of ReplaceIf writes of one version exactly one is accepted, and its bytes are there."""
        for number in range(self.rounds):
            version = backend.put(f"race/{number}", [b"first"], CreateOnly())
            self._check_race(backend, f"race/{number}", ReplaceIf(version))

    def _check_race(self, backend: Backend, key: str, mode: PutMode) -> None:
        winners, losers = race_of(backend, key, mode, self.writers)
        assert len(winners) + len(losers) == self.writers
        assert len(winners) == 1 or (winners and not self.many_writers)
        assert backend.get(key).data in winners

    def test_readers_see_whole_objects(self, backend: Backend) -> None:
        """While an object is replaced, each read gives one version's bytes, never a mixture."""
        written: dict[str, bytes] = {}
        seen: list[Fetched] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                seen.append(backend.get("key"))
                part = backend.get("key", (10_000, 20_000)).data
                assert len(set(part)) == 1

        def write(number: int) -> None:
            data = bytes([number]) * (20_000 + 50_000 * (number % 3))
            written[backend.put("key", [data[:9], data[9:]], Overwrite())] = data

        write(0)
        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            try:
                for number in range(1, 30):
                    write(number)
            finally:
                done.set()
            for reader in readers:
                reader.result()
        assert seen
        for fetched in seen:
            assert written[fetched.version] == fetched.data

    def test_threads_do_not_disturb_one_another(self, backend: Backend) -> None:
        """All methods at once from several threads do what each would alone."""

        def work(number: int) -> list[str]:
            mine = f"thread-{number}/"
            for step in range(4):
                data = b"%d-%d" % (number, step) * 500
                version = backend.put(f"{mine}{step}", [data], CreateOnly())
                assert backend.get(f"{mine}{step}") == Fetched(data, version)
                backend.put(f"{mine}{step}", [data, b"!"], ReplaceIf(version))
                assert backend.head(f"{mine}{step}").length == len(data) + 1
            backend.delete([f"{mine}0", f"{mine}2"])
            return [info.key for info in backend.list(mine)]

        with ThreadPoolExecutor(8) as pool:
            left = list(pool.map(work, range(8)))
        assert left == [[f"thread-{n}/1", f"thread-{n}/3"] for n in range(8)]
