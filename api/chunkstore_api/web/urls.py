"""The URLs of the pages, relative to the one that is shown: a proxy may put a prefix before all.

Pure.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from chunkstore_api.names import url_part

VERSION: Final = "/datasets/{name:dataset}/versions/{version:version}"


class Urls:
    """URLs as they are written on the page at one path."""

    def __init__(self, raw_path: bytes) -> None:
        """`raw_path` is that of the page, as it was asked for."""
        self.root = "../" * (raw_path.count(b"/") - 1) or "./"

    def home(self, prefix: str = "", after: str = "") -> str:
        """Return the URL of the datasets."""
        return self.root + _query(prefix=prefix, after=after)

    def dataset(self, name: str, *, before: int | None = None) -> str:
        """Return the URL of a dataset."""
        return f"{self._dataset(name)}{_query(before=str(before or ''))}"

    def folder(self, name: str, version: int, path: str = "", *, begin: str = "") -> str:
        """Return the URL of a version, or of a folder of it, from a name on."""
        below = f"/folders/{url_part(path, slashes=True)}" if path else ""
        return f"{self._version(name, version)}{below}{_query(begin=begin)}"

    def file(self, name: str, version: int, path: str, *, shown: str = "") -> str:
        """Return the URL of the page of a file."""
        return f"{self._version(name, version)}/files/{_path(path)}{_query(shown=shown)}"

    def download(self, name: str, version: int, path: str) -> str:
        """Return the URL of a file's bytes."""
        return f"{self._version(name, version)}/download/{_path(path)}"

    def archive(self, name: str, version: int, kind: str, path: str = "") -> str:
        """Return the URL of a version or folder as one file."""
        return f"{self._version(name, version)}/archive.{kind}{_query(path=path)}"

    def differences(self, name: str, before: int, after: int, *, begin: str = "") -> str:
        """Return the URL of what differs between two versions, from a path on."""
        query = _query(before=str(before), after=str(after), begin=begin)
        return f"{self._dataset(name)}/differences{query}"

    def at(self, path: str) -> str:
        """Return the URL of any path of the server, its query included."""
        return self.root + path.lstrip("/")

    def _dataset(self, name: str) -> str:
        return f"{self.root}datasets/{url_part(name)}"

    def _version(self, name: str, version: int) -> str:
        return f"{self._dataset(name)}/versions/{version}"


def _path(path: str) -> str:
    return url_part(path, slashes=True)


def _query(**parameters: str) -> str:
    given = {name: value for name, value in parameters.items() if value}
    return f"?{urlencode(given)}" if given else ""
