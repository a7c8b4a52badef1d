"""What a client is told whose object is refused, or who asks for one that is not there for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

from chunkstore.errors import CorruptObjectError, UnsupportedFormatError
from chunkstore_api.problems import RequestError


def absent(key: str) -> RequestError:
    """Return the error of a key that no object has, as far as the caller may know."""
    return RequestError(404, "key_absent", f"no object {key}")


def refused(key: str, why: str) -> NoReturn:
    """Raise the error of bytes that are no object that may have a key.

    Raises:
        RequestError: 422.
    """
    raise RequestError(
        422, "invalid_object", f"{key} was refused: {why}", hint="nothing of it was stored"
    )


@contextlib.contextmanager
def judged(key: str) -> Iterator[None]:
    """Have what decoders say within the block be said of the client's bytes, not the store's.

    Raises:
        RequestError: 422, for what is no such object.
    """
    try:
        yield
    except (CorruptObjectError, UnsupportedFormatError) as error:
        refused(key, error.message.removeprefix(f"corrupt object {key}: "))
