"""A tar stream into a container of podman, by its API.

`podman cp -` first keeps all that it reads in a file; the API takes the stream as it comes. podman
serves it for one transfer, at a socket in a folder that only this user can enter. Neighbour:
`container`.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shutil
import socket
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from chunkstore_cli.engine import Engine, EngineError, clipped
from chunkstore_cli.interrupts import parting_with

_BUFFER: Final = 256 * 1024
_PATIENCE: Final = 60.0  # seconds; a process of podman begins to serve within one
_AGAIN: Final = 0.02
_IDLE: Final = "60"  # seconds after which podman ends by itself, should this process be killed
_LONGEST_PATH: Final = 90  # bytes; a socket's has at most 103 on some systems
_MOST_ANSWER: Final = 65536


@contextlib.contextmanager
def filled(engine: Engine, name: str) -> Iterator[IO[bytes]]:
    """Give what takes a tar stream, which is unpacked below `/` of the container `name`.

    Raises:
        EngineError: it cannot be, or is no archive.
    """
    with _folder() as folder:
        path = os.path.join(folder, "api")
        serve = ("system", "service", "--time", _IDLE, f"unix://{path}")
        with (
            engine.beside(*serve) as check,
            contextlib.closing(_connected(path, check)) as connection,
        ):
            query = urllib.parse.urlencode({"path": "/", "noOverwriteDirNonDir": "true"})
            connection.putrequest("PUT", f"/containers/{name}/archive?{query}")
            connection.putheader("Content-Type", "application/x-tar")
            connection.putheader("Transfer-Encoding", "chunked")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # see the answer
                connection.endheaders()
                sink = io.BufferedWriter(_Body(connection), _BUFFER)
                yield sink
                sink.flush()
                connection.send(b"0\r\n\r\n")
            _check_answer(connection)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="chunkstore-")
    if len(os.fsencode(folder)) > _LONGEST_PATH:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="chunkstore-", dir="/tmp")
    with parting_with(lambda: shutil.rmtree(folder, ignore_errors=True)):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("podman")
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class _Body(io.RawIOBase):
    """The body of a request, in chunks."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Send all of `data`."""
        length = len(data)
        if length:
            self._connection.send(b"%x\r\n" % length)
            self._connection.send(data)
            self._connection.send(b"\r\n")
        return length


def _connected(path: str, check: Callable[[], None]) -> _Connection:
    """Return a connection, as soon as podman serves."""
    until = time.monotonic() + _PATIENCE
    while True:
        connection = _Connection(path)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            check()
            if time.monotonic() > until:
                raise EngineError(f"podman does not serve its API: {error}") from error
            time.sleep(_AGAIN)
        else:
            return connection


def _check_answer(connection: http.client.HTTPConnection) -> None:
    try:
        answer = connection.getresponse()
        text = answer.read(_MOST_ANSWER).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(f"podman broke off: {error}") from error
    if answer.status != http.client.OK:
        with contextlib.suppress(ValueError):
            text = str(json.loads(text)["message"])
        raise EngineError(f"podman cannot fill the container: {clipped(text)}")
