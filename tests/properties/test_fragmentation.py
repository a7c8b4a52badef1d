"""What is stored again: bounded, by whole frames, and worth it; packs in an order that helps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chunkstore.format.manifest import PackHint
from chunkstore.fragmentation import MOST_READ, WELL_USED, to_store_again
from chunkstore.hints import order_of_packs
from chunkstore.ids import PackId

MIB = 1024 * 1024


@dataclass(frozen=True)
class Drawn:
    """Chunks of a stretch as columns, and stored bytes of its new ones."""

    frames: np.ndarray
    lengths: np.ndarray
    shares: np.ndarray
    new: float

    def read(self, again: np.ndarray) -> float:
        """Stored bytes that are read once the chunks `again` lie together."""
        left = np.unique(self.frames[~again], return_index=True)[1]
        return float(self.lengths[~again][left].sum() + self.shares[again].sum() + self.new)

    @property
    def needed(self) -> float:
        return float(self.shares.sum() + self.new)


@st.composite
def stretches(draw: st.DrawFn) -> Drawn:
    """Frames of up to a MiB, of each of which some part is needed, in some chunks."""
    frames: list[int] = []
    lengths: list[int] = []
    shares: list[float] = []
    numbers = draw(st.lists(st.integers(0, 1 << 60), unique=True, max_size=12))
    for number in numbers:
        length = draw(st.integers(1000, MIB))
        chunks = draw(st.integers(1, 3))
        part = draw(st.floats(0.01, 1))
        frames += [number] * chunks
        lengths += [length] * chunks
        shares += [length * part / chunks] * chunks
    order = np.array(draw(st.permutations(range(len(frames)))), np.int64)
    new = draw(st.just(0) | st.integers(1, 20 * MIB))
    return Drawn(
        np.array(frames, np.int64)[order],
        np.array(lengths, np.int64)[order],
        np.array(shares, np.float64)[order],
        float(new),
    )


@given(stretches())
def test_what_is_stored_again_is_bounded_and_worth_it(drawn: Drawn) -> None:
    """Nothing without need or new chunks; whole frames of little use; no more than is new."""
    again = to_store_again(drawn.frames, drawn.lengths, drawn.shares, drawn.new)
    before = drawn.read(np.zeros(len(again), bool))
    if drawn.new == 0 or before <= MOST_READ * drawn.needed:
        assert not again.any()
    given_up = np.unique(drawn.frames[again])
    assert not np.isin(drawn.frames[~again], given_up).any()
    of = [drawn.frames == frame for frame in given_up]
    used = [float(drawn.shares[rows].sum() / drawn.lengths[rows][0]) for rows in of]
    assert all(use <= WELL_USED + 1e-9 for use in used)
    shares = sorted(float(drawn.shares[rows].sum()) for rows in of)
    assert sum(shares) <= drawn.new + max(shares, default=0) + 1e-6
    assert drawn.read(again) <= before


@given(stretches())
def test_it_goes_on_until_little_is_read(drawn: Drawn) -> None:
    """It ends where enough is saved, as much as is new is stored again, or no frame is worth it."""
    again = to_store_again(drawn.frames, drawn.lengths, drawn.shares, drawn.new)
    kept = np.unique(drawn.frames[~again])
    uses = [
        drawn.shares[drawn.frames == f].sum() / drawn.lengths[drawn.frames == f][0] for f in kept
    ]
    assert (
        drawn.read(again) <= MOST_READ * drawn.needed + 1e-3
        or drawn.shares[again].sum() >= drawn.new - 1e-3
        or all(use > WELL_USED - 1e-9 for use in uses)
    )
    given_up = np.unique(drawn.frames[again])
    if len(given_up):  # the last of them was needed too
        used = np.array([drawn.shares[drawn.frames == f].sum() for f in given_up])
        costs = np.array([drawn.lengths[drawn.frames == f][0] for f in given_up])
        last = used / costs >= (used / costs).max() - 1e-9
        more = drawn.read(again) + (costs - used)[last].max()
        assert more >= MOST_READ * drawn.needed - 1e-3


def hints(numbers: list[int]) -> list[PackHint]:
    return [PackHint(PackId(number.to_bytes(32, "big")), 1000, 500) for number in numbers]


numbers = st.lists(st.integers(0, 20), max_size=30)


@given(numbers, st.lists(st.integers(0, 20), unique=True), st.booleans())
def test_packs_keep_their_order_and_new_ones_stand_in_front(
    needed: list[int], before: list[int], newest_first: bool
) -> None:
    """Each pack once; what the parent had in its order; newer ones first where that matters."""
    found = order_of_packs(hints(needed), hints(before), newest_first=newest_first)
    assert sorted(found) == sorted(set(hints(needed)))
    old = [hint for hint in found if hint in hints(before)]
    assert old == [hint for hint in hints(before) if hint in found]
    new = [hint for hint in dict.fromkeys(hints(needed)) if hint not in hints(before)]
    if newest_first:
        assert found == new + old


@given(numbers)
def test_the_packs_of_a_first_version_stand_as_they_are_needed(needed: list[int]) -> None:
    """So do those that are appended to a version."""
    found = order_of_packs(hints(needed), (), newest_first=False)
    assert found == list(dict.fromkeys(hints(needed)))
    more = hints([*needed, 77, 78, 77])
    assert order_of_packs(more, found, newest_first=False) == [*found, *hints([77, 78])]


def test_a_pack_between_others_stays_there() -> None:
    """A file that is replaced leaves its packs where a reader of one file looks for them."""
    before = hints([1, 2, 3, 4])
    found = order_of_packs(hints([1, 9, 8, 3, 4]), before, newest_first=False)
    assert found == hints([1, 9, 8, 3, 4])
