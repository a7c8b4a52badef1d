"""Sizes, times, counts and names as people read them. Pure."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TRICKY: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ENDS: Final = re.compile(r"[\t\n]")


def visible(text: str) -> str:
    """Return text with control characters, changes of direction and surrogates as escapes.

    Line feeds and tabs stay: what is more than a line is shown as such.
    """
    return _TRICKY.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return `visible` text in which line feeds and tabs are spaces."""
    return _ENDS.sub(" ", visible(text))


def size_text(size: int) -> str:
    """Return a size in bytes: "17 B", "1.5 KiB", "3.1 GiB"."""
    unit = 0
    while abs(size) >= 1023.95 * 1024**unit and unit + 1 < len(_UNITS):
        unit += 1
    return f"{size / 1024**unit:,.1f} {_UNITS[unit]}" if unit else f"{size} B"


def change_text(size: int) -> str:
    """Return a size with its sign, a minus as wide as a plus: "+1.5 KiB"."""
    sign = "+" if size > 0 else "\N{MINUS SIGN}" if size < 0 else "\N{PLUS-MINUS SIGN}"
    return f"{sign}{size_text(abs(size))}"


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun: "1 file", "12,345 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def time_text(nanoseconds: int) -> str:
    """Return a time, UTC, to the second."""
    return _utc(nanoseconds).strftime("%Y-%m-%d %H:%M:%S")


def time_attribute(nanoseconds: int) -> str:
    """Return a time as the attribute `datetime` has it."""
    return _utc(nanoseconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC)


def quoted(text: str) -> str:
    """Return text as a word of a shell, what cannot be seen as an escape that bash and zsh undo."""
    if visible(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{visible(escaped)}'"


def pull_command(server: str, dataset: str, version: int | None = None, path: str = "") -> str:
    """Return the command that brings data of a server into a folder of one's own."""
    address = dataset + (f"@{version}" if version else "") + (f":{path}" if path else "")
    target = f"./{(path or dataset).rpartition('/')[2]}"
    return f"chunkstore pull {quoted(address)} {quoted(target)} --store {quoted(server)}"


def curl_command(url: str, *, token: bool) -> str:
    """Return the command that fetches a file over HTTP."""
    header = ' --header "Authorization: Bearer $CHUNKSTORE_TOKEN"' if token else ""
    return f"curl --fail --remote-name --remote-header-name{header} {quoted(url)}"
