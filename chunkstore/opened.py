"""A store that is open: what all parts of the facade stand on.

Neighbours: `versions`, `upkeep` and `store` say what can be done with it.
"""

from __future__ import annotations

from typing import NoReturn, Self

from chunkstore import inspection, layout
from chunkstore.address import Address
from chunkstore.backends.base import Backend
from chunkstore.backends.emulated import CheckThenPutBackend
from chunkstore.caches import Caches
from chunkstore.chunk_index import DEFAULT_BUDGET, ChunkIndex
from chunkstore.errors import PermissionDeniedError
from chunkstore.format.config import SINGLE_WRITER, Config
from chunkstore.format.ref import Ref, VersionRecord
from chunkstore.objects import Objects
from chunkstore.place import Place
from chunkstore.profile import OFF, Clock
from chunkstore.reader import Reader
from chunkstore.refs import Refs, resolve
from chunkstore.savings import Savings


class Opened:
    """A store that is open, and nothing that can be done with it yet."""

    def __init__(
        self,
        backend: Backend,
        config: Config,
        cache_folder: str | None,
        index_budget: int = DEFAULT_BUDGET,
    ) -> None:
        """Take an open backend; `Store.open` and `Store.create` are the usual ways."""
        config.check_readable()
        if SINGLE_WRITER in config.write_features and not backend.access().guarded:
            backend = CheckThenPutBackend(backend)
        self._backend = backend
        self._objects = Objects(backend)
        self._config = config
        self._refs = Refs(self._objects)
        self._caches = Caches.below(cache_folder, config.store_id, index_budget)
        # For the server, which hands out objects as they are; no part of what the library promises.
        self.objects, self.caches = self._objects, self._caches

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store is not pickled: open it in each process, by its address")

    @property
    def url(self) -> str:
        """The store's address, without credentials."""
        return self._backend.url

    @property
    def config(self) -> Config:
        """What the store is: its id, how it cuts, the sizes of frames and packs, its features."""
        return self._config

    def close(self) -> None:
        """Give back connections. Calling it twice is fine."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resolve(self, address: Address) -> tuple[Ref, VersionRecord]:
        ref = self._refs.require(address.dataset).ref
        return ref, resolve(ref, address.version)

    def _index(self) -> ChunkIndex:
        index = ChunkIndex(self._objects, self._caches.segments)
        index.load_for_reading()
        return index

    def _savings(self) -> Savings:
        """Return what measures chunks, by the whole index.

        Raises:
            PermissionDeniedError: the caller sees only a part of it, by which sizes would be wrong.
        """
        if self._backend.access().narrow:
            raise PermissionDeniedError(
                f"what chunks take up at {self.url} is told by a token for all datasets only",
                operation="stat",
                hint="log has the sizes of versions",
            )
        return Savings(self._reader(), self._index())

    def _reader(
        self, on_fetched: inspection.Counter = lambda _: None, clock: Clock = OFF
    ) -> Reader:
        return Reader(self._objects, self._index, on_fetched, clock)

    def _place(self) -> Place:
        caches = self._caches
        return Place(self._objects, self._config, caches.segments, caches.temporary_folder())

    def _swap(self, dataset: str, edit: inspection.Edit) -> Ref:
        self._config.check_writable()
        layout.check_name(dataset, "dataset")
        return self._refs.swap(dataset, edit)
