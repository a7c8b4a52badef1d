"""Packs that a push stored and no index segment lists yet, noted for the next push of its dataset.

A push that is killed, or whose storage goes away, cannot list what it stored last. The next one to
that dataset from this machine finds it here and lists it. A file for each dataset, which belongs to
one push at a time, by a lock: what a push at work stored it lists itself. A note is sealed, and
still only a hint: `chunk_writer` asks the storage. May be deleted at any time. Section 3.5 of
docs/design/consistency.md.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import Final

from blake3 import blake3

from chunkstore.errors import CorruptObjectError
from chunkstore.format.index import IndexedPack
from chunkstore.format.pack import decode_directory
from chunkstore.ids import PackId
from chunkstore.limits import MIB

log = logging.getLogger(__name__)

_HEAD: Final = struct.Struct("<I32s")  # length and hash of what follows: a pack's id, length, tail
_PACK: Final = struct.Struct("<32sIQ")  # id and length, and the generation that the push knew

_LONGEST: Final = 64 * MIB
"""Bytes of notes that are read: a push has at most a tenth of that."""


class Unlisted:
    """The notes of one dataset, in the file `path`; None keeps none. Thread-safe; `close` it.

    Where another push has them, or the file cannot be used, none are kept: that costs sending what
    it would have told of again.
    """

    def __init__(self, path: str | None, generation: int = 0) -> None:
        """Take the notes that an earlier push left, if there are any.

        Only those of the same generation, which is that of W0: what was noted before a collection
        began may have been condemned by it.
        """
        self._path = path
        self._generation = generation
        self._lock = threading.Lock()
        self._file: int | None = None
        self._notes: dict[PackId, bytes] = {}
        self.left: tuple[IndexedPack, ...] = ()
        """Packs that an earlier push noted, in the order in which it stored them."""
        if path is not None and os.path.exists(path):
            self._open()

    def note(self, pack: IndexedPack, tail: bytes) -> None:
        """Note a pack that was stored just now; `tail` is its directory and trailer."""
        with self._lock:
            if self._file is None:
                self._open()
            if self._file is None:
                return
            body = _PACK.pack(pack.pack_id, pack.length, self._generation) + tail
            note = _HEAD.pack(len(body), blake3(body).digest()) + body
            self._notes[pack.pack_id] = note
            self._write(note)

    def forget(self, packs: Iterable[IndexedPack]) -> None:
        """Forget packs that a segment lists by now, or that are of no use."""
        with self._lock:
            forgotten = [self._notes.pop(pack.pack_id, None) for pack in packs]
            if self._file is None or not any(forgotten):
                return
            try:
                os.ftruncate(self._file, 0)
            except OSError as error:
                self._give_up(error)
            else:
                self._write(b"".join(self._notes.values()))

    def close(self) -> None:
        """Leave what is noted to the next push; call it twice if you like."""
        with self._lock:
            if self._file is None:
                return
            assert self._path is not None
            try:
                if not self._notes:
                    os.unlink(self._path)
            except OSError as error:
                log.warning("cannot remove %s: %s", self._path, error)
            self._close()

    def _open(self) -> None:
        """Open and lock the file, and read what is in it."""
        if self._path is None:
            return
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._file = file
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(file, "rb", closefd=False) as stored:
                found = list(_notes_in(stored.read(_LONGEST), self._generation))
        except BlockingIOError:
            self._close()  # another push to the dataset
        except OSError as error:
            self._give_up(error)
        else:
            self._notes = {pack.pack_id: note for pack, note in found}
            self.left = tuple(pack for pack, _ in found)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning(
            "cannot note in %s which packs were stored: %s", self._path, error.strerror or error
        )
        self._close()

    def _close(self) -> None:
        """Close the file and open it no more."""
        self._path = None
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _notes_in(data: bytes, generation: int) -> Iterator[tuple[IndexedPack, bytes]]:
    """Yield packs of a generation with their notes, up to the first that is not whole."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, seal = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        body = data[at + _HEAD.size : end]
        if blake3(body).digest() != seal or length <= _PACK.size:
            return
        identifier, stored, noted = _PACK.unpack_from(body)
        tail = body[_PACK.size :]
        offset = stored - len(tail)
        try:
            directory = decode_directory(tail, offset, identifier.hex())
        except CorruptObjectError as error:
            log.warning("a note of a pack is not used: %s", error)
            return
        if noted == generation:
            yield IndexedPack(PackId(identifier), stored, offset, directory), data[at:end]
        at = end
