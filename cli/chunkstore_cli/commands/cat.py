"""`chunkstore cat`: print one file of a version, or a range of its bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

from chunkstore.address import Address, parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import entry_document, version_name
from chunkstore_cli.options import verb
from chunkstore_cli.session import Session

_BLOCK = 1024 * 1024
_RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")


@verb(
    examples="""
    chunkstore cat imagenet@v2:labels.json
    chunkstore cat imagenet:train.bin --range 0-99 | xxd
    """
)
@click.argument("address", shell_complete=dataset_names)
@click.option(
    "--range",
    "byte_range",
    metavar="A-B",
    help="Bytes A to B, both included, counted from 0; 'A-' to the end; '-N' the last N.",
)
def cat(session: Session, address: str, byte_range: str | None) -> None:
    """Print the file at ADDRESS, which is NAME[@VERSION]:PATH, byte for byte.

    Every byte is verified before it is printed. With --json the file is described instead, with
    the range that would be printed; with --quiet its hash is printed.
    """
    where = parse_address(address)
    if not where.path:
        raise InvalidInputError(
            f"no file is named in {address!r}",
            hint=f"write {address}:PATH; to see the paths: "
            f"{session.common.command('ls', '-R', address)}",
        )
    with session.open_store() as store:
        content = store.file_content(where)
        start, end = _bounds(byte_range, content.size)
        if not (session.common.json or session.common.quiet):
            for block in _joined(content.blocks(start, end)):
                output.binary(block)
            return
        entry = next(iter(store.entries(where)))
        if session.common.quiet:
            output.line(entry.file_hash.hex())
            return
        head = version_name(store.version(Address(where.dataset, where.version)))
        output.document({**head, **entry_document(entry), "start": start, "end": end})


def _bounds(text: str | None, size: int) -> tuple[int, int]:
    """Return the first byte and the one after the last, as HTTP reads a range."""
    if text is None:
        return 0, size
    match = _RANGE.fullmatch(text)
    if match is None or text == "-":
        raise InvalidInputError(
            f"not a range: {text!r}", hint="write 0-99 for the first hundred bytes, 100- or -100"
        )
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, end = int(first), int(last) + 1 if last else size
    if start >= end or start >= size:
        raise InvalidInputError(
            f"there are no bytes {text} in a file of {size:,} bytes",
            hint=f"they are numbered from 0 to {size - 1}" if size else "the file is empty",
        )
    return start, min(end, size)


def _joined(parts: Iterable[memoryview]) -> Iterator[bytes]:
    """Join chunks to blocks of about 1 MiB, which cost fewer calls."""
    pending: list[memoryview] = []
    size = 0
    for part in parts:
        pending.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)
