"""Stores for benches that kill: on a folder or on a server of their own, opened by any process.

Neighbours: `bench_kill`, `kills` and `soak`.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chunkstore import S3Options, Store
from chunkstore.testing import servers

CHILD: Final = """
import sys
from chunkstore import Credentials, S3Options, Store
verb, url, endpoint, access, secret, cache, source, target = sys.argv[1:]
s3 = None
if endpoint:
    s3 = S3Options(endpoint=endpoint, region="us-east-1", credentials=Credentials(access, secret))
with Store.open(url, s3=s3, cache_folder=cache) as store:
    print("ready", flush=True)
    if verb == "push":
        result = store.push(source, target)
    else:
        result = store.pull(source, target)
print("done", flush=True)
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a store is, and where this machine keeps its caches."""

    url: str
    s3: S3Options | None
    cache: Path

    def create(self, **options: Any) -> Store:
        """Create the store; options are those of `Store.create`."""
        return Store.create(self.url, s3=self.s3, cache_folder=self.cache, **options)

    def open(self, cache: Path | None = None, **options: Any) -> Store:
        """Open the store, with another cache where one is given; options as of `Store.open`."""
        return Store.open(self.url, s3=self.s3, cache_folder=cache or self.cache, **options)

    def start(self, verb: str, source: str, target: str) -> subprocess.Popen[str]:
        """Start a push or pull in a process of its own; return when the store is open there."""
        s3 = self.s3
        given = s3.credentials if s3 else None
        child = subprocess.Popen(
            [
                *(sys.executable, "-c", CHILD, verb, self.url),
                *((s3.endpoint or "") if s3 else "", given.access_key if given else ""),
                *(given.secret_key if given else "", str(self.cache), source, target),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child


@contextlib.contextmanager
def sites(name: str, folder: Path) -> Iterator[Iterator[Site]]:
    """Give a new site, time and again, in `folder` or on one server that runs within the block.

    Args:
        name: "folder", or what starts the server: "minio", "seaweedfs".
        folder: for stores and caches.
    """
    caches = (folder / f"cache-{number}" for number in itertools.count())
    if name == "folder":
        yield (Site(f"{cache}-store", None, cache) for cache in caches)
        return
    with getattr(servers, name)() as server:
        server.make_bucket("bench")
        yield (
            Site(server.store_url("bench", cache.name), server.options, cache) for cache in caches
        )
