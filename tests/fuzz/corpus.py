"""What fuzzers begin with: objects of a real store, made anew each time, a few of each kind."""

from __future__ import annotations

import functools
import io
import tarfile
import tempfile
from pathlib import Path

from chunkstore_api.tokens import Right, TokensFile

from chunkstore import layout
from chunkstore.backends.memory import MemoryBackend
from chunkstore.compression import compress_frame
from chunkstore.format.blob import encode_list, make_blob
from chunkstore.format.gc import Counts, GcState, encode_condemned, encode_gc_state
from chunkstore.format.manifest import encode_page
from chunkstore.format.pack import HEADER_LENGTH, TRAILER_LENGTH, decode_trailer
from chunkstore.ids import PackId
from chunkstore.objects import Objects
from chunkstore.testing.trees import text_bytes
from tests.faults import worlds

SEAL = 32
HEAD = 5
"""Magic and version of a document, which fuzzers need not guess."""


@functools.cache
def _store() -> MemoryBackend:
    backend = MemoryBackend()
    worlds.new_store(backend)
    store = worlds.open_store(backend)
    with tempfile.TemporaryDirectory() as folder:
        for number, tree in enumerate(worlds.write_trees(Path(folder), 3)):
            (tree / "link").symlink_to("big")
            (tree / "empty").mkdir()
            store.push(tree, "data", message=f"tree {number}", tags=["newest"])
    for number in (1, 2):
        store.push(io.BytesIO(text_bytes(3000, number)), "text/lines", name="file")
    store.remove("text/lines", [1])
    return backend


def _objects(prefix: str) -> list[bytes]:
    return [_store().get(info.key).data for info in _store().list(prefix)]


def _bodies(prefix: str, end: int | None) -> list[bytes]:
    return [data[HEAD:end] for data in _objects(prefix)]


def configs() -> list[bytes]:
    """Return bodies of configs."""
    return _bodies(layout.CONFIG, -SEAL)


def refs() -> list[bytes]:
    """Return bodies of refs, of one from which a version was dropped too."""
    return _bodies(layout.REFS, -SEAL)


def manifests() -> list[bytes]:
    """Return bodies of manifests."""
    return _bodies(layout.MANIFESTS, None)


def pages() -> list[bytes]:
    """Return bodies of pages."""
    store = worlds.open_store(_store())
    versions = [f"data@{number}" for number in (1, 2, 3)]
    return [encode_page([*store.entries(version)])[HEAD:] for version in versions]


def lists() -> list[bytes]:
    """Return bodies of lists, of both kinds."""
    ids = bytes(range(256)) * 2
    return [encode_list(make_blob(depth, ids, [1000] * 16))[HEAD:] for depth in (0, 1)]


def gc_states() -> list[bytes]:
    """Return bodies of collector's states."""
    condemned = "gc/condemned/7-0123456789abcdef"
    states = [GcState(0, ""), GcState(7, condemned), GcState(7, condemned, Counts(3, 2, 1))]
    return [encode_gc_state(state)[HEAD:-SEAL] for state in states]


def condemned_lists() -> list[bytes]:
    """Return bodies of condemned lists."""
    packs = [pack for pack, _ in Objects(_store()).list_packs()]
    return [
        encode_condemned(frozenset(some))[HEAD:-SEAL] for some in ([], [PackId(bytes(32))], packs)
    ]


def pack_headers() -> list[bytes]:
    """Return beginnings of packs."""
    return [pack[:HEADER_LENGTH] for pack in _objects(layout.PACKS)]


def directories() -> list[bytes]:
    """Return directories, each behind its offset."""
    found = []
    for pack in _objects(layout.PACKS):
        offset, length, _ = decode_trailer(pack[-TRAILER_LENGTH:], len(pack), "example")
        found.append(offset.to_bytes(4, "little") + pack[offset : offset + length])
    return found


def segments() -> list[bytes]:
    """Return index segments."""
    return _objects(layout.INDEX)


def frames() -> list[bytes]:
    """Return compressed frames, each behind its raw size."""
    raw = [text_bytes(size, size) for size in (1000, 20_000)] + [bytes(100_000)]
    stored = [bytes(compress_frame(data, level=3)[1]) for data in raw]
    return [len(r).to_bytes(3, "little") + s for r, s in zip(raw, stored, strict=True)]


def archives() -> list[bytes]:
    """Return tar streams in each of the forms that are written."""
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name, kind, target in (
                ("a/file", tarfile.REGTYPE, ""),
                ("a/folder/", tarfile.DIRTYPE, ""),
                ("a/link", tarfile.SYMTYPE, "file"),
                ("a/same", tarfile.LNKTYPE, "a/file"),
                ("long" * (20 if form == tarfile.USTAR_FORMAT else 60), tarfile.REGTYPE, ""),
            ):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target
                member.size = 5 if kind == tarfile.REGTYPE else 0
                archive.addfile(member, io.BytesIO(b"bytes"))
        found.append(buffer.getvalue())
    return found


def token_files() -> list[bytes]:
    """Return tokens files."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "tokens"))
        file = TokensFile(path)
        file.create("reader", Right.READ, ["a/*"])
        file.create("writer", Right.WRITE, ["*"], expires=4_000_000_000)
        return [Path(path).read_bytes()]


def settings_files() -> list[bytes]:
    """Return settings files."""
    return [b'store = "lab"\nlevel = 3\n\n[remotes.lab]\nurl = "s3://bucket/prefix"\n']


def addresses() -> list[bytes]:
    """Return addresses of data."""
    return [b"name@3:path/to", b"chunkstore://team/name@latest/path", b"a@~2", b"a:b@c:d"]
