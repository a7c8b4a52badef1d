"""The real writer, reader and collector, taking turns at every call, lose nothing.

`make simulate` plays 20,000 runs; `python -m tests.simulation.play SEED` plays one again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest

from chunkstore.errors import IntegrityError
from tests.simulation.determinism import deterministic
from tests.simulation.rules import RULES, Rule
from tests.simulation.runs import Player, World
from tests.simulation.truth import LossError

RUNS = 500
PARTS = 5


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    chance = random.Random(0)
    logging.disable(logging.WARNING)  # every lost request is one
    try:
        with deterministic(chance) as clock:
            yield Player(World(tmp_path_factory.mktemp("simulation")), clock, chance)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(PARTS))
def test_four_writers_and_two_collectors_lose_nothing(player: Player, part: int) -> None:
    """500 runs, with deaths, long sleep, and requests that are lost, late and doubled."""
    commits = deleted = 0
    for seed in range(part, RUNS, PARTS):
        outcome = player.play(seed)
        assert outcome.loss is None, outcome.told()
        commits += outcome.commits
        deleted += outcome.deleted
    assert commits > 4 * RUNS / PARTS
    assert deleted > 2 * RUNS / PARTS


@pytest.mark.parametrize("name", RULES)
def test_without_any_one_rule_something_is_lost(player: Player, name: str) -> None:
    """With the rule switched off the same runs come to a loss: the simulator can see one."""
    rule: Rule = RULES[name]
    for seed in range(rule.seeds):
        with rule.switch():
            outcome = player.play(
                seed, writers=rule.writers, collectors=rule.collectors, weather=rule.weather
            )
        if isinstance(outcome.loss, LossError | IntegrityError):
            return  # other errors are those of the bent code
    pytest.fail(f"{rule.seeds} runs without {name!r} lost nothing")


def test_a_seed_plays_the_same_again(player: Player) -> None:
    """The same calls in the same order with the same outcomes, so that a loss can be looked at."""
    for seed in range(8):
        assert player.play(seed).history == player.play(seed).history
