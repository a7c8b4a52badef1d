"""Names of datasets for the completion of the shell, asked of the store while the user types."""

from __future__ import annotations

import logging
import os
from typing import Final

import click

from chunkstore.errors import ChunkstoreError
from chunkstore_cli.common import Common

_DEADLINE: Final = 2.0
"""Seconds that somebody who pressed Tab waits for a storage that does not answer."""


def dataset_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the datasets whose names begin with `incomplete`; none where the store cannot say."""
    del parameter
    from chunkstore.store import Store
    from chunkstore_cli.environment import Environment, with_parameters

    common = ctx.find_root().obj
    assert isinstance(common, Common)
    logging.getLogger("chunkstore").handlers = [
        logging.NullHandler()
    ]  # else it ends up on the line
    try:
        environment = Environment.of(os.environ)
        url = with_parameters(environment.store(common.store).value, endpoint=common.endpoint)
        arguments = {**environment.store_arguments(url), "deadline": _DEADLINE}
        with Store.open(url, **arguments) as store:
            return store.datasets(incomplete)
    except (ChunkstoreError, OSError):
        return []
