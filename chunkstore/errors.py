"""Every exception a caller of chunkstore can meet, by what the handler does about it.

::

    ChunkstoreError                      code (stable), message, hint
    |-- InvalidInputError (ValueError)   the caller passed something that can never work
    |-- NotFoundError (LookupError)      asked for, not there: store, dataset, version, path
    |-- AlreadyExistsError               asked to create what is already there
    |-- RefusedError                     possible, but unsafe as things stand
    |-- ConflictError                    another writer was first: read again and retry
    |-- FilesystemError                  the caller's own files could not be read or written
    |   `-- UnreadableFilesError         some files of a push; nothing was committed
    |-- UnsupportedFormatError           written by another version of chunkstore
    |-- IntegrityError                   the store broke a promise
    |   |-- CorruptObjectError           bytes are there, but not the ones that were written
    |   `-- MissingObjectError           bytes that a ref leads to are gone
    `-- BackendError                     storage failed: operation, key, retryable
        |-- KeyAbsentError               no object has that key
        |-- ConditionFailedError         a create-only or replace-if write lost
        |-- PermissionDeniedError        the server refused these credentials
        |-- StorageFullError             no room left
        `-- UnavailableError             no usable answer; trying again may help

"You asked for what is not there" (NotFoundError) and "we promised it and lost it"
(IntegrityError) are different families: data loss never looks like a typing mistake.

Backends raise only BackendError; `objects` and `refs` translate it into the words of the
domain. Decoders in `format` raise only CorruptObjectError or UnsupportedFormatError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ChunkstoreError(Exception):
    """Base of all errors of chunkstore.

    Attributes:
        code: stable word for machines, one for each class.
        message: what failed, with the whole id, key or path.
        hint: what to do next, or None where nothing better can be said.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Have it pickled with all that it has, so that it comes out of another process whole."""
        return _anew, (type(self), self.args), vars(self)


def _anew(kind: type[ChunkstoreError], args: tuple[object, ...]) -> ChunkstoreError:
    return kind.__new__(kind, *args)


class InvalidInputError(ChunkstoreError, ValueError):
    """The caller passed something that can never work."""

    code = "invalid_input"


class NotFoundError(ChunkstoreError, LookupError):
    """A store, dataset, version, tag or path that was asked for is not there."""

    code = "not_found"


class AlreadyExistsError(ChunkstoreError):
    """The thing to be created is already there."""

    code = "already_exists"


class RefusedError(ChunkstoreError):
    """The operation is possible but unsafe as things stand, so nothing was done."""

    code = "refused"


class ConflictError(ChunkstoreError):
    """Another writer was first; read again and retry."""

    code = "conflict"


class FilesystemError(ChunkstoreError):
    """The caller's own files or folders could not be read or written."""

    code = "filesystem"


class UnreadableFilesError(FilesystemError):
    """Some files of a push could not be read, so nothing was committed.

    Attributes:
        failures: (path, reason) pairs, at most 500; `count` has the true number.
        count: how many files could not be read.
    """

    code = "unreadable_files"

    def __init__(
        self, failures: Sequence[tuple[str, str]], *, count: int, hint: str | None = None
    ) -> None:
        shown = "; ".join(f"{path}: {reason}" for path, reason in failures[:5])
        more = f" and {count - 5} more" if count > 5 else ""
        noun = "file" if count == 1 else "files"
        super().__init__(f"{count} {noun} could not be read: {shown}{more}", hint=hint)
        self.failures = tuple(failures)
        self.count = count


class UnsupportedFormatError(ChunkstoreError):
    """The store or object was written in a format this chunkstore does not read."""

    code = "unsupported_format"


class IntegrityError(ChunkstoreError):
    """The store broke a promise.

    Attributes:
        key: the object where it was seen, or None where that is not known.
    """

    code = "integrity"

    def __init__(self, message: str, *, key: str | None = None, hint: str | None = None) -> None:
        if hint is None:
            hint = "look with doctor, and keep the store as it is until the cause is known"
        super().__init__(message, hint=hint)
        self.key = key


class CorruptObjectError(IntegrityError):
    """Bytes of the store are not the ones that were written."""

    code = "corrupt_object"


class MissingObjectError(IntegrityError):
    """Bytes that a ref leads to are gone."""

    code = "missing_object"


class BackendError(ChunkstoreError):
    """The storage failed.

    Attributes:
        operation: the Backend method ("get", "put", ...).
        key: the key concerned, or None.
        retryable: whether the same call may succeed later.
        wait: seconds that the server asks to be left alone before, or None.
    """

    code = "backend"

    def __init__(
        self,
        message: str,
        *,
        operation: str,
        key: str | None = None,
        retryable: bool = False,
        wait: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.operation = operation
        self.key = key
        self.retryable = retryable
        self.wait = wait


class KeyAbsentError(BackendError):
    """No object has that key."""

    code = "key_absent"


class BucketAbsentError(BackendError):
    """The server has no bucket of that name."""

    code = "bucket_absent"


class ConditionFailedError(BackendError):
    """A create-only or replace-if write found another object than it expected.

    After a retried request this may be the echo of one's own success: the caller reads back
    before it decides.
    """

    code = "condition_failed"


class PermissionDeniedError(BackendError):
    """The storage refused these credentials, or the folder these permissions."""

    code = "permission_denied"


class StorageFullError(BackendError):
    """The storage has no room left."""

    code = "storage_full"


class UnavailableError(BackendError):
    """The storage gave no usable answer; trying again may help."""

    code = "unavailable"
