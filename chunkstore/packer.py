"""New chunks in, packs on the backend out: frames are compressed, checked, laid down, uploaded.

One Packer serves one class of chunks in one push. Its methods are called by one thread; frames
are compressed and packs uploaded by the pools of the push. Implements the write side of
section 5, "Pack", of docs/design/format.md. Neighbours: `chunk_writer` above, `objects` below.
"""

from __future__ import annotations

import contextlib
import mmap
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from chunkstore.format.config import Config
from chunkstore.format.index import IndexedPack
from chunkstore.format.manifest import PackHint
from chunkstore.format.pack import (
    TRAILER_LENGTH,
    Frame,
    PackClass,
    decode_directory,
    encode_directory,
    new_header,
)
from chunkstore.frames import FrameRooms, FrameWriter, RawFrame
from chunkstore.ids import ChunkId, ChunkKind, PackId, content_hash
from chunkstore.limits import MAX_FRAME_SIZE, MAX_PACK_CHUNKS, MAX_PACK_LENGTH, MIB
from chunkstore.objects import Objects
from chunkstore.profile import OFF, Clock

FRAME_CHUNKS: Final = MAX_PACK_CHUNKS // 16  # files of a few bytes must not fill a directory
_PACK_CHUNKS: Final = MAX_PACK_CHUNKS // 4
"""A pack of many small files ends with so many, long before it has the bytes that it aims at. The
chunks of packs that are under way are in nobody's index yet and take 0.4 KB of memory each."""

_LONGEST_TAIL: Final = MAX_PACK_CHUNKS * 50 + TRAILER_LENGTH
_METADATA_PACK: Final = 8 * MIB
"""Packs of metadata aim at no more: their bodies are held beside those of data, and fill slowly.
With 32 MiB a push of a million files came to 324 MB of memory, 60 of them for this."""


class Packer:
    """Turns chunks into packs.

    Each chunk gets the *ticket* of its frame; when all is stored, `pack_of` says in which pack the
    frame lies. Which pack that will be is not known earlier, since frames are compressed side by
    side and a pack ends when its stored bytes reach the target.
    """

    def __init__(
        self,
        objects: Objects,
        config: Config,
        pack_class: PackClass,
        *,
        rooms: FrameRooms,
        level: int,
        compressors: Executor,
        uploaders: Executor,
        frames_ahead: int,
        packs_ahead: int,
        on_sent: Callable[[IndexedPack, bytes], None],
        clock: Clock = OFF,
    ) -> None:
        """Keep at most `frames_ahead` frames and `packs_ahead` packs at work.

        A thread of the uploaders calls `on_sent` with each pack that is durable, and its tail.
        """
        self._clock = clock
        self._config = config
        self._class = pack_class
        metadata = pack_class == PackClass.METADATA
        self._target = min(config.pack_length, _METADATA_PACK) if metadata else config.pack_length
        self._rooms = rooms
        self._compressors = compressors
        self._store = clock.timed("frame", FrameWriter(level, clock).store)
        self._uploaders = uploaders
        self._frames_ahead = frames_ahead
        self._packs_ahead = packs_ahead
        self._on_sent = on_sent
        self._send = clock.timed("seal", self._upload)
        put, size = objects.put_pack, lambda _, _pack, data: sum(map(len, data))
        self._put = clock.timed("upload", put, size)
        self._open: RawFrame | None = None
        self._compressing: deque[tuple[RawFrame, Future[tuple[Frame, bytes | memoryview]]]]
        self._compressing = deque()
        self._frames: list[Frame] = []
        self._body: mmap.mmap | None = None
        self._spare_bodies: list[mmap.mmap] = []
        self._chunks = 0
        self._laid = 0  # frames that are in a pack, open or ended
        self._ticket = 0
        self._uploading: deque[tuple[Future[IndexedPack], range, mmap.mmap]] = deque()
        self._durable: list[tuple[IndexedPack, range]] = []
        self._packs: list[tuple[range, PackHint]] = []
        self.stored_bytes = 0
        self.stored_by: dict[str, float] = {}
        """Stored bytes of frames for each label: of each frame its part of the raw bytes."""

    def add(
        self, kind: ChunkKind, identifier: ChunkId, data: bytes | memoryview, label: str = ""
    ) -> int:
        """Take a copy of a new chunk; return the ticket of its frame.

        `label` is what its stored bytes are counted for, in `stored_by`.
        """
        frame = self._open = self._open or self._rooms.take()
        ticket = self._ticket
        frame.add(kind, identifier, data, label)
        if frame.size >= self._config.frame_size or len(frame.ids) >= FRAME_CHUNKS:
            self._close_frame(frame)
        return ticket

    @property
    def empty(self) -> bool:
        """Whether nothing was sent or is on its way, so that the push can still be called off."""
        return not self._packs and not self._uploading

    @property
    def compressing(self) -> int:
        """How many frames are at work or wait for it."""
        return sum(not future.done() for _, future in self._compressing)

    def take_durable(self) -> list[tuple[IndexedPack, range]]:
        """Return packs that became durable since the last call, each with its frames' tickets.

        Raises what their upload raised.
        """
        while self._uploading and self._uploading[0][0].done():
            self._settle_upload()
        durable, self._durable = self._durable, []
        return durable

    def close(self) -> None:
        """Begin to upload what is open."""
        if self._open:
            self._close_frame(self._open)
        while self._compressing:
            self._lay_frame()
        self._close_pack()

    def finish(self) -> list[tuple[IndexedPack, range]]:
        """Upload what is open, wait for all uploads and return as `take_durable`."""
        self.close()
        while self._uploading:
            self._settle_upload()
        self._spare_bodies.clear()
        return self.take_durable()

    def rescue(self) -> list[tuple[IndexedPack, range]]:
        """Wait for the uploads that are under way and return what is durable, whatever failed."""
        while self._uploading:
            self._uploading[0][0].cancel()
            with contextlib.suppress(Exception):  # the first failure is the one to tell
                self._settle_upload()
        durable, self._durable = self._durable, []
        return durable

    def pack_of(self, ticket: int) -> PackHint:
        """Return the pack that holds the frame with that ticket; call it after `finish`."""
        low, high = 0, len(self._packs)
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._packs[middle][0].start <= ticket else (low, middle)
        return self._packs[low][1]

    def _close_frame(self, frame: RawFrame) -> None:
        self._open = None
        self._ticket += 1
        self._compressing.append((frame, self._compressors.submit(self._store, frame)))
        while len(self._compressing) > self._frames_ahead or (
            self._compressing and self._compressing[0][1].done()
        ):
            self._lay_frame()

    def _lay_frame(self) -> None:
        raw, future = self._compressing.popleft()
        frame, data = self._clock.wait(future)
        for label, size in raw.shares.items():
            share = len(data) * size / raw.size
            self.stored_by[label] = self.stored_by.get(label, 0) + share
        chunks = self._chunks + len(frame.ids)
        length = (self._body.tell() if self._body else 0) + len(data)
        if self._frames and (chunks > MAX_PACK_CHUNKS or length + _LONGEST_TAIL > MAX_PACK_LENGTH):
            self._close_pack()
        body = self._body = self._body or self._take_body()
        body.write(data)
        self._rooms.free(raw)
        self._frames.append(frame)
        self._chunks += len(frame.ids)
        self._laid += 1
        if body.tell() >= self._target or self._chunks >= _PACK_CHUNKS:
            self._close_pack()

    def _take_body(self) -> mmap.mmap:
        """Return room for the frames of a pack, that of an uploaded one where there is any.

        Of new room only what is written to takes memory. Against a bytearray a pack, which is
        moved as it grows, it saves 17 ms of CPU a pack of 32 MiB, and memory: against a list of
        frames, whose odd sizes leave gaps in malloc's arenas, 100 MB at the peak of 1.7 GB.
        """
        if self._spare_bodies:
            body = self._spare_bodies.pop()
            body.seek(0)
            return body
        return mmap.mmap(-1, min(MAX_PACK_LENGTH, self._target + MAX_FRAME_SIZE))

    def _close_pack(self) -> None:
        if not self._frames or self._body is None:
            return
        while len(self._uploading) >= self._packs_ahead:
            self._settle_upload()
        tickets = range(self._laid - len(self._frames), self._laid)
        upload = self._uploaders.submit(self._send, self._frames, self._body)
        self._uploading.append((upload, tickets, self._body))
        self._frames, self._body, self._chunks = [], None, 0

    def _settle_upload(self) -> None:
        upload, tickets, body = self._uploading.popleft()
        pack = self._clock.wait(upload)
        self._spare_bodies.append(body)
        self._durable.append((pack, tickets))
        self._packs.append((tickets, PackHint(pack.pack_id, pack.length, pack.directory_offset)))
        self.stored_bytes += pack.length

    def _upload(self, frames: list[Frame], body: mmap.mmap) -> IndexedPack:
        tail = encode_directory(frames)
        data: list[bytes | memoryview] = [new_header(self._class), memoryview(body)[: body.tell()]]
        data.append(tail)
        length = sum(len(buffer) for buffer in data)
        pack = PackId(content_hash(data))
        self._put(pack, data)
        offset = length - len(tail)
        durable = IndexedPack(pack, length, offset, decode_directory(tail, offset, pack.hex()))
        self._on_sent(durable, tail)
        return durable
