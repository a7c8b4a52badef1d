"""Connections to a chunkstore server: patient while they send, and cut when the backend is closed.

Neighbour: `http_client`, which sends by them.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_SEND_SECONDS: Final = 90.0
"""For how long a server may take nothing of a body: it lets an upload wait for its turn."""


def use(manager: urllib3.PoolManager) -> None:
    """Have a manager that has no connections yet make its connections of this kind."""
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def hang_up(manager: urllib3.PoolManager) -> None:
    """Cut all connections of a manager, those for whose answer others wait too."""
    for key in manager.pools.keys():  # noqa: SIM118  # it is no mapping, and never iterated
        pool = manager.pools.get(key)
        if isinstance(pool, _HangingUp):
            pool.hang_up()


class _Patient:
    """A connection on which a body may wait for longer than it took to connect."""

    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # that of the connection it is mixed into
        if self.sock is not None:
            self.sock.settimeout(_SEND_SECONDS)


class _Connection(_Patient, HTTPConnection):
    """A plain one."""


class _SecureConnection(_Patient, HTTPSConnection):
    """One over TLS."""


class _HangingUp(HTTPConnectionPool):
    """Connections that can be cut while others wait for what comes from them."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._opened: weakref.WeakSet[Any] = weakref.WeakSet()

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        self._opened.add(connection)
        return connection

    def hang_up(self) -> None:
        """Cut all connections, those that are in use too."""
        for connection in list(self._opened):
            with contextlib.suppress(OSError, AttributeError):  # closed already
                connection.sock.shutdown(socket.SHUT_RDWR)


class _Pool(_HangingUp):
    ConnectionCls = _Connection


class _SecurePool(_HangingUp, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
