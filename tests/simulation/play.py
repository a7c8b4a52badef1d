"""Play runs: `python -m tests.simulation.play [--runs 20000] [--from 0]`, or one: `... play SEED`.

Prints the end of the history of a run in which a promise was broken; with a seed, all of it.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.simulation.determinism import deterministic
from tests.simulation.runs import Player, World


def main() -> int:
    """Run it; return 0 if every promise held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seed", type=int, nargs="?", help="play only this one, and show all of it")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    chance = random.Random(0)
    first, runs = (chosen.first, chosen.runs) if chosen.seed is None else (chosen.seed, 1)
    losses = calls = commits = deleted = 0
    with deterministic(chance) as clock, tempfile.TemporaryDirectory() as folder:
        player = Player(World(Path(folder)), clock, chance)
        for seed in range(first, first + runs):
            outcome = player.play(seed)
            calls += len(outcome.history)
            commits += outcome.commits
            deleted += outcome.deleted
            losses += outcome.loss is not None
            if outcome.loss is not None or chosen.seed is not None:
                _say(outcome.told(60 if chosen.seed is None else 1 << 30))
            if (seed + 1 - first) % 1000 == 0:
                _say(f"{seed + 1 - first} runs, {losses} with a loss")
    _say(f"{runs} runs, {calls} calls, {commits} commits, {deleted} packs deleted: {losses} losses")
    return 1 if losses else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
