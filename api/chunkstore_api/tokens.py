"""Who may do what: tokens, the datasets that they reach, and the file that keeps them.

A token is `cs_<id>_<secret>`, the secret 256 random bits in hex. The file has its SHA-256 only, and
the key that signs links. It is read anew whenever it is asked, so that every process that has it
knows a revocation at once; it is replaced as a whole, under a lock on its folder.

Imports nothing of a web framework, so that the command line may use it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from chunkstore import patterns
from chunkstore.errors import (
    AlreadyExistsError,
    FilesystemError,
    InvalidInputError,
    NotFoundError,
    RefusedError,
)

FORMAT: Final = 1
LONGEST_FILE: Final = 4 << 20
"""Bytes of a tokens file; some 10,000 tokens."""

_TOKEN: Final = re.compile(r"cs_([0-9a-f]{12})_([0-9a-f]{64})")
_PATTERN: Final = re.compile(r"[a-z0-9._/*-]{1,201}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,99}")
_OTHERS: Final = 0o007
_NO_TOKEN: Final = "0" * 64


class Right(enum.Enum):
    """What a request needs, and the most that a token gives; each has those before it in it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: Right) -> bool:
        """Whether who has this right has the other too."""
        ranks = list(Right)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token, without its secret. Times in seconds since 1970.

    Attributes:
        id: 12 hex digits, which are no secret.
        name: whose it is, unique in a file.
        sha256: of the secret, in hex.
        right: the most that it allows.
        datasets: patterns of names; `*` stands for any characters, slashes too.
        created: when it was made.
        expires: when it ends; None for never.
    """

    id: str
    name: str
    sha256: str
    right: Right
    datasets: tuple[str, ...]
    created: int
    expires: int | None = None

    @property
    def everywhere(self) -> bool:
        """Whether it reaches every dataset that there can be."""
        return any(not pattern.strip("*") for pattern in self.datasets)

    def reaches(self, dataset: str) -> bool:
        """Whether one of its patterns stands for a dataset."""
        return any(patterns.matches(pattern, dataset) for pattern in self.datasets)

    def lives(self, now: float) -> bool:
        """Whether it has not ended at a time."""
        return self.expires is None or now < self.expires


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a tokens file holds.

    Attributes:
        link_key: signs links; 32 bytes.
        by_id: the tokens.
    """

    link_key: bytes
    by_id: dict[str, Token]

    def find(self, text: str, now: float) -> Token | None:
        """Return the token that a text is; None where it is none, or has ended.

        Compares in constant time, and does the same work where there is no such id.
        """
        parts = _TOKEN.fullmatch(text)
        if parts is None:
            return None
        token = self.by_id.get(parts[1])
        digest = hashlib.sha256(parts[2].encode()).hexdigest()
        right = hmac.compare_digest(digest, token.sha256 if token else _NO_TOKEN)
        return token if token and right and token.lives(now) else None


class TokensFile:
    """The file that keeps tokens; only its owner, and perhaps its group, may read it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._last: tuple[bytes, Tokens] | None = None  # one value: threads see both or neither

    def read(self) -> Tokens:
        """Return what the file holds now.

        Raises:
            NotFoundError: there is none.
            FilesystemError: it cannot be read.
            RefusedError: everybody may read it.
            InvalidInputError: it is not a tokens file.
        """
        try:
            with open(self.path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(LONGEST_FILE + 1)
        except FileNotFoundError:
            raise NotFoundError(
                f"no tokens file {self.path}", hint=f"make a token: {self._command('create NAME')}"
            ) from None
        except OSError as error:
            raise FilesystemError(f"cannot read {self.path}: {error.strerror}") from error
        if mode & _OTHERS:
            raise RefusedError(
                f"everybody on this machine may read {self.path}",
                hint=f"chmod 600 {shlex.quote(self.path)}",
            )
        last = self._last
        if last is None or last[0] != data:
            last = self._last = (data, decode_tokens(data, self.path))
        return last[1]

    def create(
        self, name: str, right: Right, datasets: Sequence[str], *, expires: int | None = None
    ) -> tuple[Token, str]:
        """Make a token; return it, and the text that is shown once. Makes the file where none is.

        Raises:
            InvalidInputError: a name or pattern that can be none, or an end that is past.
            AlreadyExistsError: a token has the name.
            as `read`, and FilesystemError where the file cannot be written.
        """
        now = int(time.time())
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                f"a token cannot be called {name!r}",
                hint="letters, digits and . _ @ / -, beginning with a letter or digit",
            )
        for pattern in datasets:
            if not _PATTERN.fullmatch(pattern):
                raise InvalidInputError(
                    f"{pattern!r} is no pattern of datasets",
                    hint="a name of a dataset, where * stands for any characters: 'team/*'",
                )
        if not datasets:
            raise InvalidInputError("a token needs a dataset", hint="'*' is all of them")
        if expires is not None and expires <= now:
            raise InvalidInputError("a token cannot end before it is made")
        secret = secrets.token_hex(32)
        with self._locked() as folder:
            tokens = self._read_or_new()
            if any(token.name == name for token in tokens.by_id.values()):
                raise AlreadyExistsError(
                    f"there is already a token {name!r}",
                    hint=f"choose another name, or: {self._command(f'revoke {name}')}",
                )
            token = Token(
                id=secrets.token_hex(6),
                name=name,
                sha256=hashlib.sha256(secret.encode()).hexdigest(),
                right=right,
                datasets=tuple(datasets),
                created=now,
                expires=expires,
            )
            self._write(replace(tokens, by_id={**tokens.by_id, token.id: token}), folder)
        return token, f"cs_{token.id}_{secret}"

    def revoke(self, which: str) -> Token:
        """Take away the token of an id or name; return what it was.

        Raises:
            NotFoundError: there is none.
            as `read`, and FilesystemError where the file cannot be written.
        """
        with self._locked() as folder:
            tokens = self.read()
            for token in tokens.by_id.values():
                if which in (token.id, token.name):
                    rest = {key: each for key, each in tokens.by_id.items() if each is not token}
                    self._write(replace(tokens, by_id=rest), folder)
                    return token
        raise NotFoundError(
            f"{self.path} has no token of that id or name",
            hint=f"list them: {self._command('list')}",
        )

    def _command(self, words: str) -> str:
        return f"chunkstore token {words} --tokens {shlex.quote(self.path)}"

    def _read_or_new(self) -> Tokens:
        if os.path.lexists(self.path):
            return self.read()
        return Tokens(secrets.token_bytes(32), {})

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Give the descriptor of the folder, under whose lock the file is read and replaced."""
        folder = os.path.dirname(os.path.realpath(self.path))
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FilesystemError(f"cannot open {folder}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)

    def _write(self, tokens: Tokens, folder: int) -> None:
        """Replace the file, whole or not at all; its mode and owner stay as far as may be."""
        path = os.path.realpath(self.path)
        temporary = f"{path}.{secrets.token_hex(4)}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(handle, "wb") as file:
                    file.write(_encode(tokens))
                    file.flush()
                    _keep_access(path, file.fileno())
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            os.fsync(folder)  # else a crash might bring back what was revoked
        except OSError as error:
            raise FilesystemError(f"cannot write {self.path}: {error.strerror}") from error


def _keep_access(path: str, handle: int) -> None:
    try:
        before = os.stat(path)
    except FileNotFoundError:
        return
    with contextlib.suppress(PermissionError):  # another's file: the new one is ours
        os.fchown(handle, before.st_uid, before.st_gid)
    os.fchmod(handle, before.st_mode & 0o770)


def _encode(tokens: Tokens) -> bytes:
    document = {
        "format": FORMAT,
        "link_key": tokens.link_key.hex(),
        "tokens": [{**asdict(each), "right": each.right.value} for each in tokens.by_id.values()],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def decode_tokens(data: bytes, path: str) -> Tokens:
    """Return what a tokens file holds; `path` names it in errors.

    Raises:
        InvalidInputError: it is not a tokens file.
    """
    try:
        if len(data) > LONGEST_FILE:
            raise ValueError("too long")
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError("of another format")
        key = bytes.fromhex(document["link_key"])
        if len(key) != 32:
            raise ValueError("no key of links")
        tokens = [_token(each) for each in document["tokens"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not a tokens file of this version") from error
    return Tokens(key, {token.id: token for token in tokens})


def _token(document: dict[str, Any]) -> Token:
    token = Token(
        **{
            **document,
            "right": Right(document["right"]),
            "datasets": tuple(document["datasets"]),
        }
    )
    texts = (token.id, token.name, token.sha256, *token.datasets)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is none")
    if not isinstance(token.expires, int | None) or not isinstance(token.created, int):
        raise TypeError("a time is none")
    return token
