"""The application: the routes, the problems, the store behind them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from chunkstore import __version__
from chunkstore.store import Store
from chunkstore_api import methods, names, openapi, problems
from chunkstore_api.access import Doorkeeper, authorise
from chunkstore_api.bounds import Bounds
from chunkstore_api.context import Context, allow_everybody
from chunkstore_api.gates import Gate
from chunkstore_api.guard import Guard
from chunkstore_api.guarded import Guarded
from chunkstore_api.metrics import Counting, Metrics
from chunkstore_api.rates import Crowd, Rates, Throttle
from chunkstore_api.settings import Settings
from chunkstore_api.tokens import TokensFile

names.register()  # before any route is declared

_BEARER: Final = HTTPBearer(
    scheme_name="token",
    description="A token of the server's file. A link needs none.",
    auto_error=False,  # it is there to be documented: `access` has let the request in
)


def create_app(store: Store, settings: Settings | None = None) -> FastAPI:
    """Return an application that serves an open store; the store stays the caller's to close.

    Args:
        store: what is served.
        settings: bounds, tokens, and where the server listens.
    """
    from chunkstore_api.web.problems import ProblemPages

    settings = settings or Settings()
    limits = settings.limits
    tokens = TokensFile(settings.tokens) if settings.tokens else None

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context = Context(
            store,
            settings,
            Gate("downloads", limits.downloads, limits.wait),
            Gate("uploads", limits.uploads, limits.wait),
            Guarded(store),
            authorise if tokens else allow_everybody,
            tokens,
        )
        app.state.context = context
        metrics.watch("downloads", context.downloads)
        metrics.watch("uploads", context.uploads)
        yield
        context.downloads.close()
        context.uploads.close()

    app = FastAPI(
        title="chunkstore",
        version=__version__,
        description="Versioned datasets over HTTP.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # the page would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses=problems.DOCUMENTED,
    )
    metrics = app.state.metrics = Metrics()
    problems.install(app)
    openapi.install(app)
    methods.install(app)
    app.add_middleware(methods.HeadAsGet)
    app.add_middleware(Bounds, idle=limits.idle)
    # What is added later stands before: a token is found, then its requests are counted.
    rates = Rates(limits.rate) if limits.rate is not None else None
    if not tokens:
        app.add_middleware(Guard, loopback=settings.loopback)
    if rates is not None:
        app.add_middleware(Throttle, rates=rates)
    if tokens:
        app.add_middleware(Crowd, most=limits.requests)
        app.add_middleware(Doorkeeper, tokens=tokens, rates=rates)
    app.add_middleware(ProblemPages)
    app.add_middleware(Counting, metrics=metrics)
    _include(app, guarded=tokens is not None)
    return app


def _include(app: FastAPI, *, guarded: bool) -> None:
    """Give an application its routes; where it is `guarded`, those of the API say so."""
    from chunkstore_api import web
    from chunkstore_api.routes import (
        archives,
        artifacts,
        datasets,
        files,
        health,
        links,
        objects,
        uploads,
    )

    # What has the longest path stands first: a dataset's name may have slashes.
    for module in (artifacts, files, uploads, archives, datasets, links, objects, health):
        app.include_router(module.router, dependencies=[Security(_BEARER)] if guarded else [])
    app.include_router(health.open_router)
    for router in web.ROUTERS:
        app.include_router(router)
