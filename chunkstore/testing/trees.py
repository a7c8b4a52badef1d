"""Seeded files and folders to test with."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3

_WORDS: Final = b"the chunk of a frame in every pack is listed once".split()
BLOCK: Final = 1 << 20


def random_bytes(size: int, seed: int) -> bytes:
    """Return `size` bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def text_bytes(size: int, seed: int) -> bytes:
    """Return about `size` bytes of numbered lines of words, which compress well."""
    source = random.Random(seed)
    lines = bytearray()
    while len(lines) < size:
        words = b" ".join(source.choices(_WORDS, k=9))
        lines += b"%d %d %s\n" % (len(lines), source.getrandbits(40), words)
    return bytes(lines[:size])


def mixture(size: int, seed: int) -> Iterator[bytes]:
    """Yield blocks of 1 MiB, `size` bytes in all: a third each random, text and repeats."""
    done, number = 0, 0
    early = random_bytes(BLOCK, seed)
    text = text_bytes(BLOCK // 4, seed)
    while done < size:
        kind = number % 3
        if kind == 0:
            block = random_bytes(BLOCK, seed * 1_000_003 + number)
        elif kind == 1:
            salt = b"%d of %d\n" % (number, seed)
            block = (salt + text) * 4
        else:
            block = early
        block = block[: min(BLOCK, size - done)]
        done += len(block)
        number += 1
        yield block


def write_mixture(path: Path, size: int, seed: int) -> str:
    """Write a mixture of `size` bytes to `path`; return its BLAKE3 in hex."""
    hasher = blake3()
    with open(path, "wb") as file:
        for block in mixture(size, seed):
            file.write(block)
            hasher.update(block)
    return hasher.hexdigest()


def write_small_files(root: Path, files: int, seed: int, *, size: int = 4096) -> str:
    """Write files that differ, 1,000 in a folder; return what `hash_of_tree` would of them.

    A quarter of each is digits at random, the rest is text.
    """
    source = random.Random(seed)
    text = text_bytes(BLOCK, seed)
    digits = size // 4
    hasher = blake3()
    for number in range(files):
        name = f"{number // 1000:04}/{number:07}.txt"
        path = root / name
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        start = source.randrange(BLOCK - size)
        data = source.randbytes(digits // 2).hex().encode() + text[start : start + size - digits]
        with open(path, "wb", buffering=0) as file:
            file.write(data)
        _add_to_hash(hasher, name, data)
    return hasher.hexdigest()


def hash_of_tree(root: Path) -> str:
    """Return a hash in hex over the names and the bytes of the files below `root`, in order."""
    hasher = blake3()
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, "rb", buffering=0) as file:
                _add_to_hash(hasher, os.path.relpath(path, root), file.read())
    return hasher.hexdigest()


def _add_to_hash(hasher: blake3, name: str, data: bytes) -> None:
    hasher.update(f"{name} {len(data)}\n".encode())
    hasher.update(data)


def make_tree(root: Path, *, seed: int = 1, files: int = 40) -> Path:
    """Make a small tree with everything that a version can hold; return its root."""
    source = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        folder = root / source.choice(["", "train", "train/deep/er", "test-b", "test", "müller"])
        folder.mkdir(parents=True, exist_ok=True)
        size = source.choice([0, 1, 100, 4096, 70_000, 300_000])
        data = random_bytes(size, seed + number) if number % 2 else text_bytes(size, seed + number)
        path = folder / f"file-{number:03}.bin"
        path.write_bytes(data)
        os.utime(path, ns=(0, 1_600_000_000_000_000_000 + number * 1_000_000_007))
    (root / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (root / "run.sh").chmod(0o755)
    os.utime(root / "run.sh", ns=(0, 1_600_000_000_000_000_000))
    (root / "empty" / "folder").mkdir(parents=True, exist_ok=True)
    (root / "train").mkdir(exist_ok=True)
    for link, target in (("link", "run.sh"), ("train/up", "../run.sh")):
        if not (root / link).is_symlink():
            (root / link).symlink_to(target)
    return root


def tree_state(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Return for each path below `root` what it is, so that two trees can be compared."""
    state: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = Path(folder) / name
            relative = str(path.relative_to(root))
            if path.is_symlink():
                state[relative] = ("link", os.readlink(path))
            elif path.is_dir():
                state[relative] = ("folder",)
            else:
                status = path.stat()
                state[relative] = (
                    "file",
                    status.st_size,
                    bool(status.st_mode & 0o100),
                    status.st_mtime_ns if times else 0,
                    hash_of(path),
                )
    return state


def hash_of(path: Path) -> str:
    """Return the BLAKE3 of a file in hex."""
    hasher = blake3()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
    return hasher.hexdigest()
