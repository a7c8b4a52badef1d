"""`chunkstore ls`: list datasets, or the files of a version."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chunkstore.address import Address, parse_address
from chunkstore.errors import NotFoundError
from chunkstore_cli import output
from chunkstore_cli.completing import dataset_names
from chunkstore_cli.documents import entry_document, version_document, version_name
from chunkstore_cli.options import verb
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.format.manifest import Entry
    from chunkstore.store import Store
    from chunkstore.values import Version


@verb(
    examples="""
    chunkstore ls
    chunkstore ls team/ -l
    chunkstore ls imagenet@v2 -l
    chunkstore ls imagenet:train/cats -R
    """
)
@click.argument("address", required=False, shell_complete=dataset_names)
@click.option("-l", "--long", is_flag=True, help="Show sizes, times and more.")
@click.option("-R", "--recursive", is_flag=True, help="List everything below, not one level.")
def ls(session: Session, address: str | None, long: bool, recursive: bool) -> None:
    """List the datasets, or what stands at ADDRESS, which is NAME[@VERSION][:PATH].

    Without ADDRESS all datasets are listed, with a prefix that ends in a slash those below it.
    Of a version one level is listed: folders end with a slash and stand with the sizes of
    everything below them.
    """
    with session.open_store() as store:
        if address is None or (address.endswith("/") and not set("@:") & set(address)):
            _datasets(session, store, address or "", long=long)
        else:
            _files(session, store, parse_address(address), long=long, recursive=recursive)


# datasets


def _datasets(session: Session, store: Store, prefix: str, *, long: bool) -> None:
    names = store.datasets(prefix)
    if not (names or session.common.json or session.common.quiet):
        output.note(f"there are no datasets{f' below {prefix}' if prefix else ''}")
        output.hint(f"make one: {session.common.command('push', './folder', 'NAME')}")
        return
    if session.common.json:
        rows = (
            (
                version_document(version) if version else {"dataset": name, "version": None}
                for name, version in _latest(store, names)
            )
            if long
            else ({"dataset": name} for name in names)
        )
        output.long_document({}, "datasets", rows)
    elif long and not session.common.quiet:
        output.table(
            ("DATASET", "LATEST", "FILES", "SIZE", "CREATED (UTC)", "TAGS"),
            [_dataset_row(name, version) for name, version in _latest(store, names)],
            right=(1, 2, 3),
        )
    else:
        for name in names:
            output.line(name)


def _latest(store: Store, names: list[str]) -> Iterator[tuple[str, Version | None]]:
    """Yield each dataset's latest version, None where all were dropped."""
    for name in names:
        try:
            version = store.version(name)
        except NotFoundError:
            version = None
        yield name, version


def _dataset_row(name: str, version: Version | None) -> tuple[str, ...]:
    if version is None:
        return (name, "-", "", "", "", "")
    return (
        name,
        str(version.number),
        f"{version.files:,}",
        output.size_text(version.size),
        output.time_text(version.created_ns),
        " ".join(tag for tag in version.tags if tag != "latest"),
    )


# files


@dataclass(frozen=True, slots=True)
class _Row:
    """A path as it is listed: an entry, or a folder with the sums of what is below it."""

    path: str
    size: int
    entry: Entry | None
    files: int = 0


def _files(session: Session, store: Store, where: Address, *, long: bool, recursive: bool) -> None:
    entries = store.entries(where)
    rows = _everything(entries) if recursive else _one_level(entries, where.path)
    if session.common.json:
        version = store.version(Address(where.dataset, where.version))
        head = {**version_name(version), "path": where.path}
        output.long_document(head, "entries", (_row_document(row) for row in rows))
        return
    for row in rows:
        output.line(_row_text(row) if long and not session.common.quiet else row.path)


def _everything(entries: Iterator[Entry]) -> Iterator[_Row]:
    return (_Row(entry.path, entry.size, entry) for entry in entries)


def _one_level(entries: Iterator[Entry], folder: str) -> Iterator[_Row]:
    """Yield what stands directly in `folder`; entries of one subfolder follow each other."""
    above = f"{folder}/" if folder else ""

    def first_step(entry: Entry) -> str:
        name, slash, _ = entry.path.removeprefix(above).partition("/")
        return above + name + slash if entry.path.startswith(above) else entry.path

    for path, group in itertools.groupby(entries, first_step):
        size = files = 0
        for entry in group:
            size += entry.size
            files += 1
        yield _Row(path, size, entry if entry.path == path else None, files)


def _row_document(row: _Row) -> dict[str, Any]:
    if row.entry is not None:
        return entry_document(row.entry)
    return {"path": row.path, "kind": "folder", "size": row.size, "files": row.files}


def _row_text(row: _Row) -> str:
    if row.entry is None:
        what = output.count_text(row.files, "file")
    elif row.entry.file_hash:
        what = output.short_id(row.entry.file_hash)
    else:
        what = ""
    time = output.time_text(row.entry.mtime_ns) if row.entry and row.entry.mtime_ns else ""
    link = f" -> {row.entry.target}" if row.entry and row.entry.target else ""
    return f"{output.size_text(row.size):>10}  {time:19}  {what:>12}  {row.path}{link}"
