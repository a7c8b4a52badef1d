"""Asking before something is destroyed, and what is looked at for that."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from chunkstore.errors import RefusedError

if TYPE_CHECKING:
    from chunkstore.address import Address
    from chunkstore.store import Store

_LOOKED_AT: Final = 1000


def confirm(question: str, *, yes: bool, refusal: str) -> None:
    """Return if the user wants it: by --yes, or by an answer on the terminal.

    Raises:
        RefusedError: the answer is no, or there is no terminal to ask on.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise RefusedError(f"{refusal}; nothing was done", hint="add --yes if that is meant")
    if not click.confirm(question, err=True):
        raise RefusedError("nothing was done")


def is_related(store: Store, where: Address, folder: str) -> bool:
    """Whether the folder is empty, or has any of the first files of the version."""
    try:
        if not os.listdir(folder):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return True
    above = len(where.path) + 1 if where.path else 0
    paths = (entry.path[above:] for entry in itertools.islice(store.entries(where), _LOOKED_AT))
    return any(path and os.path.lexists(os.path.join(folder, path)) for path in paths)
