"""`chunkstore doctor`: is everything as it should be?"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING

from chunkstore.errors import ChunkstoreError
from chunkstore_cli import output
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.options import verb
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.values import DoctorCheck

_PACKAGES = ("blake3", "fastcdc", "minio", "numpy", "zstandard")


@verb(examples="chunkstore doctor --store ./store")
def doctor(session: Session) -> Status | None:
    """Check versions, settings, the storage, its speed, the chunker and the caches.

    Writes a few small objects to the storage, which race for the same key, and removes them. Ends
    with status 1 if a check fails.
    """
    checks: list[DoctorCheck] = []
    for check in _checks(session):
        checks.append(check)
        if not (session.common.json or session.common.quiet):
            output.line(f"{'ok' if check.ok else 'not ok':6}  {check.name:9} {check.detail}")
            if check.hint:
                output.line(f"{'':18}hint: {check.hint}")
    well = all(check.ok for check in checks)
    if session.common.json:
        output.document({"ok": well, "checks": [asdict(check) for check in checks]})
    elif session.common.quiet:
        for check in checks:
            if not check.ok:
                output.line(check.name)
    return None if well else Status.FAILURE


def _checks(session: Session) -> Iterator[DoctorCheck]:
    from chunkstore.values import DoctorCheck

    yield DoctorCheck(name="versions", ok=True, detail=_versions())
    yield DoctorCheck(name="settings", ok=True, detail=_settings(session))
    try:
        address = session.store_address
        with session.open_store() as store:
            detail = f"{store.url}, by {address.origin}"
            yield DoctorCheck(name="store", ok=True, detail=detail)
            yield from store.doctor()
    except ChunkstoreError as error:
        yield DoctorCheck(name="store", ok=False, detail=error.message, hint=error.hint)


def _versions() -> str:
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return (
        f"chunkstore {metadata.version('chunkstore-cas')}, Python {platform.python_version()} on "
        f"{platform.system()} {platform.machine()}, {packages}"
    )


def _settings(session: Session) -> str:
    files = (session.environment.local, session.environment.user)
    read = [file.path for file in files if os.path.exists(file.path)]
    remotes = output.count_text(len(session.environment.remotes), "remote")
    return f"{' and '.join(read) or 'no settings file'}, {remotes}"
