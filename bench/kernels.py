"""What the same work costs without a tool around it: the kernels, in one thread.

    python -m bench.kernels SOURCE...

Reads each folder in turn, cuts it, hashes chunks and files, compresses the chunks that are new in
frames of 1 MiB with zstd 3, decompresses each frame and hashes its chunks again, as a push does
before it sends anything. Prints for each folder the seconds of CPU of each kernel as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zstandard
from blake3 import blake3

from chunkstore.chunker import WINDOW_SIZE, Chunker
from chunkstore.compression import DEFAULT_LEVEL
from chunkstore.format.config import DEFAULT_FRAME_SIZE, ChunkerSpec

KERNELS: Final = ("read", "cut", "hash chunks", "hash files", "compress", "decompress", "verify")


class Kernels:
    """Runs the kernels over folders; what one folder has is not new in the next."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self.seconds = dict.fromkeys(KERNELS, 0.0)
        self._chunker = Chunker(ChunkerSpec())
        self._compressor = zstandard.ZstdCompressor(level=DEFAULT_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()
        self._seen: set[bytes] = set()
        self._frame: list[memoryview] = []
        self._filled = 0

    def folder(self, root: Path) -> dict[str, float]:
        """Return the seconds of CPU that each kernel takes for a folder."""
        self.seconds = dict.fromkeys(KERNELS, 0.0)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self._file(path)
        self._flush()
        return self.seconds

    @contextmanager
    def _timed(self, kernel: str) -> Iterator[None]:
        started = time.thread_time()
        yield
        self.seconds[kernel] += time.thread_time() - started

    def _file(self, path: Path) -> None:
        hasher = blake3()
        carry = b""
        with open(path, "rb", buffering=0) as file:
            last = False
            while not last:
                with self._timed("read"):
                    block = file.read(WINDOW_SIZE)
                last = len(block) < WINDOW_SIZE
                with self._timed("hash files"):
                    hasher.update(block)
                window = memoryview(carry + block if carry else block)
                with self._timed("cut"):
                    sizes = self._chunker.cut(window, final=last)
                carry = bytes(self._chunks(window, sizes))

    def _chunks(self, window: memoryview, sizes: list[int]) -> memoryview:
        """Take the chunks of a window; return what is left of it."""
        chunks, at = [], 0
        for size in sizes:
            chunks.append(window[at : at + size])
            at += size
        with self._timed("hash chunks"):
            digests = [blake3(chunk).digest() for chunk in chunks]
        for chunk, digest in zip(chunks, digests, strict=True):
            if digest in self._seen:
                continue
            self._seen.add(digest)
            self._frame.append(chunk)
            self._filled += len(chunk)
            if self._filled >= DEFAULT_FRAME_SIZE:
                self._flush()
        return window[at:]

    def _flush(self) -> None:
        if not self._frame:
            return
        raw = b"".join(self._frame)
        with self._timed("compress"):
            stored = self._compressor.compress(raw)
        with self._timed("decompress"):
            raw = self._decompressor.decompress(stored)
        view, at = memoryview(raw), 0
        with self._timed("verify"):
            for chunk in self._frame:
                blake3(view[at : at + len(chunk)]).digest()
                at += len(chunk)
        self._frame, self._filled = [], 0


def main() -> None:
    """Print a list with the seconds of each folder."""
    kernels = Kernels()
    print(json.dumps([kernels.folder(Path(root)) for root in sys.argv[1:]]))


if __name__ == "__main__":
    main()
