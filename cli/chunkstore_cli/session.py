"""What one run of a verb works with: the options of every verb, the settings, the open store."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.common import Common
from chunkstore_cli.environment import Environment, Found, with_parameters
from chunkstore_cli.interrupts import hurried_by

if TYPE_CHECKING:
    from chunkstore.store import Store


_PATIENCE: Final = 5.0


class Session:
    """One run of a verb."""

    def __init__(self, common: Common, environment: Environment) -> None:
        """Take what was given.

        Raises:
            InvalidInputError: options that exclude each other.
        """
        if common.json and common.quiet:
            raise InvalidInputError("--json and --quiet exclude each other")
        self.common = common
        self.environment = environment

    @classmethod
    def of_process(cls, common: Common) -> Session:
        """Return the session of this process."""
        return cls(common, Environment.of(os.environ))

    @functools.cached_property
    def store_address(self) -> Found:
        """The store that is meant, and who said so.

        Raises:
            InvalidInputError: none is named.
            NotFoundError: it is a name that no remote has.
        """
        found = self.environment.store(self.common.store)
        return Found(with_parameters(found.value, endpoint=self.common.endpoint), found.origin)

    def tokens_path(self, option: str | None) -> str | None:
        """Return the file of tokens that is meant; None where none is.

        Raises:
            InvalidInputError: a setting names none that can be.
        """
        if option:
            return option
        found = self.environment.find("tokens")
        return str(found.value) if found else None

    def tokens_file(self, option: str | None) -> str:
        """Return the file of tokens that is meant.

        Raises:
            InvalidInputError: none is.
        """
        path = self.tokens_path(option)
        if path is None:
            raise InvalidInputError(
                "no tokens file is named", hint="give --tokens FILE or set CHUNKSTORE_TOKENS"
            )
        return path

    @property
    def engine(self) -> str | None:
        """The engine of containers that the settings name; None where they name none.

        Raises:
            InvalidInputError: they name what is none.
        """
        found = self.environment.find("engine")
        return str(found.value) if found else None

    def open_store(self) -> contextlib.AbstractContextManager[Store]:
        """Open the store that is meant.

        Raises:
            as `store_address` and `Store.open`.
        """
        return self._open(self.store_address.value)

    def open_other(self, name: str) -> contextlib.AbstractContextManager[Store]:
        """Open the store of that address or name of a remote; "" is the one that is meant.

        Raises:
            NotFoundError: it is a name that no remote has; and as `Store.open`.
        """
        return self._open(self.environment.address(name)) if name else self.open_store()

    @contextlib.contextmanager
    def _open(self, url: str) -> Iterator[Store]:
        from chunkstore.store import Store

        listen(debug=self.common.debug)
        with (
            Store.open(url, **self.environment.store_arguments(url)) as store,
            hurried_by(store.close),  # a store that is closed tries nothing again
        ):
            yield store


class _ToStderr(logging.Handler):
    """Prints what the library logs, such as that a server is tried again.

    Many threads may tell the same of one server, again and again: below `debug` a module says
    something at most every five seconds.
    """

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._patience = 0.0 if debug else _PATIENCE
        self._told_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.created >= self._told_at.get(record.name, 0.0) + self._patience:
            self._told_at[record.name] = record.created
            output.note(f"{record.levelname.lower()}: {record.getMessage()}")


def listen(*, debug: bool) -> None:
    """Print the library's warnings from now on, with `debug` all that it logs."""
    logger = logging.getLogger("chunkstore")
    logger.handlers = [_ToStderr(debug=debug)]
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False
