"""The part of the facade that says which versions there are: tags, dropping, bringing back.

Neighbours: `opened` below; `store` above; `refs` has what becomes of a ref.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from chunkstore import inspection, layout, values
from chunkstore.address import Address, parse_address
from chunkstore.format.ref import Ref
from chunkstore.inspection import dropped_version_of, version_of
from chunkstore.opened import Opened
from chunkstore.refs import dropped_last, resolve, with_dropped, with_tag, without_versions
from chunkstore.retention import NANO, Retention, judge


class Versions(Opened):
    """What names, drops and brings back versions; data is never touched."""

    def tag(self, address: str | Address, name: str) -> values.Version:
        """Name a version and return it; the name moves there from wherever it was.

        Raises:
            NotFoundError: no such dataset or version.
            InvalidInputError: a name that no tag may have.
        """
        where = parse_address(address)
        _, record = self._resolve(where)

        ref = self._swap(where.dataset, lambda ref: with_tag(ref, name, record.number))
        return version_of(ref, record)

    def untag(self, dataset: str, name: str) -> None:
        """Take a name away.

        Raises:
            NotFoundError: there is no such dataset, or it has no such tag.
        """
        self._swap(dataset, lambda ref: inspection.without_tag(ref, name))

    def remove(self, dataset: str, numbers: Sequence[int]) -> list[values.Version]:
        """Drop versions and their tags, and return them.

        `undo` brings them back until a collection lets them go, a day later at the earliest unless
        it is told otherwise.

        Raises:
            NotFoundError: one of them is not there; none was dropped.
        """
        dropped: list[values.Version] = []
        now = time.time_ns()

        def edit(ref: Ref) -> Ref:
            dropped[:] = [version_of(ref, resolve(ref, str(number))) for number in numbers]
            return without_versions(ref, numbers, now)

        self._swap(dataset, edit)
        return dropped

    def thin(self, dataset: str, keep: Retention, *, dry_run: bool = False) -> values.Thinned:
        """Drop the versions that a rule does not keep, as `remove` does; return all of both kinds.

        Raises:
            NotFoundError: there is no such dataset, or it has no versions.
        """
        now = time.time_ns()
        found: list[values.Thinned] = []

        def edit(ref: Ref) -> Ref:
            judged = judge(ref, keep, now / NANO)
            leaving = [each.record for each in judged if not each.kept]
            found[:] = [
                values.Thinned(
                    dropped=tuple(version_of(ref, record) for record in leaving),
                    kept=tuple((version_of(ref, j.record), j.reason) for j in judged if j.kept),
                )
            ]
            return without_versions(ref, [record.number for record in leaving], now)

        edit(self._refs.require(layout.check_name(dataset, "dataset")).ref)
        if found[0].dropped and not dry_run:
            self._swap(dataset, edit)
        return found[0]

    def dropped(self, dataset: str) -> list[values.Version]:
        """Return the versions that `undo` can bring back, oldest first, with the tags they had.

        Raises:
            NotFoundError: there is no such dataset, and none that lost its versions.
        """
        stored = self._refs.get(layout.check_name(dataset, "dataset"))
        if stored is None:
            stored = self._refs.require(dataset)
        return [dropped_version_of(dataset, each) for each in stored.ref.dropped]

    def undo(self, dataset: str, numbers: Sequence[int] = ()) -> list[values.Version]:
        """Bring dropped versions back, with those of their tags that no other version has by now.

        Without `numbers` those that were dropped last, together.

        Raises:
            NotFoundError: there is no such dropped version, or a collection has let it go; none
                was brought back.
        """
        back: list[int] = []

        def edit(ref: Ref) -> Ref:
            back[:] = numbers or dropped_last(ref)
            return with_dropped(ref, back)

        ref = self._swap(dataset, edit)
        return [version_of(ref, record) for record in ref.versions if record.number in back]
