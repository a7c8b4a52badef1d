"""The contract of a Backend: keys and bytes, six methods, each one atomic.

A backend knows nothing of what it holds. Retry, caching and emulation are backends around
backends. `chunkstore.testing.backend_suite` holds every promise written here against every
backend. Implements section "Backends" of docs/design/consistency.md.

All methods raise only BackendError and its subclasses, and InvalidInputError for what can never
work, such as a key that is none. All methods may be called from several threads at once.

No caller may store a key below that of another object (`a/b` where there is `a`): a folder refuses
it, a bucket may take it, and MinIO on one disk then lists only one of the two.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chunkstore.errors import InvalidInputError

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class CreateOnly:
    """Write only if no object has the key."""


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Write whatever is there."""


@dataclass(frozen=True, slots=True)
class ReplaceIf:
    """Write only if the object still has this version."""

    version: str


PutMode: TypeAlias = CreateOnly | Overwrite | ReplaceIf


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a backend says of one object.

    Attributes:
        key: its key.
        length: stored bytes.
        version: opaque; differs whenever the bytes differ (an ETag or the like).
        modified: seconds since the epoch by the storage's own clock.
    """

    key: str
    length: int
    version: str
    modified: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes of an object, or of a range of it, and the version of the object they came from."""

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a storage was seen to honour.

    Attributes:
        server: its name and version as far as it tells.
        create_only: of racing CreateOnly writes exactly one wins.
        replace_if: of racing ReplaceIf writes of one version exactly one wins.
        access: what the caller may do there, in words; "" where the storage does not tell.
    """

    server: str
    create_only: bool
    replace_if: bool
    access: str = ""

    @property
    def many_writers(self) -> bool:
        """Whether several writers may use the store at once."""
        return self.create_only and self.replace_if


@dataclass(frozen=True, slots=True)
class Access:
    """What a storage lets its caller do.

    Attributes:
        deletes: objects may be deleted.
        narrow: only some datasets are seen. Of the index and of packs that shows what is theirs,
            and a chunk that lies among others' is got by the key `chunks/KIND/ID`.
        guarded: a server stands before the storage and keeps the conditions of writes itself.
    """

    deletes: bool = True
    narrow: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Presigned:
    """A request that somebody without credentials may send to the storage.

    Attributes:
        url: where to.
        headers: what it must have; anything else is refused.
        expires: seconds since the epoch.
    """

    url: str
    headers: Mapping[str, str]
    expires: int


_KEY_PART = re.compile(r"[A-Za-z0-9_.~-]{1,255}")


def check_key(key: str) -> str:
    """Return `key` if it may be used: parts of `[A-Za-z0-9_.~-]`, joined by single slashes.

    Raises:
        InvalidInputError: an empty part, `.` or `..`, another character, over 1,024 characters.
    """
    parts = key.split("/")
    if len(key) > 1024 or any(p in (".", "..") or not _KEY_PART.fullmatch(p) for p in parts):
        raise InvalidInputError(f"not a valid key: {key!r}")
    return key


class Backend(ABC):
    """Where the bytes of a store are kept. Keys are relative to the backend's own root."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The address of the root, without credentials, for messages."""

    @abstractmethod
    def get(self, key: str, byte_range: tuple[int, int] | None = None) -> Fetched:
        """Return the object's bytes, or those of `byte_range` = (start, end), end excluded.

        Exactly `end - start` bytes are returned for a range: a shorter object or a cut answer
        is an error, never an end of file. 0 <= start < end.

        Raises:
            InvalidInputError: not a range.
            KeyAbsentError: no object has the key.
            UnavailableError: cut, late or unusable answer (retryable); or a range that the
                object does not have (not retryable).
        """

    @abstractmethod
    def put(self, key: str, data: Sequence[Buffer], mode: PutMode) -> str:
        """Store the joined buffers under `key` and return the new version.

        Atomic and durable: when it returns, the bytes survive a crash of the machine that
        keeps them; nobody ever sees part of an object. If it raises, the object is either
        wholly as before or wholly new (the answer was lost); the caller finds out by reading.
        Called twice with Overwrite it does the same twice; with CreateOnly the second call
        raises ConditionFailedError.

        Raises:
            ConditionFailedError: `mode` forbade it. For ReplaceIf also when the key is absent.
            StorageFullError: no room; nothing was stored.
            MissingObjectError: a server has looked, and what the object relies on is not there.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """Return what is known of the object without its bytes.

        Raises:
            KeyAbsentError: no object has the key. Never raised for a bucket that is missing.
        """

    @abstractmethod
    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix` ("" or ending in "/"), by key.

        With `after`, a key that a listing gave, only those that come behind it, without going
        through the others.

        Complete: every object whose put had returned before the call is there; a failure on any
        page is raised, never taken for the end. An iterator with a true attribute `resumable`
        may be asked again after an error and goes on with the page that failed; any other has
        to be begun anew.

        Raises:
            UnavailableError: a page failed (retryable), or came in another order than that of
                the keys, which some servers keep only within each folder (not retryable).
        """

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects; an absent key is not an error. Not atomic over several keys.

        Raises:
            BackendError: at least one object may still be there.
        """

    @abstractmethod
    def probe(self) -> Capabilities:
        """Find out by racing writers what the storage honours; leaves nothing behind."""

    def access(self) -> Access:
        """Return what the caller may do; may ask the storage, once.

        Raises:
            BackendError: the storage does not say.
        """
        return Access()

    def presigned_get(
        self, key: str, byte_range: tuple[int, int], seconds: int
    ) -> Presigned | None:
        """Return a GET of one range of an object, for so many seconds; None where none can be.

        Whether there is such an object is not looked at.
        """
        del key, byte_range, seconds
        return None

    def presigned_put(self, key: str, length: int, sha256: str, seconds: int) -> Presigned | None:
        """Return a PUT that creates an object of these bytes and no others; None as above.

        `sha256` is in hex.
        """
        del key, length, sha256, seconds
        return None

    def close(self) -> None:  # noqa: B027  # most backends have nothing to give back
        """Give back connections and descriptors. Calling it twice is fine."""

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
