"""The page of what differs between two versions of a dataset."""

from __future__ import annotations

import itertools
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from chunkstore.address import Address
from chunkstore_api.context import READ, Served
from chunkstore_api.routes.files import Name
from chunkstore_api.web.files import SHOWN
from chunkstore_api.web.rendering import page

router = APIRouter(include_in_schema=False)

Which = Annotated[str, Query(max_length=200, description="number, tag, `latest`, `~N`")]


@router.get("/datasets/{name:dataset}/differences", dependencies=READ)
def differences_page(
    request: Request,
    served: Served,
    name: Name,
    before: Which = "~1",
    after: Which = "latest",
    begin: Annotated[str, Query(max_length=4097, description="the path to begin with")] = "",
) -> Response:
    """Show what differs, by path."""
    old, new = (served.store.version(Address(name, which.strip())) for which in (before, after))
    found = served.store.diff(
        Address(name, str(old.number)), Address(name, str(new.number)), start=begin
    )
    changes = list(itertools.islice(found, SHOWN + 1))
    return page(
        request.scope,
        "differences.html",
        name=name,
        old=old,
        new=new,
        changes=changes[:SHOWN],
        begin=begin,
        following=changes[SHOWN].path if len(changes) > SHOWN else None,
    )
