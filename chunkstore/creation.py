"""A store is created: what must hold before, and the config is written. Neighbour: `store`."""

from __future__ import annotations

import dataclasses
import secrets
import time

from chunkstore import layout
from chunkstore.backends.base import Backend
from chunkstore.backends.emulated import CheckThenPutBackend
from chunkstore.backends.location import HttpLocation, parse_location
from chunkstore.chunker import Chunker
from chunkstore.errors import AlreadyExistsError, InvalidInputError, RefusedError
from chunkstore.events import Notice, ProgressCallback
from chunkstore.format.config import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_PACK_LENGTH,
    SINGLE_WRITER,
    ChunkerSpec,
    Config,
)
from chunkstore.objects import Objects


def new_config(
    chunker: ChunkerSpec | None, frame_size: int | None, pack_length: int | None
) -> Config:
    """Return the config of a store that is yet to be, None standing for what is usual.

    Raises:
        InvalidInputError: sizes that cannot be, or a chunker that is not installed.
    """
    config = Config(
        store_id=secrets.token_bytes(16),
        created_ns=time.time_ns(),
        chunker=chunker or ChunkerSpec(),
        frame_size=frame_size or DEFAULT_FRAME_SIZE,
        pack_length=pack_length or DEFAULT_PACK_LENGTH,
    )
    Chunker(config.chunker)
    return config


def check_creatable(url: str) -> None:
    """Refuse an address at which no store can be created.

    Raises:
        InvalidInputError: it is that of a server, or none.
    """
    if isinstance(parse_location(url), HttpLocation):
        raise InvalidInputError(
            "a store is not created through a server",
            hint="create it where the server runs, in a folder or bucket, with init, and serve it",
        )


def create_on(backend: Backend, config: Config, progress: ProgressCallback) -> Config:
    """Write the config of a new store, and return it as it was written.

    The storage is probed first; one that ignores conditional writes gets a store for one writer.

    Raises:
        AlreadyExistsError: there is a store.
        RefusedError: there are other things.
        BackendError: the storage failed.
    """
    check_vacant(backend)
    capabilities = backend.probe()
    if not capabilities.many_writers:
        config = single_writer(config, capabilities.server, progress)
        backend = CheckThenPutBackend(backend)
    if not Objects(backend).create_config(config):
        raise AlreadyExistsError(f"there is already a store at {backend.url}")
    return config


def check_vacant(backend: Backend) -> None:
    """Refuse a place that holds a store, or anything else.

    Raises:
        AlreadyExistsError: there is a store.
        RefusedError: there are other things.
    """
    for info in backend.list(""):
        if info.key == layout.CONFIG:
            raise AlreadyExistsError(
                f"there is already a store at {backend.url}", hint="use it, or choose another place"
            )
        if not info.key.startswith("probe/"):
            raise RefusedError(
                f"{backend.url} holds other things, such as {info.key!r}",
                hint="choose an empty place, for instance a new folder or prefix",
            )


def single_writer(config: Config, server: str, progress: ProgressCallback) -> Config:
    """Return `config` for a storage that ignores conditional writes, and say so."""
    progress(
        Notice(
            message=f"this storage ({server}) ignores conditional writes, so the store is made "
            "for one writer at a time",
            hint="make sure that only one push, tag or rm runs at once, or use another storage",
        )
    )
    return dataclasses.replace(config, write_features=frozenset({SINGLE_WRITER}))
