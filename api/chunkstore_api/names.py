"""Names in headers and URLs: dataset names, media types, names of files that are saved. Pure."""

from __future__ import annotations

import mimetypes
import re
from typing import Final
from urllib.parse import quote

from starlette.convertors import Convertor, PathConvertor, register_url_convertor

_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\%;/]')
_TYPES: Final = mimetypes.MimeTypes()  # those of Python, not of the machine: the same everywhere
_MORE_TYPES: Final = {
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
_BINARY: Final = "application/octet-stream"


class _DatasetConvertor(Convertor[str]):
    """A dataset's name in a URL: as short as possible, since it may have slashes.

    A slash may be written as `~` too, and must be where the name has a part such as `versions`.
    """

    regex = "[a-z0-9][a-z0-9._/~-]*?"

    def convert(self, value: str) -> str:
        """Return the name."""
        return value.replace("~", "/")

    def to_string(self, value: str) -> str:
        """Return the part of a URL."""
        return value.replace("/", "~")


class _VersionConvertor(Convertor[str]):
    """A version in a URL; a slash of a tag is written as `~`, which begins `~N` only."""

    regex = "[0-9a-z~][0-9a-z._~-]*"

    def convert(self, value: str) -> str:
        """Return the version."""
        return value[0] + value[1:].replace("~", "/")

    def to_string(self, value: str) -> str:
        """Return the part of a URL."""
        return value.replace("/", "~")


class _FileConvertor(PathConvertor):
    """A file's path in a URL, whole: `.*$` would drop a line feed at its end."""

    regex = r"[\s\S]*"


def register() -> None:
    """Make `{name:dataset}`, `{version:version}` and `{path:file}` known to routes."""
    register_url_convertor("dataset", _DatasetConvertor())
    register_url_convertor("version", _VersionConvertor())
    register_url_convertor("file", _FileConvertor())


def url_part(text: str, *, slashes: bool = False) -> str:
    """Return a name as a part of a URL, or with `slashes` a path as several."""
    return quote(text, safe="/") if slashes else quote(text.replace("/", "~"), safe="~")


def media_type(path: str) -> str:
    """Return the media type that a file's name suggests; a compressed one is its own type.

    Text has no charset: nobody has looked which it is.
    """
    suffix = path[path.rfind(".") :].lower() if "." in path.rsplit("/", 1)[-1] else ""
    if suffix in _MORE_TYPES:
        return _MORE_TYPES[suffix]
    kind, coding = _TYPES.guess_type(f"file{suffix}", strict=True)
    if coding is not None:
        return "application/gzip" if coding == "gzip" else _BINARY
    return kind or _BINARY


def content_disposition(path: str) -> str:
    """Return a Content-Disposition that saves a file under its own name, whatever that is.

    Old clients read the first name, which is harmless ASCII; others the second (RFC 6266).
    """
    name = path.rsplit("/", 1)[-1] or "file"
    plain = _UNSAFE.sub("_", name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"
