"""What the tests of the HTTP API share: a real server in a thread, and clients of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from chunkstore_api.app import create_app
from chunkstore_api.server import configured
from chunkstore_api.settings import Limits, Settings
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import Store
from chunkstore.backends.base import ObjectInfo

FILES = "/v1/datasets/pets/versions/latest/files"


class Served:
    """A store and the server in front of it."""

    def __init__(self, store: Store, address: str) -> None:
        self.store = store
        self.address = address
        self.client = httpx.Client(
            base_url=address, timeout=60, headers={"Accept-Encoding": "identity"}
        )

    def file(self, path: str, **more: object) -> httpx.Response:
        """GET a file of the newest version of `pets`."""
        return self.client.get(f"{FILES}/{path}", **more)  # type: ignore[arg-type]  # as given

    def problem(self, answer: httpx.Response, status: int, code: str) -> dict[str, object]:
        """Check that an answer is a problem document, and return it."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        document: dict[str, object] = answer.json()
        assert document["code"] == code, document
        assert document["status"] == status
        assert document["detail"]
        return document


def flat(declared: Iterable[Any]) -> Iterator[Any]:
    """Yield the routes of an application, those of its routers too."""
    for route in declared:
        router = getattr(route, "original_router", None)  # FastAPI 0.165 keeps routers whole
        if router is not None:
            yield from flat(router.routes)
        else:
            yield route


def listing(client: httpx.Client, prefix: str) -> Iterator[ObjectInfo]:
    """List objects by pages of five, as they are shown to whoever has the headers of `client`."""
    following: str | None = ""
    while following is not None:
        asked = {"prefix": prefix, "after": following, "limit": "5"}
        page = client.get("/v1/objects", params=asked).raise_for_status().json()
        for found in page["objects"]:
            yield ObjectInfo(**found)
        following = page["next"]


def tokens_file(
    folder: Path, **granted: tuple[Right, *tuple[str, ...]]
) -> tuple[TokensFile, dict[str, str]]:
    """Make a file of tokens, each with its name, right and datasets; return their texts by name."""
    file = TokensFile(str(folder / "tokens.json"))
    return file, {
        name: file.create(name, right, patterns)[1] for name, (right, *patterns) in granted.items()
    }


@contextlib.contextmanager
def serving(
    store: Store,
    *,
    tokens: str | None = None,
    direct: bool = False,
    proxies: tuple[str, ...] = (),
    **limits: object,
) -> Iterator[Served]:
    """Run a server on a store."""
    bounds = Limits(**limits)  # type: ignore[arg-type]  # as given
    settings = Settings(port=0, tokens=tokens, direct=direct, proxies=proxies, limits=bounds)
    server = uvicorn.Server(configured(create_app(store, settings), settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        served = Served(store, f"http://127.0.0.1:{port}")
        with served.client:
            yield served
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def served(store: Store) -> Iterator[Served]:
    """A server on a new store in a folder."""
    with serving(store) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that the tests of a module share; they only add to it."""
    folder: Path = tmp_path_factory.mktemp("api")
    with (
        Store.create(str(folder / "store"), cache_folder=folder / "cache") as store,
        serving(store) as running,
    ):
        yield running
