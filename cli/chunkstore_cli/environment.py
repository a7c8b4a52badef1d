"""What the process was given: options, variables, settings files, and their order.

An option goes before a variable, a variable before `./chunkstore.toml`, that before the user's
settings file. What an address says of its own server goes before all but an option: the
other places fill in what it leaves out. The library gets plain values and reads none of this.
"""

from __future__ import annotations

import difflib
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chunkstore.errors import InvalidInputError, NotFoundError
from chunkstore_cli.settings_file import LOCAL_NAME, SettingsFile, read_settings

if TYPE_CHECKING:
    from chunkstore.backends.location import HttpOptions, S3Options

_REMOTE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_HTTP: Final = ("http://", "https://")
_PARAMETERS: Final = {
    "s3://": ("endpoint", "region", "style", "ca"),
    "http://": ("token_file",),
    "https://": ("ca", "token_file"),
}
"""What an address may say of its server, by how it begins."""

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text is needed")  # noqa: TRY004  # every parser says it the same way
    return value


def _folder(value: Any) -> str:
    return os.path.expanduser(_text(value))


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in _TRUE:
        return True
    if str(value).lower() in _FALSE:
        return False
    raise ValueError("true or false is needed")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError("a number of seconds is needed")
    return seconds


def _bytes(value: Any) -> int:
    if not isinstance(value, bool) and str(value).isascii() and str(value).isdigit():
        return int(value)
    raise ValueError("a number of bytes is needed")


def _style(value: Any) -> str:
    if value not in ("path", "virtual"):
        raise ValueError("'path' or 'virtual' is needed")
    return str(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: the variables that may hold it, the first goes first, and what it must be."""

    variables: tuple[str, ...]
    parse: Callable[[Any], Any] = _text


SETTINGS: Final = {
    "store": Setting(("CHUNKSTORE_STORE",)),
    "endpoint": Setting(("CHUNKSTORE_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")),
    "region": Setting(("CHUNKSTORE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")),
    "ca_file": Setting(("CHUNKSTORE_CA_FILE", "AWS_CA_BUNDLE"), _folder),
    "style": Setting(("CHUNKSTORE_STYLE",), _style),
    "anonymous": Setting(("CHUNKSTORE_ANONYMOUS",), _switch),
    "cache": Setting(("CHUNKSTORE_CACHE",), _folder),
    "deadline": Setting(("CHUNKSTORE_DEADLINE",), _seconds),
    "index_budget": Setting(("CHUNKSTORE_INDEX_BUDGET",), _bytes),
    "token_file": Setting(("CHUNKSTORE_TOKEN_FILE",), _folder),
    "tokens": Setting(("CHUNKSTORE_TOKENS",), _folder),
    "engine": Setting(("CHUNKSTORE_ENGINE",)),
}
"""Every setting, by its name in a settings file."""

CONFIG_VARIABLE: Final = "CHUNKSTORE_CONFIG"
TOKEN_VARIABLE: Final = "CHUNKSTORE_TOKEN"  # noqa: S105  # the name of one
"""Holds a token itself, so that no settings file may."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A named store, and the file that names it."""

    name: str
    url: str
    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """The value of a setting and where it was found."""

    value: Any
    origin: str


class Environment:
    """Variables and settings files, read once."""

    def __init__(
        self, variables: Mapping[str, str], local: SettingsFile, user: SettingsFile
    ) -> None:
        self.variables = variables
        self.local = local
        self.user = user

    @classmethod
    def of(cls, variables: Mapping[str, str], folder: str = ".") -> Environment:
        """Read the settings files that hold for `variables` and the current `folder`.

        Raises:
            InvalidInputError, FilesystemError: a settings file is bad or cannot be read.
        """
        known = frozenset(SETTINGS)
        path = variables.get(CONFIG_VARIABLE) or _user_path()
        return cls(
            variables,
            read_settings(os.path.join(folder, LOCAL_NAME), known=known),
            read_settings(path, known=known, private=True),
        )

    def find(self, name: str) -> Found | None:
        """Return a setting from the first place that has it.

        Raises:
            InvalidInputError: its value is none.
        """
        for value, origin in self._places(name):
            try:
                return Found(SETTINGS[name].parse(value), origin)
            except (TypeError, ValueError) as error:
                raise InvalidInputError(f"{origin}: {name} is {value!r}, but {error}") from error
        return None

    def _places(self, name: str) -> list[tuple[Any, str]]:
        places: list[tuple[Any, str]] = [
            (self.variables[variable], variable)
            for variable in SETTINGS[name].variables
            if self.variables.get(variable)
        ]
        places += [
            (file.values[name], file.path)
            for file in (self.local, self.user)
            if name in file.values
        ]
        return places

    def _value(self, name: str) -> Any:
        found = self.find(name)
        return found.value if found else None

    # stores

    @property
    def remotes(self) -> dict[str, Remote]:
        """All remotes by name; those of the current folder go before the user's."""
        return {
            name: Remote(name, url, file.path)
            for file in (self.user, self.local)
            for name, url in sorted(file.remotes.items())
        }

    def store(self, option: str | None) -> Found:
        """Return the address of the store that is meant.

        Raises:
            InvalidInputError: none is.
            NotFoundError: it is a name that no remote has.
        """
        found = Found(option, "--store") if option else self.find("store")
        if found is None:
            raise InvalidInputError(
                "no store is named",
                hint="give --store ./folder, --store s3://bucket/prefix or --store https://host, "
                "set CHUNKSTORE_STORE, or keep one: chunkstore remote add NAME URL --default",
            )
        return Found(self.address(found.value), found.origin)

    def address(self, text: str) -> str:
        """Return the address that `text`, itself an address or the name of a remote, stands for.

        Raises:
            NotFoundError: it is a name that no remote has.
        """
        if is_address(text):
            return text if "://" in text else os.path.expanduser(text)
        remotes = self.remotes
        if text in remotes:
            return self._of_file(remotes[text])
        near = difflib.get_close_matches(text, remotes, 1)
        known = (
            f"did you mean {near[0]!r}?" if near else f"remotes: {', '.join(remotes) or 'none'};"
        )
        raise NotFoundError(
            f"no remote is called {text!r}", hint=f"{known} for a folder write ./{text}"
        )

    def _of_file(self, remote: Remote) -> str:
        """Return a remote's address; a relative folder is meant from the file's own folder."""
        if "://" in remote.url:
            return remote.url
        path = os.path.expanduser(remote.url)
        folder = os.path.dirname(remote.path)
        return path if folder in ("", ".") else os.path.join(folder, path)

    # what the library is given

    def s3_options(self, url: str) -> S3Options | None:
        """Return the settings that an address leaves open, credentials among them.

        Raises:
            InvalidInputError: one of them is bad.
        """
        if not url.startswith("s3://"):
            return None
        from chunkstore.backends.credentials import find_credentials
        from chunkstore.backends.location import S3Options

        anonymous = bool(self._value("anonymous"))
        home = os.path.expanduser("~")
        return S3Options(
            endpoint=self._value("endpoint"),
            region=self._value("region"),
            style=self._value("style"),
            ca_file=self._value("ca_file"),
            anonymous=anonymous,
            credentials=None if anonymous else find_credentials(self.variables, home),
        )

    def http_options(self, url: str) -> HttpOptions | None:
        """Return the settings that the address of a server leaves open, the token among them.

        Raises:
            InvalidInputError: one of them is bad.
        """
        if not url.startswith(_HTTP):
            return None
        from chunkstore.backends.location import HttpOptions

        return HttpOptions(
            token=self.variables.get(TOKEN_VARIABLE) or None,
            token_file=self._value("token_file"),
            ca_file=self._value("ca_file"),
        )

    def store_arguments(self, url: str) -> dict[str, Any]:
        """Return the keyword arguments of `Store.open` and `Store.create` for an address."""
        arguments = {
            "s3": self.s3_options(url),
            "http": self.http_options(url),
            "cache_folder": self._value("cache"),
            "deadline": self._value("deadline"),
            "index_budget": self._value("index_budget"),
        }
        return {name: value for name, value in arguments.items() if value is not None}


def is_address(text: str) -> bool:
    """Whether `text` is a store's address; else it is the name of a remote."""
    return "/" in text or text in (".", "..", "~")


_HOST: Final = re.compile(r"//(\[[^\]]*\]|[^/:]*)$")


def split_place(text: str) -> tuple[str, str]:
    """Return (store, data) of `STORE:NAME[@VERSION]`; each may be "", and so may the colon.

    Without a colon it is a store where it looks like one, else data. A last part of a URL that is
    a number is its port.
    """
    store, colon, data = text.rpartition(":")
    of_url = data.startswith("//") or (data.partition("/")[0].isdecimal() and _HOST.search(store))
    if colon and not of_url:
        return store, data
    return (text, "") if is_address(text) else ("", text)


def check_remote_name(name: str) -> str:
    """Return `name` if a remote may be called so.

    Raises:
        InvalidInputError: it may not.
    """
    if not _REMOTE_NAME.fullmatch(name):
        raise InvalidInputError(
            f"not a remote's name: {name!r}",
            hint="use lower-case letters, digits, '_' and '-', beginning with a letter or digit",
        )
    return name


def with_parameters(url: str, **parameters: str | None) -> str:
    """Return an address with these parameters in place of its own; None changes nothing.

    Raises:
        InvalidInputError: addresses of its kind have no such parameters.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if not given:
        return url
    allowed = next((names for start, names in _PARAMETERS.items() if url.startswith(start)), ())
    wrong = [name for name in given if name not in allowed]
    if wrong:
        kind = "a chunkstore server" if "token_file" in wrong else "an S3 server"
        raise InvalidInputError(
            f"{url!r} is not on {kind}, so it has no {' or '.join(wrong)}",
            hint="addresses of an S3 server look like s3://bucket/prefix, those of a chunkstore "
            "server like https://host",
        )
    parsed = urllib.parse.urlsplit(url)
    query = {**dict(urllib.parse.parse_qsl(parsed.query)), **given}
    return urllib.parse.urlunsplit(parsed._replace(query=urllib.parse.urlencode(query, safe=":/")))


def _user_path() -> str:
    import platformdirs

    return os.path.join(platformdirs.user_config_dir("chunkstore"), "config.toml")
