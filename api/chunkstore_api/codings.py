"""Content codings: gzip and zstd, undone and made as a stream, in bounded memory.

Uploads are decoded as they come, downloads are encoded where that pays. Whatever the bytes, a
decoder holds no more than its window and what was asked for.
"""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Iterator
from typing import IO, Final, Protocol, cast

import zstandard

from chunkstore.limits import MAX_ZSTD_WINDOW
from chunkstore.tar_reader import Readable
from chunkstore_api.problems import RequestError

CODINGS: Final = ("zstd", "gzip")
"""Those that downloads may have, the better first."""

_INPUT: Final = 64 * 1024
_GZIP: Final = 31  # zlib's number for a gzip header around a window of 32 KiB
_PAYS: Final = 0.9
"""A file is encoded when its first block shrinks to less than this."""

_LEAST: Final = 1024
"""Bytes below which encoding gains less than its headers cost."""

_QUALITY: Final = re.compile(r"([\w*-]+)(?:[ \t]*;[ \t]*q=([01](?:\.\d{0,3})?))?", re.ASCII)


def decoded(body: Readable, codings: str | None) -> Readable:
    """Return a body with its Content-Encoding undone.

    Raises:
        RequestError: a coding that is not known, or several. When read: not such a stream, one
            that ends too early, or with other things behind it.
    """
    names = [name.strip().lower() for name in (codings or "").split(",") if name.strip()]
    names = [name for name in names if name != "identity"]
    if not names:
        return body
    if names in (["gzip"], ["x-gzip"]):
        return _Gunzip(body)
    if names == ["zstd"]:
        return _Unzstd(body)
    raise RequestError(
        415,
        "unsupported_coding",
        f"the Content-Encoding {codings!r} is not known here",
        hint="send gzip, zstd or the file as it is",
        headers={"Accept-Encoding": "zstd, gzip"},
    )


def _broken(coding: str, reason: object) -> RequestError:
    return RequestError(400, "bad_coding", f"the body is not {coding} as it says: {reason}")


class _Gunzip:
    """The bytes of a gzip stream of one or more members."""

    def __init__(self, body: Readable) -> None:
        self._body = body
        self._decoder = zlib.decompressobj(_GZIP)
        self._input = b""
        self._begun = False

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._input:
                self._input = self._body.read(_INPUT)
                if not self._input:
                    return self._at_the_end()
            if self._decoder.eof:
                self._decoder = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                data = self._decoder.decompress(self._input, size)
            except zlib.error as error:
                raise _broken("gzip", error) from None
            self._input = self._decoder.unconsumed_tail or self._decoder.unused_data
            if data:
                return data

    def _at_the_end(self) -> bytes:
        if not self._begun or not self._decoder.eof:
            raise _broken("gzip", "it ends too early")
        return b""


class _Unzstd:
    """The bytes of one or more zstd frames.

    The decoder takes a frame that is cut off for one that has ended. So a last frame, of a random
    word again and again, is put behind the body: that comes out at the very end only if the frame
    before was whole. It is much longer than its frame, so a copy of that does not pass for it.
    It is given together with the last bytes before it, as libzstd takes a whole frame that stands
    alone for the rest of one of which it has seen just the first five bytes.
    """

    def __init__(self, body: Readable) -> None:
        self._mark = secrets.token_bytes(8) * 128
        self._marked = _Marked(body, zstandard.ZstdCompressor().compress(self._mark))
        decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
        self._reader = decoder.stream_reader(
            cast("IO[bytes]", self._marked), read_size=_INPUT, read_across_frames=True
        )
        self._held = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            try:
                data = self._reader.read(size)
            except zstandard.ZstdError as error:
                raise _broken("zstd", error) from None
            self._ended = not data
            data, self._held = self._held + data, b""
            if self._ended:
                if not self._marked.begun or data != self._mark:
                    raise _broken("zstd", "it ends too early")
                return b""
            data, self._held = data[: -len(self._mark)], data[-len(self._mark) :]
            if data:
                return data
        return b""


class _Marked:
    """A body with a frame behind it, given together with its last bytes."""

    def __init__(self, body: Readable, end: bytes) -> None:
        self._body = body
        self._end = end
        self._next: bytes | None = None
        self.begun = False

    def read(self, size: int, /) -> bytes:
        data = self._body.read(size) if self._next is None else self._next
        if not data:
            self._next = data
            return b""
        self.begun = True
        self._next = self._body.read(size)
        return data if self._next else data + self._end


# downloads


def preferred(accepted: str | None) -> list[str]:
    """Return the codings that a client takes, of zstd and gzip, the one it likes best first."""
    weights: dict[str, float] = {}
    for part in (accepted or "").split(","):
        match = _QUALITY.fullmatch(part.strip())
        if match:
            weights[match[1].lower()] = float(match[2] or 1)
    other = weights.get("*", 0.0)
    named = {name: weights.get(name, other) for name in CODINGS}
    return sorted((name for name in named if named[name]), key=lambda name: -named[name])


def pays(block: bytes | memoryview) -> bool:
    """Whether files that begin so are worth encoding."""
    if len(block) < _LEAST:
        return False
    return len(zstandard.ZstdCompressor(level=1).compress(block)) < len(block) * _PAYS


def encoded(blocks: Iterator[bytes | memoryview], coding: str) -> Iterator[bytes]:
    """Yield blocks in a content coding."""
    encoder = zlib.compressobj(1, wbits=_GZIP) if coding == "gzip" else _zstd_encoder()
    for block in blocks:
        data = encoder.compress(block)
        if data:
            yield data
    yield encoder.flush()


class _Encoder(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _zstd_encoder() -> _Encoder:
    encoder: _Encoder = zstandard.ZstdCompressor(level=1).compressobj()
    return encoder
