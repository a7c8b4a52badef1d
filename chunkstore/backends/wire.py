"""What the backends that speak HTTP share: bodies, listings, connections, TLS, ranges.

Neighbours: `s3_client` and `minio` speak to S3 servers, `http_client` and `http` to chunkstore's.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import certifi
import urllib3

from chunkstore.backends.base import Buffer, ObjectInfo
from chunkstore.errors import InvalidInputError

_CONNECTIONS: Final = 32
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_LEAST_SECONDS: Final = 5.0
# One send must end within the connect timeout, which counts for the whole of it: pieces of this
# size let a line of 26 KB/s through.
_PIECE: Final = 256 * 1024
_TLS_FOR_EVER: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")
_TOTAL: Final = re.compile(r"/([0-9]{1,18})$")


class Buffers:
    """Buffers that are sent one after the other without being joined."""

    def __init__(self, data: Sequence[Buffer]) -> None:
        self._buffers = [memoryview(buffer).cast("B") for buffer in data]

    def __iter__(self) -> Iterator[memoryview]:
        for buffer in self._buffers:
            for start in range(0, len(buffer), _PIECE):
                yield buffer[start : start + _PIECE]

    def __len__(self) -> int:
        return sum(len(buffer) for buffer in self._buffers)

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes in hex."""
        hasher = hashlib.sha256()
        for buffer in self._buffers:
            hasher.update(buffer)
        return hasher.hexdigest()


class Listing(Iterator[ObjectInfo]):
    """The objects of a listing that comes in pages.

    After an error the same page is asked for when the next item is: `resumable`, so that one
    failing page of many does not cost all those before it again.
    """

    resumable: Final = True

    def __init__(self, prefix: str, after: str) -> None:
        self._prefix = prefix
        self._last = after  # the key behind which the next page begins
        self._page: deque[ObjectInfo] = deque()
        self._ended = False

    def __next__(self) -> ObjectInfo:
        while not self._page:
            if self._ended:
                raise StopIteration
            self._page, self._last, self._ended = self._fetch()
        return self._page.popleft()

    @abstractmethod
    def _fetch(self) -> tuple[deque[ObjectInfo], str, bool]:
        """Return the next page, each object checked, where it ends, and whether it is the last.

        Raises:
            BackendError: the page failed, or is none.
        """


def connections(
    patience: float, *, secure: bool, ca_file: str | None = None
) -> urllib3.PoolManager:
    """Return a pool of connections that tries nothing again; nothing is sent yet.

    A server that is silent for `patience` seconds has failed, within bounds: who will not wait
    long for a storage must not be held by one time-out, yet slow answers are no failures.

    Raises:
        InvalidInputError: the CA file is none.
    """
    patience = max(patience, _LEAST_SECONDS)
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        timeout=urllib3.Timeout(
            connect=min(_CONNECT_SECONDS, patience), read=min(_READ_SECONDS, patience)
        ),
        retries=False,
        ssl_context=_ssl_context(ca_file) if secure else None,
    )


def _ssl_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the given file, else what the system trusts and what comes with certifi."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise InvalidInputError(
            f"cannot use the CA file {ca_file!r}: {error}", hint="give a PEM file"
        ) from error
    if ca_file is None:
        context.load_verify_locations(certifi.where())
    return context


def is_tls_for_ever(error: BaseException) -> bool:
    """Whether TLS failed for a reason that trying again does not mend."""
    return isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError) and any(
        reason in str(error) for reason in _TLS_FOR_EVER
    )


def is_range(
    status: int, headers: Mapping[str, str], length: int, byte_range: tuple[int, int]
) -> bool:
    """Whether an answer of `length` bytes is the range that was asked for.

    Some servers send it with status 200.
    """
    start, end = byte_range
    stated = headers.get("Content-Range")
    if stated is None:
        return status == 206 and length == end - start
    return stated.startswith(f"bytes {start}-{end - 1}/") and length == end - start


def may_be_longer(status: int, headers: Mapping[str, str], end: int) -> bool:
    """Whether another answer may reach up to `end`: not where the object is known to end before."""
    if status != 206:
        return False  # a server that ignores Range
    total = _TOTAL.search(headers.get("Content-Range", ""))
    return total is None or int(total[1]) >= end
