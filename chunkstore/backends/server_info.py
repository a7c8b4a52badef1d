"""What a chunkstore server says of itself: what the caller may do there, and what it can.

Neighbour: `http`. Implements "What the server says of itself" of docs/reference/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chunkstore.backends.http_client import Answer, Call, HttpClient
from chunkstore.errors import BackendError
from chunkstore.patterns import matches

PROTOCOL: Final = 1

_RIGHTS: Final = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself and of what the caller may do.

    Attributes:
        name: the server and its version.
        right: the most that is allowed: "read", "write" or "admin".
        everywhere: whether that holds for all datasets.
        datasets: patterns of those for which it holds.
        direct: whether packs may be sent straight to the storage.
    """

    name: str
    right: str
    everywhere: bool
    datasets: tuple[str, ...]
    direct: bool

    def reaches(self, dataset: str) -> bool:
        """Whether one of its patterns stands for a dataset."""
        return self.everywhere or any(matches(pattern, dataset) for pattern in self.datasets)


def server_info(client: HttpClient, call: Call, answer: Answer) -> ServerInfo:
    """Return what an answer says, if it can be so.

    Raises:
        BackendError: it speaks another protocol, or says no such thing.
    """
    found = client.json(call, answer)
    protocol, name, right = found.get("protocol"), found.get("server"), found.get("right")
    datasets = found.get("datasets")
    if protocol != PROTOCOL:
        raise BackendError(
            f"the server at {client.url} speaks another protocol than {PROTOCOL}",
            operation=call.operation,
            hint="install the version of chunkstore that the server has",
        )
    if (
        not isinstance(name, str)
        or right not in _RIGHTS
        or not isinstance(found.get("everywhere"), bool)
        or not isinstance(datasets, list)
        or not all(isinstance(pattern, str) for pattern in datasets)
    ):
        client.raise_unusable(call, "the server does not say what is allowed")
    direct = found.get("direct") is True
    return ServerInfo(name[:100], right, found["everywhere"], tuple(datasets), direct)
