"""The web page: what the server shows to people, and nothing that changes a store.

`routes` of the API are for programs; here each module has some pages, made by `rendering` from the
templates beside it. No page needs a script to be read, and none loads anything from elsewhere.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from chunkstore_api.web import datasets, differences, files, signing
from chunkstore_api.web.problems import ProblemPages

ROUTERS: Final[tuple[APIRouter, ...]] = (
    signing.router,
    files.router,
    differences.router,
    datasets.router,
)
"""Those with the longest paths first: a dataset's name may have slashes."""

__all__ = ["ROUTERS", "ProblemPages"]
