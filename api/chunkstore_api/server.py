"""The process that serves: uvicorn, told what chunkstore needs."""

from __future__ import annotations

import asyncio
import functools
import math
import socket
import ssl
from collections.abc import Callable
from typing import cast

import uvicorn
from fastapi import FastAPI

from chunkstore.errors import FilesystemError, InvalidInputError
from chunkstore.layout import CONFIG
from chunkstore.store import Store
from chunkstore_api.app import create_app
from chunkstore_api.connection import Connection
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
    with line:
        config = configured(create_app(store, settings), settings)
        scheme = "https" if settings.tls else "http"
        listening(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        uvicorn.Server(config).run(sockets=[line])


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves an application.

    Raises:
        InvalidInputError: the files of the certificate and its key are none.
    """
    idle = math.ceil(settings.limits.idle)
    connection = functools.partial(Connection, settings.limits)
    context = _tls(*settings.tls) if settings.tls else None
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=cast("type[asyncio.Protocol]", connection),  # it is called, and nothing else
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=idle,
        timeout_graceful_shutdown=idle,
        lifespan="on",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        ssl_context_factory=(lambda *_: context) if context else None,
    )


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (OSError, ValueError) as error:  # of which those of TLS are
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise InvalidInputError(
            f"{certificate} and {key} are no certificate and its key: {reason}",
            hint="both in PEM; the certificate first, then those that vouch for it; no passphrase",
        ) from error
    return context


def _refuse_password() -> str:
    raise ValueError("the key has a passphrase")


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
