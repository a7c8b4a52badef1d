"""The hints of a version: its pack table, and for each page the packs that it needs.

Pure. Neighbours: `pager` has the pages, `ingest` knows in which pack each place is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from chunkstore.filestate import Needed
from chunkstore.format.manifest import PackHint, PageRef
from chunkstore.pager import Page

Root: TypeAlias = tuple[tuple[PackHint, ...], tuple[PageRef, ...]]
"""The pack table and the pages of a root."""


def page_refs(
    pages: Sequence[Page],
    pack_at: Callable[[int], PackHint],
    before: Sequence[PackHint],
    *,
    newest_first: bool,
) -> Root:
    """Return the pack table and the pages of a root.

    Packs that hold pages come first, then the others as `order_of_packs` has them.
    """
    holders = [pack_at(page.place) for page in pages if page.place is not None]
    needed = [[pack_at(place) for place in page.places] for page in pages]
    data = order_of_packs(itertools.chain.from_iterable(needed), before, newest_first=newest_first)
    hints = list(dict.fromkeys([*holders, *data]))
    numbers = {hint: number for number, hint in enumerate(hints)}
    refs: list[PageRef] = []
    for page, packs in zip(pages, needed, strict=True):
        own = [] if page.place is None else [pack_at(page.place)]
        where = tuple(sorted({numbers[hint] for hint in [*own, *packs]}))
        refs.append(PageRef(page.page_id, page.first_path, page.entries, where, page.data))
    return tuple(hints), tuple(refs)


def order_of_packs(
    needed: Iterable[PackHint], before: Sequence[PackHint], *, newest_first: bool
) -> list[PackHint]:
    """Return each pack of a version once, in the order in which a reader should look into them.

    Where a chunk was stored again its newer pack stands before the older one: packs keep the order
    that they have in `before`, the table of the parent version, and `newest_first`, in a push that
    stored any again, puts those that it lacks in front. Else these stand where they are `needed`,
    so that who reads one file can tell from its place in a page about where its packs are.
    """
    ranks = {hint: rank for rank, hint in enumerate(before)}
    keys: dict[PackHint, tuple[int, bool, int]] = {}
    last = -1
    for number, hint in enumerate(dict.fromkeys(needed)):
        rank = ranks.get(hint)
        if rank is not None:
            last = rank
        keys[hint] = (-1 if newest_first and rank is None else last, rank is None, number)
    return sorted(keys, key=keys.__getitem__)


def needed_by(page: Page, pack_at: Callable[[int], PackHint], *, durable: bool) -> Needed | None:
    """Return where a page and what it needs lie; None where that is new and not `durable`."""
    places = list(page.places) if page.place is None else [page.place, *page.places]
    if not durable and min(places, default=0) < 0:
        return None
    own = None if page.place is None else pack_at(page.place).pack_id
    return Needed(own, tuple(pack_at(place).pack_id for place in page.places))
