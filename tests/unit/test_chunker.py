"""Chunkers cut where they always did: cut points are part of the format."""

from __future__ import annotations

import ast
import hashlib
import random
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.chunker import Chunker, slow_chunker
from chunkstore.errors import InvalidInputError
from chunkstore.format.config import CHUNKERS, ChunkerSpec
from chunkstore.testing.trees import random_bytes, text_bytes

ROOT = Path(__file__).parents[2]
KIB = 1024
SMALL = (1024, 2048, 4096)
DEFAULT = (16 * KIB, 64 * KIB, 256 * KIB)
SIZE = 1_500_000
NOISE = random_bytes(SIZE, 3)
TEXT = text_bytes(SIZE, 3)

# name, sizes, data: number of chunks, the first ones, SHA-256 of all of them
FROZEN = {
    ("fastcdc", DEFAULT, "noise"): (25, [44668, 91126, 49300, 93563, 43381], "ca3c1667ec77c35d"),
    ("fastcdc", DEFAULT, "text"): (24, [56124, 39930, 52497, 47445, 41530], "f710ad72699f262c"),
    ("fastcdc", SMALL, "noise"): (746, [4096, 2410, 2217, 1083, 2295], "1a7c679555fb0fb4"),
    ("fastcdc", SMALL, "text"): (742, [2245, 1374, 2287, 2822, 1243], "4644decf48a150fc"),
    ("pyfastcdc", DEFAULT, "noise"): (21, [26408, 54590, 83806, 66383, 121068], "1784bc3aeec56bdc"),
    ("pyfastcdc", DEFAULT, "text"): (18, [206151, 18657, 62431, 39941, 126982], "c0bcc35bdff1a1e9"),
    ("pyfastcdc", SMALL, "noise"): (582, [2507, 1565, 4096, 3556, 2368], "4ed0cbca0317babc"),
    ("pyfastcdc", SMALL, "text"): (583, [1547, 2790, 1893, 4096, 2108], "227c23d9cf9f7417"),
}


def chunker(name: str, sizes: tuple[int, int, int] = SMALL) -> Chunker:
    return Chunker(ChunkerSpec(name=name, min_size=sizes[0], avg_size=sizes[1], max_size=sizes[2]))


def cut_in_windows(cutter: Chunker, data: bytes, windows: Sequence[int]) -> list[int]:
    """Return the chunks of `data` that is given in windows, the last one with all that is left."""
    sizes: list[int] = []
    carry, at = b"", 0
    for window in windows:
        piece = carry + data[at : at + window]
        at += window
        found = cutter.cut(memoryview(piece), final=False)
        sizes += found
        carry = piece[sum(found) :]
    return sizes + cutter.cut(memoryview(carry + data[at:]), final=True)


@pytest.mark.parametrize(("name", "sizes", "label"), FROZEN)
def test_cut_points_are_frozen(name: str, sizes: tuple[int, int, int], label: str) -> None:
    """A release of a chunker that cuts elsewhere never goes unseen.

    Nothing would fail if it did: old versions stay readable, since a manifest lists its chunks.
    But the next push would find none of the chunks that the store has, send everything again and
    double the store. So the cuts belong to the chunker's name in the config; whoever wants
    others adds another name.
    """
    count, first, digest = FROZEN[name, sizes, label]
    data = {"noise": NOISE, "text": TEXT}[label]
    found = chunker(name, sizes).cut(memoryview(data), final=True)
    assert sum(found) == len(data)
    assert len(found) == count
    assert found[: len(first)] == first
    assert hashlib.sha256(repr(found).encode()).hexdigest()[:16] == digest


def test_the_data_of_the_frozen_cuts_are_frozen() -> None:
    """Where this fails, the test data have changed and not the chunkers."""
    assert hashlib.sha256(NOISE).hexdigest()[:16] == "8e4eeafc12640878"
    assert hashlib.sha256(TEXT).hexdigest()[:16] == "f47f47a549d938c9"


def test_the_two_chunkers_cut_elsewhere() -> None:
    """So neither may ever stand in for the other."""
    cuts = [chunker(name, DEFAULT).cut(memoryview(NOISE), final=True) for name in CHUNKERS]
    assert cuts[0] != cuts[1]


@pytest.mark.parametrize("name", CHUNKERS)
@given(
    seed=st.integers(0, 1 << 30),
    size=st.integers(0, 60_000),
    windows=st.lists(st.integers(0, 20_000), max_size=6),
    repeats=st.booleans(),
)
def test_windows_of_any_size_give_the_same_cuts(
    name: str, seed: int, size: int, windows: list[int], repeats: bool
) -> None:
    """How much is read at once never decides what is a chunk."""
    data = random.Random(seed).randbytes(3001 if repeats else size)
    data = (data * 20)[:size]
    cutter = chunker(name)
    whole = cutter.cut(memoryview(data), final=True)
    assert cut_in_windows(cutter, data, windows) == whole
    assert sum(whole) == size


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize("window", [1000, 16 * KIB, 256 * KIB, 256 * KIB + 1, 700_000])
def test_windows_of_real_sizes_give_the_same_cuts(name: str, window: int) -> None:
    """With the default sizes too, windows shorter than one chunk included."""
    cutter = chunker(name, DEFAULT)
    data = NOISE[:600_000] + bytes(600_000)
    windows = [window] * (len(data) // window)
    assert cut_in_windows(cutter, data, windows) == cutter.cut(memoryview(data), final=True)


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize("sizes", [SMALL, DEFAULT])
def test_the_smallest_and_largest_chunk_are_kept(name: str, sizes: tuple[int, int, int]) -> None:
    """Only the last chunk of a file is smaller than the least; none is larger than the most."""
    for data in (NOISE, TEXT, bytes(SIZE), b"\xff" * SIZE, b"ab" * (SIZE // 2)):
        found = chunker(name, sizes).cut(memoryview(data), final=True)
        assert all(sizes[0] <= size <= sizes[2] for size in found[:-1])
        assert 0 < found[-1] <= sizes[2]
        assert sum(found) == len(data)


@pytest.mark.parametrize("name", CHUNKERS)
def test_zeros_are_cut_into_the_largest_chunks(name: str) -> None:
    """Data without content to cut by give equal chunks, so a file of zeros is stored once."""
    assert chunker(name, DEFAULT).cut(memoryview(bytes(600_000)), final=True) == [
        262_144,
        262_144,
        75_712,
    ]


@pytest.mark.parametrize("name", CHUNKERS)
def test_no_bytes_are_no_chunk(name: str) -> None:
    """An empty file has none, and an empty window adds none."""
    for final in (True, False):
        assert chunker(name).cut(memoryview(b""), final=final) == []


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize("size", [1, 1023, 1024, 1025])
def test_short_files_are_one_chunk(name: str, size: int) -> None:
    """Up to the least size and one byte beyond there is nothing to cut; unfinished it waits."""
    data = memoryview(NOISE[:size])
    assert sum(chunker(name).cut(data, final=True)) == size
    assert size > 1024 or chunker(name).cut(data, final=True) == [size]
    assert chunker(name).cut(data[:1000], final=False) == []


@pytest.mark.parametrize("name", CHUNKERS)
def test_an_edit_moves_the_cuts_near_it_only(name: str) -> None:
    """What content-defined means: an inserted byte leaves most chunks as they were."""
    before = chunker(name).cut(memoryview(NOISE), final=True)
    after = chunker(name).cut(memoryview(NOISE[:500_000] + b"!" + NOISE[500_000:]), final=True)
    ends = {sum(before[: n + 1]) for n in range(len(before))}
    moved = {sum(after[: n + 1]) for n in range(len(after))}
    shared = {end for end in ends if (end if end < 500_000 else end + 1) in moved}
    assert len(ends - shared) < 20


def test_the_gear_table_is_the_documented_one() -> None:
    """Section 2.2 of the format names the 256 numbers of fastcdc by their hash."""
    from blake3 import blake3
    from fastcdc.fastcdc_py import GEAR

    assert len(GEAR) == 256
    digest = blake3(struct.pack("<256I", *GEAR)).hexdigest()
    assert digest in (ROOT / "docs" / "design" / "format.md").read_text()


def as_documented(data: bytes, low: int, average: int, high: int) -> list[int]:
    """Cut as section 2.2 of the format says, word by word."""
    from fastcdc.fastcdc_py import GEAR

    bits = average.bit_length() - 1
    small, large = (1 << (bits + 1)) - 1, (1 << (bits - 1)) - 1
    centre = min(average - min(average, low + (low + 1) // 2), high)
    sizes: list[int] = []
    start = 0
    while start < len(data):
        number, h = low, 0
        end = min(high, len(data) - start)
        while number < end:
            h = (h >> 1) + GEAR[data[start + number]]
            number += 1
            if not h & (small if number - 1 < centre else large):
                break
        sizes.append(min(number, end))
        start += sizes[-1]
    return sizes


@pytest.mark.parametrize("sizes", [SMALL, (1025, 4096, 9000), (3000, 4096, 4097)])
def test_fastcdc_cuts_as_it_is_documented(sizes: tuple[int, int, int]) -> None:
    """Whoever writes another program from the document finds the chunks of this one."""
    for data in (NOISE[:200_000], TEXT[:200_000], b"", b"x", bytes(10_000)):
        found = chunker("fastcdc", sizes).cut(memoryview(data), final=True)
        assert as_documented(data, *sizes) == found


def test_pure_python_cuts_as_the_compiled_one() -> None:
    """So a machine without a compiler deduplicates against what others pushed."""
    from fastcdc.fastcdc_py import fastcdc_py

    for sizes, data in ((SMALL, NOISE[:300_000]), (DEFAULT, TEXT)):
        pure = [chunk.length for chunk in fastcdc_py(memoryview(data), *sizes)]
        assert chunker("fastcdc", sizes).cut(memoryview(data), final=True) == pure


@pytest.mark.parametrize("name", CHUNKERS)
def test_the_compiled_build_is_not_called_slow(name: str) -> None:
    """No warning where there is no reason for one; this environment has compiled builds."""
    assert slow_chunker(name) is None


def run_without_compiled_parts(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process in which neither package has its compiled part."""
    blocked = "import sys\nfor m in ('fastcdc.fastcdc_cy', 'pyfastcdc.cy'): sys.modules[m] = None\n"
    return subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, timeout=60
    )


def test_without_its_compiled_part_fastcdc_prints() -> None:
    """The reason for the guard: where this fails, the guard may go."""
    assert run_without_compiled_parts("import fastcdc").stdout != ""


@pytest.mark.parametrize("name", CHUNKERS)
def test_a_slow_build_is_named_and_stdout_stays_clean(name: str) -> None:
    """The fallback is told with its remedy, cuts the same, and prints nothing into the data."""
    found = run_without_compiled_parts(
        "from chunkstore.chunker import Chunker, slow_chunker\n"
        "from chunkstore.format.config import ChunkerSpec\n"
        f"spec = ChunkerSpec(name={name!r}, min_size=1024, avg_size=2048, max_size=4096)\n"
        "from chunkstore.testing.trees import random_bytes\n"
        "data = random_bytes(1_500_000, 3)[:50_000]\n"
        "sizes = Chunker(spec).cut(memoryview(data), final=True)\n"
        "print(repr((slow_chunker(spec.name), sizes)))\n"
    )
    assert found.returncode == 0, found.stderr
    message, sizes = ast.literal_eval(found.stdout)
    assert "pure Python" in message
    assert f"--no-binary {name} {name}" in message
    assert sizes == chunker(name).cut(memoryview(NOISE[:50_000]), final=True)


def test_a_push_with_a_slow_chunker_says_so(tmp_path: Path) -> None:
    """It is never slow silently: the caller gets a Notice with the remedy, doctor a bad check."""
    found = run_without_compiled_parts(
        "import io\nfrom chunkstore import Store, Notice\n"
        f"store = Store.create('{tmp_path}/store', cache_folder='{tmp_path}/cache')\n"
        "seen = []\n"
        "store.push(io.BytesIO(b'x' * 99), 'data', name='x', progress=seen.append)\n"
        "notices = [(e.message, e.hint) for e in seen if isinstance(e, Notice)]\n"
        "checks = [(c.ok, c.hint) for c in store.doctor() if c.name == 'chunker']\n"
        "print(repr((notices, checks)))\n"
    )
    assert found.returncode == 0, found.stderr
    notices, checks = ast.literal_eval(found.stdout)
    assert [message for message, _ in notices] == ["pushing is slow"]
    assert checks == [(False, notices[0][1])]
    assert "reinstall" in notices[0][1]


def test_a_chunker_that_is_not_installed_names_its_extra() -> None:
    """One sentence with the pip command, not a traceback of an import."""
    found = run_without_compiled_parts(
        "sys.modules['pyfastcdc'] = None\n"
        "from chunkstore.chunker import Chunker\n"
        "from chunkstore.errors import InvalidInputError\n"
        "from chunkstore.format.config import ChunkerSpec\n"
        "try:\n    Chunker(ChunkerSpec(name='pyfastcdc'))\n"
        "except InvalidInputError as error:\n    print(error.hint)\n"
    )
    assert found.stdout.strip() == "pip install 'chunkstore-cas[pyfastcdc]'", found.stderr


@pytest.mark.parametrize(
    "sizes",
    [
        (1023, 2048, 4096),
        (2048, 2048, 4096),
        (1024, 4096, 4096),
        (1024, 3000, 4096),
        (1024 * KIB + 1, 2048 * KIB, 4096 * KIB),
        (1024 * KIB, 4096 * KIB, 8192 * KIB + 1),
    ],
)
def test_sizes_that_no_chunker_has_are_refused(sizes: tuple[int, int, int]) -> None:
    """Least below average below most, the average a power of two."""
    for name in CHUNKERS:
        with pytest.raises(InvalidInputError):
            chunker(name, sizes)


@pytest.mark.parametrize("name", CHUNKERS)
@pytest.mark.parametrize(
    "sizes",
    [(1024, 2048, 2049), (1024 * KIB, 4096 * KIB, 8192 * KIB), (1024, 4096 * KIB, 4097 * KIB)],
)
def test_sizes_at_the_ends_of_their_ranges_are_cut_by(
    name: str, sizes: tuple[int, int, int]
) -> None:
    """What a config may say, each chunker takes."""
    found = chunker(name, sizes).cut(memoryview(NOISE), final=True)
    assert sum(found) == len(NOISE)
    assert all(sizes[0] <= size <= sizes[2] for size in found[:-1])
