"""Lists in pages: what comes after the last path of the page before."""

from __future__ import annotations

import itertools

from chunkstore.address import Address
from chunkstore.store import Store
from chunkstore_api.schemas import Changes, Entries, change_document, entry_document


def entries_page(store: Store, where: Address, limit: int, after: str) -> Entries:
    """Return at most `limit` entries at and below an address whose paths come after `after`.

    Raises:
        NotFoundError: no such dataset, version or path.
    """
    version = store.version(where)
    address = Address(where.dataset, str(version.number), where.path)
    found = store.entries(address, start=_behind(after))
    page = list(itertools.islice(found, limit + 1))
    return Entries(
        dataset=version.dataset,
        version=version.number,
        manifest=version.manifest_id.hex(),
        entries=[entry_document(entry) for entry in page[:limit]],
        next=page[limit - 1].path if len(page) > limit else None,
    )


def changes_page(store: Store, before: Address, after: Address, limit: int, start: str) -> Changes:
    """Return at most `limit` differences whose paths come after `start`."""
    old, new = store.version(before), store.version(after)
    found = store.diff(
        Address(old.dataset, str(old.number)),
        Address(new.dataset, str(new.number)),
        start=_behind(start),
    )
    page = list(itertools.islice(found, limit + 1))
    return Changes(
        dataset=new.dataset,
        before=old.number,
        after=new.number,
        changes=[change_document(change) for change in page[:limit]],
        next=page[limit - 1].path if len(page) > limit else None,
    )


def _behind(path: str) -> str:
    """Return the first text that stands behind a path, "" for none."""
    return f"{path}\0" if path else ""
