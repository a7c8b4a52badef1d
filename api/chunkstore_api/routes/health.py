"""Is the server alive, does its storage answer, what has it done."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chunkstore.errors import NotFoundError
from chunkstore_api.context import READ, Served
from chunkstore_api.metrics import Metrics
from chunkstore_api.problems import RequestError
from chunkstore_api.schemas import Health

router = APIRouter(tags=["health"])
open_router = APIRouter(tags=["health"])
"""What asks for no token."""


@open_router.get("/healthz")
async def healthz() -> Health:
    """Say that the process answers; nothing else is looked at."""
    return Health(status="ok")


@router.get("/readyz")
def readyz(served: Served) -> Health:
    """Say whether the storage answers; 503 or 502 where it does not."""
    try:
        served.store.ping()
    except NotFoundError as error:
        raise RequestError(503, "unavailable", error.message) from error
    return Health(status="ok")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "text", "content": {"text/plain": {}}}},
    dependencies=READ,
)
def metrics(request: Request) -> Response:
    """Give counters and gauges in the format of Prometheus."""
    found = request.app.state.metrics
    assert isinstance(found, Metrics)
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)
