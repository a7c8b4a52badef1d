"""Asking before something is destroyed."""

from __future__ import annotations

import sys

import click

from chunkstore.errors import RefusedError


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
