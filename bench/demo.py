"""The whole story on a real tree: init, push, edit, push again, pull, compare.

Takes this environment's own installed packages, some hundred MB that nobody has to download.
Run it with `make demo`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from chunkstore.testing.trees import hash_of

COMMAND = Path(sys.executable).with_name("chunkstore")


def main() -> int:
    """Run the demo; return 0 if every checksum agreed."""
    work = Path(tempfile.mkdtemp(prefix="chunkstore-demo-"))
    os.environ["CHUNKSTORE_STORE"] = str(work / "store")
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    try:
        return _demo(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _demo(work: Path) -> int:
    data = work / "data"
    print("Copying the packages of this environment to play with ...")
    source = sysconfig.get_paths()["purelib"]
    shutil.copytree(source, data, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    out = work / "out"
    _show("init", str(work / "store"))
    _report("first push", _transfer("push", str(data), "packages", "-m", "as installed"))
    _report("push again, unchanged", _transfer("push", str(data), "packages"))
    edited = _edit(data)
    print(f"\nEdited: {edited}")
    _report("push of the edits", _transfer("push", str(data), "packages", "-m", "edited"))
    _report("pull of the first version", _transfer("pull", "packages@1", str(out)))
    _report("pull of the second over it", _transfer("pull", "packages@2", str(out), "--delete"))
    _show("log", "packages")
    _show("stat")
    return _compare(data, out)


def _show(*arguments: str) -> None:
    """Run a short verb and let it print."""
    print(f"\n$ chunkstore {' '.join(arguments)}", flush=True)
    subprocess.run([COMMAND, *arguments], check=True)


def _transfer(*arguments: str) -> dict[str, Any]:
    """Run a push or pull and return its summary."""
    print(f"\n$ chunkstore {' '.join(arguments)}", flush=True)
    done = subprocess.run(
        [COMMAND, *arguments, "--json", "--no-progress"], check=True, stdout=subprocess.PIPE
    )
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def _report(step: str, summary: dict[str, Any]) -> None:
    def mb(name: str) -> str:
        return f"{summary[name] / 1e6:,.1f} MB"

    if "sent_bytes" in summary:
        moved = f"new {mb('new_bytes')}, sent {mb('sent_bytes')}, store grew {mb('stored_bytes')}"
        if summary["unchanged"]:
            moved += ", no new version"
    else:
        moved = (
            f"fetched {mb('fetched_bytes')}, found in the target {mb('reused_bytes')}, "
            f"wrote {mb('written_bytes')}"
        )
    seconds = summary["seconds"]
    print(f"  {step}: {summary['files']:,} files, {mb('size')}: {moved}, {seconds:.1f} s")


def _edit(data: Path) -> str:
    """Change a byte in the middle of the largest file, insert some in others, move a folder."""
    source = random.Random(1)
    files = sorted((p for p in data.rglob("*") if p.is_file() and not p.is_symlink()), key=_size)
    largest = files[-1]
    with open(largest, "r+b") as file:
        file.seek(_size(largest) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    for path in source.sample(files[-200:-1], 20):
        content = path.read_bytes()
        at = source.randrange(len(content))
        path.write_bytes(content[:at] + b"inserted by the demo" + content[at:])
    folder = max((p for p in data.iterdir() if p.is_dir()), key=lambda p: len(list(p.rglob("*"))))
    folder.rename(folder.with_name(f"{folder.name}-moved"))
    return (
        f"one byte of {largest.name} ({_size(largest) / 1e6:,.0f} MB), 20 bytes inserted into "
        f"each of 20 large files, the folder {folder.name} renamed"
    )


def _size(path: Path) -> int:
    return path.stat().st_size


def _compare(left: Path, right: Path) -> int:
    started = time.monotonic()
    names = {p.relative_to(left) for p in left.rglob("*") if p.is_file()}
    others = {p.relative_to(right) for p in right.rglob("*") if p.is_file()}
    different = [name for name in names & others if hash_of(left / name) != hash_of(right / name)]
    if names != others or different:
        print(f"NOT EQUAL: {len(names ^ others)} files missing, {len(different)} different")
        return 1
    seconds = time.monotonic() - started
    print(f"\nAll {len(names):,} files have equal BLAKE3 checksums ({seconds:.1f} s to compare).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
