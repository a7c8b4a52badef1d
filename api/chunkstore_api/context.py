"""What requests are served with: the store, the gates, the settings; and who may do what.

`allow` is where authorisation goes: every route depends on the right that it needs, `READ`, `WRITE`
or `ADMIN`, and on which dataset. Neighbours: `access` decides by tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, Request

from chunkstore.errors import NotFoundError
from chunkstore.store import Store
from chunkstore_api.gates import Gate
from chunkstore_api.guarded import Guarded
from chunkstore_api.settings import Settings
from chunkstore_api.tokens import Right, TokensFile

Authorise: TypeAlias = Callable[[Request, Right, "str | None"], None]
"""Takes a request, what it needs and on which dataset (None: all); raises where it may not.

Where not even the dataset may be known of it raises NotFoundError.
"""


def allow_everybody(request: Request, right: Right, dataset: str | None) -> None:
    """Allow everything: who reaches a server without tokens may do all."""
    del request, right, dataset


@dataclass(frozen=True, slots=True)
class Context:
    """What the routes of one application share.

    Attributes:
        store: the open store.
        settings: what whoever started the server chose.
        downloads: places for transfers out.
        uploads: places for transfers in.
        guarded: the objects of the store, behind rules.
        authorise: says who may do what.
        tokens: the file of tokens; None where anybody may do all.
    """

    store: Store
    settings: Settings
    downloads: Gate
    uploads: Gate
    guarded: Guarded
    authorise: Authorise = allow_everybody
    tokens: TokensFile | None = None


def context_of(request: Request) -> Context:
    """Return the context of the application that serves a request."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Served: TypeAlias = Annotated[Context, Depends(context_of)]


def allow(right: Right) -> Callable[[Request], None]:
    """Return a dependency that lets a request through only where it has a right.

    The dataset is the path parameter `name` or `exec_id` of the route, where it has one.
    """

    def check(request: Request) -> None:
        named = request.path_params.get("name") or request.path_params.get("exec_id")
        context_of(request).authorise(request, right, named)

    return check


READ: Final = [Depends(allow(Right.READ))]
WRITE: Final = [Depends(allow(Right.WRITE))]
ADMIN: Final = [Depends(allow(Right.ADMIN))]


def may_see(request: Request, dataset: str) -> bool:
    """Whether a dataset is there for whoever asks."""
    try:
        context_of(request).authorise(request, Right.READ, dataset)
    except NotFoundError:
        return False
    return True
