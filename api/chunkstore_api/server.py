"""The process that serves: uvicorn, told what chunkstore needs."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from chunkstore.errors import FilesystemError, InvalidInputError
from chunkstore.layout import CONFIG
from chunkstore.store import Store
from chunkstore_api.app import create_app
from chunkstore_api.settings import Settings
from chunkstore_api.tokens import TokensFile

_BACKLOG = 128


def serve(
    store: Store, settings: Settings, *, listening: Callable[[str], None] = lambda _: None
) -> None:
    """Serve a store until the process is told to stop; then end what is under way.

    Args:
        store: an open store.
        settings: where to listen, and bounds.
        listening: is told the address once connections are taken.

    Raises:
        InvalidInputError: direct transfers from a storage that has none.
        RefusedError: others would reach the address, and that was not asked for.
        ChunkstoreError: there is no tokens file to go by; as `TokensFile.read`.
        FilesystemError: the address is taken, or cannot be.
    """
    settings.check()
    if settings.direct and store.objects.backend.presigned_get(CONFIG, (0, 1), 1) is None:
        raise InvalidInputError(
            f"clients cannot reach {store.url} by signed URLs",
            hint="leave --direct out: the server sends and takes packs itself",
        )
    if settings.tokens:
        TokensFile(settings.tokens).read()
    line = _listen(settings)
    host, port = line.getsockname()[:2]
    listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    with line:
        uvicorn.Server(configured(create_app(store, settings), settings)).run(sockets=[line])


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves an application."""
    idle = int(settings.limits.idle)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=idle,
        timeout_graceful_shutdown=idle,
        lifespan="on",
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    line = socket.socket(family, socket.SOCK_STREAM)
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((settings.host.strip("[]"), settings.port))
        line.listen(_BACKLOG)
    except OSError as error:
        line.close()
        raise FilesystemError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}",
            hint="choose another by --port, 0 for any that is free",
        ) from error
    return line
