"""Content codings come undone, whatever the pieces; what is no such stream is refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import tracemalloc
import zlib

import pytest
import zstandard
from chunkstore_api.codings import decoded, encoded, preferred
from chunkstore_api.problems import RequestError
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkstore.testing.trees import random_bytes

CODINGS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
    "": bytes,
}


class Dribble:
    """A body that comes in pieces of some sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = sizes or [1 << 16]
        self._at = 0

    def read(self, size: int, /) -> bytes:
        self._at += 1
        return self._data.read(min(size, self._sizes[self._at % len(self._sizes)]))


def read(body: io.BytesIO | Dribble, coding: str, size: int = 1 << 16) -> bytes:
    """Return all of a body, decoded."""
    reader = decoded(body, coding)
    parts = []
    while part := reader.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("coding", CODINGS)
@given(
    parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 300), max_size=4),
    size=st.integers(1, 5000),
)
def test_what_was_encoded_comes_back(
    coding: str, parts: list[bytes], sizes: list[int], size: int
) -> None:
    """Whatever the pieces that come and are asked for, also of several members or frames."""
    data = b"".join(CODINGS[coding](part) for part in parts)
    assert read(Dribble(data, sizes), coding, size) == b"".join(parts)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@settings(max_examples=500)
@given(data=st.binary(max_size=500), cut=st.integers(1, 60))
def test_what_is_cut_off_is_refused(coding: str, data: bytes, cut: int) -> None:
    """A stream that ends anywhere before its end is no shorter file."""
    whole = CODINGS[coding](data)
    with pytest.raises(RequestError, match=coding):
        read(io.BytesIO(whole[: max(0, len(whole) - cut)]), coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@given(data=st.binary(max_size=300))
def test_what_is_no_such_stream_is_refused(coding: str, data: bytes) -> None:
    """Bytes of any kind give a file or an error that says so, nothing else."""
    with contextlib.suppress(RequestError):
        read(io.BytesIO(data), coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_what_stands_behind_is_refused(coding: str) -> None:
    """Other bytes after the stream are an error."""
    with pytest.raises(RequestError):
        read(io.BytesIO(CODINGS[coding](b"data") + b"junk and more"), coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_takes_no_memory(coding: str) -> None:
    """A body that grows a thousand times and more is held in pieces."""
    packed = CODINGS[coding](bytes(200_000_000))
    assert len(packed) < 250_000
    reader = decoded(io.BytesIO(packed), coding)
    tracemalloc.start()
    size = 0
    while part := reader.read(1 << 16):
        size += len(part)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 200_000_000
    assert peak < 20_000_000


def test_a_huge_window_is_refused() -> None:
    """A frame that wants more than 8 MiB of memory is not taken."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = random_bytes(300_000, 1)
    packed = compressor.compress(data) + compressor.flush()
    with pytest.raises(RequestError, match="zstd"):
        read(io.BytesIO(packed), "zstd")


@pytest.mark.parametrize("coding", ["br", "gzip, zstd", "deflate"])
def test_other_codings_are_refused(coding: str) -> None:
    """415 says what is taken."""
    with pytest.raises(RequestError) as caught:
        decoded(io.BytesIO(b""), coding)
    assert caught.value.status == 415
    assert caught.value.headers["Accept-Encoding"] == "zstd, gzip"


@pytest.mark.parametrize(
    ("field", "codings"),
    [
        (None, []),
        ("", []),
        ("gzip", ["gzip"]),
        ("gzip, deflate, br, zstd", ["zstd", "gzip"]),
        ("gzip;q=1.0, zstd;q=0.5", ["gzip", "zstd"]),
        ("zstd;q=0, *", ["gzip"]),
        ("*;q=0.1", ["zstd", "gzip"]),
        ("identity", []),
        ("gzip;q=x", []),
    ],
)
def test_what_clients_prefer(field: str | None, codings: list[str]) -> None:
    """Weights count, then zstd before gzip; q=0 is a refusal."""
    assert preferred(field) == codings


@given(st.lists(st.binary(max_size=3000)))
def test_encoding_is_undone_by_others(blocks: list[bytes]) -> None:
    """What is sent encoded is what zlib and zstd read."""
    whole = b"".join(blocks)
    assert zlib.decompress(b"".join(encoded(iter(blocks), "gzip")), 31) == whole
    packed = b"".join(encoded(iter(blocks), "zstd"))
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed))
    assert reader.read() == whole
