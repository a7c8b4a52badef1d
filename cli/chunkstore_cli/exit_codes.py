"""The exit statuses, and which error ends with which.

Documented in docs/reference/cli/index.md; the test of this table holds that every exception of
the library has its own row, so that a new one cannot fall through.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from chunkstore import errors


class Status(IntEnum):
    """What the command tells the shell."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    SOME_FILES_FAILED = 3
    NOT_FOUND = 4
    REFUSED = 5
    UNREACHABLE = 6  # the storage; trying again may help
    DAMAGE = 7
    CONFLICT = 8  # another writer was first
    DIFFERENT = 9  # only with --exit-code
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141  # as a shell reports a program that SIGPIPE ended
    TERMINATED = 143


STATUS_OF_ERROR: Final[dict[type[errors.ChunkstoreError], Status]] = {
    errors.ChunkstoreError: Status.FAILURE,
    errors.InvalidInputError: Status.USAGE,
    errors.NotFoundError: Status.NOT_FOUND,
    errors.AlreadyExistsError: Status.REFUSED,
    errors.RefusedError: Status.REFUSED,
    errors.ConflictError: Status.CONFLICT,
    errors.FilesystemError: Status.FAILURE,
    errors.UnreadableFilesError: Status.SOME_FILES_FAILED,
    errors.UnsupportedFormatError: Status.FAILURE,
    errors.IntegrityError: Status.DAMAGE,
    errors.CorruptObjectError: Status.DAMAGE,
    errors.MissingObjectError: Status.DAMAGE,
    errors.BackendError: Status.FAILURE,
    errors.KeyAbsentError: Status.FAILURE,
    errors.BucketAbsentError: Status.NOT_FOUND,
    errors.ConditionFailedError: Status.CONFLICT,
    errors.PermissionDeniedError: Status.REFUSED,
    errors.StorageFullError: Status.FAILURE,
    errors.UnavailableError: Status.UNREACHABLE,
}


def status_of(error: errors.ChunkstoreError) -> Status:
    """Return the exit status of `error`: that of its class, else of the nearest class above."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF_ERROR:
            return STATUS_OF_ERROR[kind]
    return Status.FAILURE
