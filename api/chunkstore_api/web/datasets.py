"""Pages of what there is: the datasets, one of them with its versions, the whole store."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from chunkstore.errors import IntegrityError, NotFoundError, UnsupportedFormatError
from chunkstore.store import Store
from chunkstore.values import Version
from chunkstore_api.context import READ, Served, may_see
from chunkstore_api.routes.files import Name
from chunkstore_api.web import charts
from chunkstore_api.web.rendering import page, server_of
from chunkstore_api.web.texts import pull_command

router = APIRouter(include_in_schema=False)

DATASETS_SHOWN: Final = 50
VERSIONS_SHOWN: Final = 100
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A dataset in the list: its newest version, and how many; or what is wrong with it."""

    name: str
    latest: Version | None = None
    versions: int = 0
    problem: str | None = None


@router.get("/")  # whoever may see none gets none
def datasets_page(
    request: Request,
    served: Served,
    prefix: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Show the datasets that are there for whoever asks."""
    prefix = prefix.strip()
    names = [name for name in served.store.datasets(prefix) if may_see(request, name)]
    begin = bisect.bisect_right(names, after) if after else 0
    end = begin + DATASETS_SHOWN
    return page(
        request.scope,
        "datasets.html",
        rows=_rows(served.store, names[begin:end]),
        total=len(names),
        begin=begin,
        prefix=prefix,
        server=server_of(request),
        before=names[begin - DATASETS_SHOWN - 1] if begin > DATASETS_SHOWN else "",
        following=names[end - 1] if end < len(names) else None,
    )


def _rows(store: Store, names: Sequence[str]) -> list[Row]:
    def row(name: str) -> Row:
        try:
            dataset = store.dataset(name)
        except NotFoundError:
            return Row(name)
        except (IntegrityError, UnsupportedFormatError) as error:  # the others are still there
            return Row(name, problem=error.message)
        return Row(name, dataset.latest, len(dataset.versions))

    with ThreadPoolExecutor(_AT_ONCE, "chunkstore-datasets") as pool:
        return list(pool.map(row, names))


@router.get("/store", dependencies=READ)
def store_page(request: Request, served: Served) -> Response:
    """Show the sizes of the whole store; loads the whole index."""
    stat = served.store.stat()
    return page(request.scope, "store.html", stat=stat, config=served.store.config)


@router.get("/datasets/{name:dataset}", dependencies=READ)
def dataset_page(
    request: Request,
    served: Served,
    name: Name,
    before: Annotated[int | None, Query(description="the last number of the page before")] = None,
) -> Response:
    """Show a dataset: what deduplication saves, and its versions, the newest first."""
    versions = served.store.dataset(name).versions
    listed = [v for v in reversed(versions) if before is None or v.number < before]
    parents = {new.number: old.number for old, new in itertools.pairwise(versions)}
    return page(
        request.scope,
        "dataset.html",
        name=name,
        versions=listed[:VERSIONS_SHOWN],
        parents=parents,
        following=listed[VERSIONS_SHOWN - 1].number if len(listed) > VERSIONS_SHOWN else None,
        first=before is None,
        latest=versions[-1],
        oldest=versions[0],
        total=len(versions),
        chart=charts.savings_chart(versions),
        places=charts,
        command=pull_command(server_of(request), name),
    )
