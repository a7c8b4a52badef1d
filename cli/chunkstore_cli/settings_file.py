"""The two settings files, `chunkstore.toml` in the current folder and the user's own.

Neighbours: `toml_edit` changes their text; `environment` weighs them against everything else.
"""

from __future__ import annotations

import difflib
import os
import secrets
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from chunkstore.errors import FilesystemError, InvalidInputError

LOCAL_NAME: Final = "chunkstore.toml"
REMOTES: Final = "remotes"
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file as it was read.

    Attributes:
        path: where it is, or would be.
        text: what it holds, "" where there is none.
        values: its settings, without the remotes.
        remotes: name and address of its remotes.
        private: nobody but the owner may read it.
    """

    path: str
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    remotes: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def edit(self, change: Callable[[str], str]) -> None:
        """Write what `change` makes of the text: the whole file or none of it.

        Raises:
            FilesystemError: it cannot be written.
        """
        path = os.path.realpath(self.path)  # a link to it stays a link
        if os.path.exists(path) and not os.path.isfile(path):  # such as /dev/null, to have none
            raise FilesystemError(
                f"cannot write {self.path}: it is no file", hint="set CHUNKSTORE_CONFIG to a file"
            )
        folder = os.path.dirname(path)
        text = change(self.text)
        temporary = os.path.join(folder, f".{os.path.basename(path)}-{secrets.token_hex(4)}")
        mode = 0o600 if self.private else 0o666
        try:
            os.makedirs(folder, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except OSError as error:
            raise FilesystemError(
                f"cannot write {self.path}: {error.strerror}",
                hint=f"look at the room and the permissions of {folder}",
            ) from error


def read_settings(path: str, *, known: frozenset[str], private: bool = False) -> SettingsFile:
    """Read a settings file; one that is not there has nothing in it.

    Raises:
        InvalidInputError: it is not TOML, or has a setting outside `known`.
        FilesystemError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
    except FileNotFoundError:
        return SettingsFile(path, private=private)
    except OSError as error:
        raise FilesystemError(
            f"cannot read {path}: {error.strerror}", hint="make it readable, or move it away"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8", hint="mend it by hand") from error
    if len(text) > _LONGEST:  # such as /dev/zero
        raise InvalidInputError(f"{path} is too long for settings", hint="mend it by hand")
    return parse_settings(text, path, known=known, private=private)


def parse_settings(
    text: str, path: str, *, known: frozenset[str], private: bool = False
) -> SettingsFile:
    """Return what the text of a settings file says; `path` names it in errors.

    Raises:
        InvalidInputError: it is not TOML, or has a setting outside `known`.
    """
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not TOML: {error}", hint="mend it by hand") from error
    remotes = _remotes(values.pop(REMOTES, {}), path)
    for name in values.keys() - known:
        near = difflib.get_close_matches(name, known, 1)
        raise InvalidInputError(
            f"{path} has an unknown setting {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}",
        )
    return SettingsFile(path, text, values, remotes, private)


def _remotes(table: Any, path: str) -> dict[str, str]:
    try:
        found = {name: remote["url"] for name, remote in table.items()}
        if all(isinstance(url, str) for url in found.values()):
            return found
    except (AttributeError, KeyError, TypeError):
        pass
    raise InvalidInputError(
        f'{path}: each remote is a table [{REMOTES}.NAME] with a line: url = "..."',
        hint="mend it by hand, or write it with 'chunkstore remote add'",
    )
