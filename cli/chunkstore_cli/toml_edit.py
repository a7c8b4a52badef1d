"""Small changes to a TOML text that leave everything else, comments included, as it is.

Knows single keys at the top and tables with single-line values, which is what chunkstore writes.
A text that is laid out otherwise may defeat the edit, so the outcome is parsed and compared: it
is right, or the file stays as it was. Pure.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from chunkstore.errors import RefusedError

_HEADER = re.compile(r"\s*\[")


def set_key(text: str, key: str, value: str) -> str:
    """Return `text` with `key = "value"` at its top, in place of an older value."""
    wanted = {**tomllib.loads(text), key: value}
    lines = text.splitlines()
    setting = f"{key} = {_quoted(value)}"
    place = _find_key(lines, key)
    if place is None:
        tables = _before_tables(lines)
        lines[tables:tables] = [setting, ""] if tables < len(lines) else [setting]
    else:
        lines[place] = setting
    return _checked(lines, wanted)


def drop_key(text: str, key: str) -> str:
    """Return `text` without `key` at its top."""
    wanted = {k: v for k, v in tomllib.loads(text).items() if k != key}
    lines = text.splitlines()
    place = _find_key(lines, key)
    if place is not None:
        del lines[place]
    return _checked(lines, wanted)


def add_table(text: str, above: str, name: str, values: dict[str, str]) -> str:
    """Return `text` with a table `[above.name]` at its end; there must be none yet."""
    parsed = tomllib.loads(text)
    wanted = {**parsed, above: {**parsed.get(above, {}), name: values}}
    lines = text.splitlines()
    if lines and lines[-1].strip():
        lines.append("")
    lines.append(f"[{above}.{name}]")
    lines += [f"{key} = {_quoted(value)}" for key, value in values.items()]
    return _checked(lines, wanted)


def drop_table(text: str, above: str, name: str) -> str:
    """Return `text` without the table `[above.name]`."""
    parsed = tomllib.loads(text)
    rest = {k: v for k, v in parsed.get(above, {}).items() if k != name}
    wanted = {k: v for k, v in parsed.items() if k != above} | ({above: rest} if rest else {})
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(above)}\s*\.\s*\"?{re.escape(name)}\"?\s*\]")
    start = next((n for n, line in enumerate(lines) if header.match(line)), None)
    if start is not None:
        end = start + 1
        while end < len(lines) and not _HEADER.match(lines[end]):
            end += 1
        del lines[start:end]
    return _checked(lines, wanted)


def _quoted(value: str) -> str:
    """Return a TOML basic string; a JSON string is one but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _before_tables(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if _HEADER.match(line)), len(lines))


def _find_key(lines: list[str], key: str) -> int | None:
    pattern = re.compile(rf"\s*\"?{re.escape(key)}\"?\s*=")
    for number in range(_before_tables(lines)):
        if pattern.match(lines[number]):
            return number
    return None


def _checked(lines: list[str], wanted: dict[str, Any]) -> str:
    text = "".join(f"{line}\n" for line in lines).lstrip("\n")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        found = None
    if found != wanted:
        raise RefusedError(
            "the settings file is laid out in a way that cannot be edited here; it is unchanged",
            hint="edit it by hand",
        )
    return text
