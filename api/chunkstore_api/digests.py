"""Digest fields of RFC 9530: what a request promises of its bytes, checked as they come.

`Repr-Digest` and `Content-Digest` are of the bytes as sent, a content coding included;
`Unencoded-Digest` is of those without it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final, Protocol

from blake3 import blake3

from chunkstore.tar_reader import Readable
from chunkstore_api.problems import RequestError


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


_HASHERS: Final[dict[str, tuple[Callable[[], _Hasher], int]]] = {
    "sha-256": (hashlib.sha256, 32),
    "sha-512": (hashlib.sha512, 64),
    "blake3": (blake3, 32),
}
_MEMBER: Final = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):")


def parse_digests(field: str, value: str | None) -> dict[str, bytes]:
    """Return the digests of a field by algorithm; those of unknown algorithms are left out.

    Raises:
        RequestError: it is malformed, or a digest has the wrong length.
    """
    found: dict[str, bytes] = {}
    for member in (value or "").split(","):
        if not member.strip():
            continue
        match = _MEMBER.fullmatch(member.strip())
        try:
            digest = base64.b64decode(match[2], validate=True) if match else None
        except binascii.Error:
            digest = None
        if match is None or digest is None:
            raise _malformed(field, member)
        if match[1] in _HASHERS:
            if len(digest) != _HASHERS[match[1]][1]:
                raise _malformed(field, member)
            found[match[1]] = digest
    return found


def _malformed(field: str, member: str) -> RequestError:
    return RequestError(
        400,
        "invalid_input",
        f"{field} has {member.strip()!r}, which is no digest",
        hint="write sha-256=:BASE64:, sha-512 or blake3",
    )


class Checked:
    """A body that raises at its end where it does not have the digests that were promised."""

    def __init__(self, body: Readable, field: str, promised: dict[str, bytes]) -> None:
        self._body = body
        self._field = field
        self._promised = promised
        self._hashers = {name: _HASHERS[name][0]() for name in promised}

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            RequestError: the body is not the one that was promised.
        """
        data = self._body.read(size)
        for name, hasher in self._hashers.items():
            if data:
                hasher.update(data)
            elif not hmac.compare_digest(hasher.digest(), self._promised[name]):
                raise RequestError(
                    400,
                    "digest_mismatch",
                    f"the body does not have the {name} that {self._field} promises",
                    hint="nothing was stored as a version; send it again",
                )
        return data


class Measured(Checked):
    """The bytes that are to be stored: counted, bounded, hashed."""

    def __init__(self, body: Readable, field: str, promised: dict[str, bytes], bound: int) -> None:
        super().__init__(body, field, promised)
        self._bound = bound
        self._hash = blake3()
        self.size = 0

    @property
    def file_hash(self) -> bytes:
        """BLAKE3-256 of what was read so far."""
        return self._hash.digest()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            RequestError: more bytes than the server takes, or others than were promised.
        """
        data = super().read(size)
        self.size += len(data)
        if self.size > self._bound:
            raise too_large(self._bound)
        self._hash.update(data)
        return data


def too_large(bound: int) -> RequestError:
    """Return the error of a body that is longer than the server takes."""
    return RequestError(413, "too_large", f"the server takes at most {bound} bytes at once")
