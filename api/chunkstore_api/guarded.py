"""Guarded objects: the keys and bytes of a store, behind the rules of docs/reference/protocol.md.

Neighbours: `outgoing` and `incoming`, which have the rules; `routes.objects` speaks HTTP.
"""

from __future__ import annotations

from chunkstore.opened import Opened
from chunkstore_api.commits import Commits
from chunkstore_api.incoming import Incoming
from chunkstore_api.narrow import Narrow
from chunkstore_api.outgoing import Outgoing
from chunkstore_api.segments import Segments
from chunkstore_api.sent import Sent
from chunkstore_api.views import Views


class Guarded:
    """The objects of one store, for callers. Thread-safe; keeps nothing but caches.

    Attributes:
        outgoing: what may be read.
        incoming: what may be written and deleted.
    """

    def __init__(self, store: Opened) -> None:
        views, sent = Views(store), Sent(store.objects)
        narrow = Narrow(store, sent)
        self.outgoing = Outgoing(store, views, narrow)
        self.incoming = Incoming(store, Segments(store, views, sent), Commits(store, views, narrow))
