"""What whoever starts a server may choose."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from chunkstore.errors import InvalidInputError, RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of what the server does at once. Sizes in bytes, times in seconds.

    Attributes:
        downloads: transfers out at once; more wait.
        uploads: transfers in at once; more wait, and nothing of them is read meanwhile.
        wait: how long a transfer waits for its turn before it is answered by 503.
        idle: how long a client may neither take nor give a byte before it is cut off.
        upload_size: the longest file or archive that is taken in, decompressed.
        rate: requests a second of one token or address; None for no bound.
        requests: requests at once of one token.
        connections: lines that are open at once.
        members: the most files of a version that is sent as a zip, which costs memory.
    """

    downloads: int = 16
    uploads: int = 4
    wait: float = 60.0
    idle: float = 30.0
    upload_size: int = 1 << 40
    members: int = 200_000
    rate: float | None = None
    requests: int = 32
    connections: int = 1000

    def __post_init__(self) -> None:
        if self.downloads < 1 or self.uploads < 1:
            raise InvalidInputError("a server needs at least one transfer in each direction")
        if self.rate is not None and not self.rate > 0:
            raise InvalidInputError("a rate is more than no request a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where a server listens, and what it may use.

    Attributes:
        host: the address it is bound to.
        port: its port, 0 for any that is free.
        open_to_all: whoever reaches the address may read, change and delete everything.
        tokens: the file of those who may do something; without one anybody may do all.
        direct: packs go between clients and the storage by signed URLs, past the server.
        tls: the files of a certificate, with those up to an authority behind it, and of its key;
            None for plain HTTP.
        proxies: addresses of reverse proxies that are believed who their client is.
        limits: how much of what it does at once.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    open_to_all: bool = False
    tokens: str | None = None
    direct: bool = False
    tls: tuple[str, str] | None = None
    proxies: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the address."""
        return is_loopback(self.host)

    def check(self) -> None:
        """Refuse an address that others reach, unless they need tokens or that was asked for.

        Raises:
            RefusedError: others reach it.
        """
        if not self.loopback and not self.open_to_all and not self.tokens:
            raise RefusedError(
                f"{self.host} is reached from other machines, and this server asks nobody who "
                "they are: whoever reaches it may read, change and delete everything",
                hint="leave --host out, give --tokens FILE, or --insecure if you want just that",
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
