"""Fuzz decoders: `python -m tests.fuzz.run [--seconds 60] [TARGET ...]`, or all of them.

Each decoder has a process of its own, in which atheris looks for bytes that lead somewhere new. An
input must be taken or refused, by the errors that the decoder promises, within a second of the
processor and 64 MiB of memory. What breaks that is kept, and its file is named.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

MOST_SECONDS: Final = 1.0
MOST_GROWTH: Final = 64 << 20
LONGEST: Final = 1 << 16

DECODERS: Final = [
    *("chunkstore.format", "chunkstore.compression", "chunkstore.tar_reader"),
    *("chunkstore.address", "chunkstore_api.tokens", "chunkstore_cli.settings_file"),
]
"""Modules in which atheris sees where an input leads."""

_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class SlowOrLargeError(Exception):
    """An input took more than a decoder may take."""


def fuzz(name: str, seconds: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Fuzz one decoder in a process of its own; what it found lies in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--child", name, str(seconds), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )


def _child(name: str, seconds: int, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=DECODERS):
        from tests.fuzz.decoders import TARGETS
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, example in enumerate(target.examples()):
        target.try_one(example)
        (corpus / f"example-{number}").write_bytes(example[:LONGEST])

    def one(data: bytes) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        target.try_one(data)
        took = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * _RSS_UNIT
        if took > MOST_SECONDS or grown > MOST_GROWTH:
            raise SlowOrLargeError(f"{took:.2f} s, {grown >> 20} MiB for {len(data)} bytes")

    atheris.Setup(
        [
            *(sys.argv[0], f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=120"),
            *("-rss_limit_mb=2048", f"-artifact_prefix={folder}/", "-print_final_stats=1"),
            str(corpus),
        ],
        one,
    )
    atheris.Fuzz()


def main() -> int:
    """Run it; return 0 if nothing was found."""
    if sys.argv[1:2] == ["--child"]:
        name, seconds, folder = sys.argv[2:]
        sys.argv[1:] = []
        _child(name, int(seconds), Path(folder))
        return 0
    from tests.fuzz.decoders import TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chunkstore-fuzz-"))
    failed = 0
    for name in chosen.targets or TARGETS:
        place = folder / name
        place.mkdir()
        done = fuzz(name, chosen.seconds, place)
        failed += done.returncode != 0
        _say(f"{name:12} {summary(done)}")
        if done.returncode:
            _say(done.stdout[-3000:] + done.stderr[-3000:])
    if failed:
        _say(f"what was found lies in {folder}")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def summary(done: subprocess.CompletedProcess[str]) -> str:
    """Return how many inputs were tried, and whether all was well."""
    lines = [line.split() for line in done.stderr.splitlines() if line.startswith("stat::number")]
    tried = lines[0][-1] if lines else "?"
    return f"{int(tried):>9,} inputs" if tried != "?" and not done.returncode else "FAILED"


if __name__ == "__main__":
    sys.exit(main())
