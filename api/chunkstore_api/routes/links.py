"""Links to one file or one upload, made for whoever has a token for it."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from chunkstore.address import parse_address
from chunkstore.errors import RefusedError
from chunkstore_api import links
from chunkstore_api.context import Served
from chunkstore_api.tokens import Right

router = APIRouter(tags=["links"])


class LinkBody(BaseModel):
    """What a link is to be for."""

    dataset: Annotated[str, Field(examples=["imagenet"])]
    path: Annotated[str, Field(examples=["train/a.bin"])]
    version: Annotated[str, Field(description="`latest` for an upload")] = "latest"
    upload: Annotated[bool, Field(description="for a PUT, not a GET")] = False
    seconds: Annotated[int, Field(gt=0, le=links.LONGEST, description="how long it holds")] = 3600


class Link(BaseModel):
    """A link."""

    url: Annotated[str, Field(description="needs no token")]
    expires: Annotated[int, Field(description="seconds since 1970")]


@router.post("/v1/links", operation_id="post_link", status_code=201)
def make_link(request: Request, served: Served, body: LinkBody) -> Link:
    """Make a link of this server to one file or upload; it ends with the token that asks."""
    right = Right.WRITE if body.upload else Right.READ
    where = parse_address(f"{body.dataset}@{body.version}:{body.path}")
    served.authorise(request, right, where.dataset)
    if served.tokens is None:
        raise RefusedError("a server without tokens has no links", hint="serve with --tokens FILE")
    token = request.state.token
    expires = int(time.time()) + body.seconds
    if token.expires is not None:
        expires = min(expires, token.expires)
    made = links.make(
        served.tokens.read().link_key,
        where.dataset,
        where.version,
        where.path,
        right=right,
        expires=expires,
        by=token.id,
    )
    return Link(url=f"{str(request.base_url).rstrip('/')}{made}", expires=expires)
