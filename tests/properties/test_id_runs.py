"""Laws of `IdRuns`, `IdSet` and `MetIds`: whatever comes, in whatever parts, they are sets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from chunkstore.id_runs import IdRuns, IdSet, MetIds, as_ids, id_list, ranges

# few different ids, some of which end in zeros, which numpy leaves out where it can
WHOLE = st.integers(0, 300).map(
    lambda n: (n * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big") * 4
)
ENDS = st.sampled_from([b"", bytes(1), bytes(20)])
ids = st.builds(lambda whole, end: whole[: 32 - len(end)] + end, WHOLE, ENDS)
batches = st.lists(st.lists(ids, max_size=12), max_size=12)


@given(batches, st.lists(ids, max_size=30), st.integers(1, 50))
def test_a_set_has_what_was_added_and_nothing_else(
    added: list[list[bytes]], asked: list[bytes], most_held: int
) -> None:
    """Law: `contains` says of each id whether it was added, before and after runs are spilled."""
    known: set[bytes] = set()
    with IdSet(None, most_held=most_held) as found, IdSet(None, most_held=7) as other:
        for batch in added:
            found.add(b"".join(batch))
            known.update(batch)
            assert found.contains(b"".join(asked)).tolist() == [
                one[:16] in {each[:16] for each in known} for one in asked
            ]
        other.update(found)
        assert other.added == found.added == sum(map(len, added))
        joined = b"".join(asked)
        assert other.contains(joined).tolist() == found.contains(joined).tolist()


@given(batches)
def test_ids_that_were_met(added: list[list[bytes]]) -> None:
    """Law: `add` says of each id whether it comes for the first time, within a batch too."""
    known: set[bytes] = set()
    met = MetIds()
    for batch in added:
        expected = []
        for one in batch:
            expected.append(one not in known)
            known.add(one)
        assert met.add(as_ids(b"".join(batch))).tolist() == expected
        assert met.has(as_ids(b"".join(batch))).all()
    assert len(met) == len(known)


@given(batches, st.integers(1, 20), st.integers(1, 500), st.integers(10, 100))
def test_ranges_together_give_each_id_once(
    added: list[list[bytes]], most_held: int, entries: int, most: int
) -> None:
    """Law: ranges follow one another and cover all ids; `between` gives those inside, sorted."""
    cut = list(ranges(entries, most))
    assert cut[0][0] == 0
    assert cut[-1][1] == 1 << 64
    assert all(before[1] == after[0] for before, after in itertools.pairwise(cut))
    assert len(cut) * most > entries
    with IdRuns(None, most_held=most_held) as runs:
        for batch in added:
            runs.add(b"".join(batch))
        found = [one for first, end in cut for one in id_list(runs.between(first, end))]
        assert found == sorted(set(itertools.chain.from_iterable(added)))
