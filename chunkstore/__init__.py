"""chunkstore: versioned datasets and artifacts, cut into chunks and stored once.

::

    from chunkstore import Store

    with Store.open("./store") as store:
        store.push("./data", "imagenet", message="first")
        store.pull("imagenet@1", "./out")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chunkstore.address import Address, parse_address
    from chunkstore.backends.credentials import Credentials
    from chunkstore.backends.location import HttpOptions, S3Options
    from chunkstore.errors import (
        AlreadyExistsError,
        BackendError,
        ChunkstoreError,
        ConflictError,
        CorruptObjectError,
        FilesystemError,
        IntegrityError,
        InvalidInputError,
        MissingObjectError,
        NotFoundError,
        PermissionDeniedError,
        RefusedError,
        StorageFullError,
        UnavailableError,
        UnreadableFilesError,
        UnsupportedFormatError,
    )
    from chunkstore.events import Event, Item, LostPath, Notice, Progress, Step
    from chunkstore.findings import (
        CopiedVersion,
        CopyResult,
        Damage,
        Mended,
        RepairResult,
        VerifyResult,
    )
    from chunkstore.format.config import ChunkerSpec
    from chunkstore.format.manifest import Entry, EntryKind
    from chunkstore.profile import GroupTime, Profile, ProfileReport, StageTime
    from chunkstore.retention import Retention
    from chunkstore.store import Store
    from chunkstore.values import (
        Change,
        Dataset,
        DatasetStat,
        DoctorCheck,
        GcPlan,
        GcResult,
        KindStat,
        PullResult,
        PullStats,
        PushedKind,
        PushResult,
        PushStats,
        StatusResult,
        StoreStat,
        Thinned,
        Version,
        VersionStat,
    )

__version__ = "0.1.0"

# Where each public name lives. They are imported when they are first used, so that
# `import chunkstore` costs next to nothing (numpy alone takes 100 ms).
_HOMES = {
    "address": ("Address", "parse_address"),
    "backends.credentials": ("Credentials",),
    "backends.location": ("HttpOptions", "S3Options"),
    "errors": (
        "AlreadyExistsError",
        "BackendError",
        "ChunkstoreError",
        "ConflictError",
        "CorruptObjectError",
        "FilesystemError",
        "IntegrityError",
        "InvalidInputError",
        "MissingObjectError",
        "NotFoundError",
        "PermissionDeniedError",
        "RefusedError",
        "StorageFullError",
        "UnavailableError",
        "UnreadableFilesError",
        "UnsupportedFormatError",
    ),
    "events": ("Event", "Item", "LostPath", "Notice", "Progress", "Step"),
    "findings": (
        "CopiedVersion",
        "CopyResult",
        "Damage",
        "Mended",
        "RepairResult",
        "VerifyResult",
    ),
    "format.config": ("ChunkerSpec",),
    "format.manifest": ("Entry", "EntryKind"),
    "profile": ("GroupTime", "Profile", "ProfileReport", "StageTime"),
    "retention": ("Retention",),
    "store": ("Store",),
    "values": (
        "Change",
        "Dataset",
        "DatasetStat",
        "DoctorCheck",
        "GcPlan",
        "GcResult",
        "KindStat",
        "PullResult",
        "PullStats",
        "PushedKind",
        "PushResult",
        "PushStats",
        "StatusResult",
        "StoreStat",
        "Thinned",
        "Version",
        "VersionStat",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604  # the names are strings, gathered from the table above
    "__version__",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'chunkstore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"chunkstore.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
