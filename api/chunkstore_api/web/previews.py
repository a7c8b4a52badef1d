"""What the first bytes of a file can be shown as: an image, a table, text, or bytes. Pure.

Whatever the bytes, there is an answer of bounded size. An image is one of the formats that have no
scripts in them, and begins as its name says; SVG is text.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from chunkstore_api.parquet import LONGEST_CELL, MOST_COLUMNS, MOST_ROWS, Rows
from chunkstore_api.web.texts import count_text, one_line, visible

HEAD: Final = 64 * 1024
"""Bytes of a file that are looked at."""

LARGEST_IMAGE: Final = 32 * 1024 * 1024
"""Bytes of an image that a page has in it."""

_MOST_BYTES: Final = 512
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_NUMBER: Final = re.compile(r"\s*[-+]?[\d.,]+([eE][-+]?\d+)?%?\s*")
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_MAGIC: Final[dict[str, Callable[[bytes], bool]]] = {
    "png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "jpg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "gif": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    "bmp": lambda head: head.startswith(b"BM"),
    "avif": lambda head: head[4:12] in (b"ftypavif", b"ftypavis"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What is shown of a file.

    Attributes:
        kind: what it is shown as.
        text: the text; of bytes a table of them as text.
        columns: the names of a table's columns.
        rows: its rows, each as long as `columns`.
        whole: whether nothing of the file is left out.
        note: what whoever looks should know.
        also: another kind that the file can be shown as.
    """

    kind: Literal["empty", "image", "table", "text", "bytes"]
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: list[list[str]] = field(default_factory=list)
    whole: bool = True
    note: str = ""
    also: Literal["", "text", "table"] = ""


def preview_of(path: str, head: bytes, size: int, shown: str = "") -> Preview:
    """Return what is shown of a file of `size` bytes that begins with `head`.

    `shown` is what whoever looks wants it shown as: "text", or nothing.
    """
    suffix = path.rpartition(".")[2].lower()
    if not size:
        return Preview(kind="empty")
    if suffix in _MAGIC and _MAGIC[suffix](head):
        if size <= LARGEST_IMAGE:
            return Preview(kind="image")
        return Preview(kind="empty", whole=False, note="The image is too large to be shown here.")
    whole = size == len(head)
    text, note = _decoded(head, whole=whole)
    if text is None:
        return Preview(kind="bytes", text=_dump(head), whole=size <= _MOST_BYTES, note=note)
    if suffix in ("csv", "tsv"):
        table = None if shown == "text" else _table(text, suffix, whole=whole, note=note)
        if table is not None:
            return table
        return Preview(kind="text", text=visible(text), whole=whole, note=note, also="table")
    return Preview(kind="text", text=visible(text), whole=whole, note=note)


def looks_like_parquet(head: bytes) -> bool:
    """Whether a file that begins so may be a Parquet file."""
    return head.startswith(b"PAR1")


def preview_of_rows(found: Rows) -> Preview:
    """Return the preview of a file whose rows somebody else has read."""
    return Preview(
        kind="table",
        columns=tuple(one_line(name) for name in found.columns),
        rows=[[visible(cell) for cell in row] for row in found.rows],
        whole=found.whole,
        note=f"A Parquet file of {count_text(found.count, 'row')}.",
    )


def _decoded(head: bytes, *, whole: bool) -> tuple[str | None, str]:
    """Return the text that bytes are, and what to know of it; None where they are none."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return codecs.getincrementaldecoder(name)("replace").decode(head, whole), ""
    if _CONTROLS.search(head):
        return None, ""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head, whole), ""
    except UnicodeDecodeError:
        return head.decode("latin-1"), "The text is not UTF-8; it is shown as ISO 8859-1."


def _table(text: str, suffix: str, *, whole: bool, note: str) -> Preview | None:
    """Return a table, None where the text is none after all."""
    lines = text.splitlines(keepends=True)
    if not whole and len(lines) > 1:
        lines = lines[:-1]  # it may be cut
    first = lines[0] if lines else ""
    delimiter = "\t" if suffix == "tsv" else max(",;\t|", key=first.count)
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            rows.append([_cell(cell) for cell in row[:MOST_COLUMNS]])
            whole = whole and len(row) <= MOST_COLUMNS
            if len(rows) > MOST_ROWS:
                break
    except csv.Error:
        return None
    if not rows or not rows[0]:
        return None
    width = max(map(len, rows))
    named = len(rows) > 1 and not any(_NUMBER.fullmatch(cell) for cell in rows[0])
    names = _filled(rows.pop(0) if named else [], width)
    whole = whole and len(rows) <= MOST_ROWS
    return Preview(
        kind="table",
        columns=tuple(name or str(number) for number, name in enumerate(names, 1)),
        rows=[_filled(row, width) for row in rows[:MOST_ROWS]],
        whole=whole,
        note=note,
        also="text",
    )


def _cell(text: str) -> str:
    return visible(text[:LONGEST_CELL]) + ("…" if len(text) > LONGEST_CELL else "")


def _filled(row: list[str], width: int) -> list[str]:
    return row + [""] * (width - len(row))


def _dump(head: bytes) -> str:
    """Return offsets, hex digits and printable characters of the first bytes."""
    lines = []
    for at in range(0, min(len(head), _MOST_BYTES), 16):
        part = head[at : at + 16]
        digits = part.hex(" ").ljust(47)
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {digits}  {plain}")
    return "\n".join(lines)
