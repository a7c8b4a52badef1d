"""`chunkstore init`: create a store."""

from __future__ import annotations

import click

from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.common import quoted
from chunkstore_cli.environment import is_address, with_parameters
from chunkstore_cli.options import s3_options, size_option, verb
from chunkstore_cli.progress import Words, watching
from chunkstore_cli.session import Session, listen


@verb(
    examples="""
    chunkstore init ./store
    chunkstore init s3://datasets/cs --endpoint http://127.0.0.1:9000
    """
)
@click.argument("place", required=False, metavar="[STORE]", type=click.Path())
@s3_options
@click.option(
    "--chunker",
    type=click.Choice(["fastcdc", "pyfastcdc"]),
    default="fastcdc",
    show_default=True,
    help="What cuts files into chunks, for ever.",
)
@size_option(
    "--chunk-size",
    default="64KiB",
    show_default=True,
    help="Average size of a chunk, a power of two; chunks have a quarter to four times of it.",
)
@size_option("--frame-size", help="Bytes that are compressed together.  [default: 1MiB]")
@size_option("--pack-length", help="Stored bytes of a pack.  [default: 32MiB]")
def init(
    session: Session,
    place: str | None,
    region: str | None,
    ca_file: str | None,
    path_style: bool,
    chunker: str,
    chunk_size: int,
    frame_size: int | None,
    pack_length: int | None,
) -> None:
    """Create a store at STORE: a folder, an address such as s3://bucket/prefix, or a remote.

    The folder or prefix must be new or empty; the bucket must be there. How files are cut is
    chosen here once and for all: data that are cut differently share nothing.
    """
    from chunkstore.creation import check_creatable
    from chunkstore.format.config import ChunkerSpec
    from chunkstore.store import Store

    if place and session.common.store:
        raise InvalidInputError("the store is named twice, as STORE and by --store")
    session.common.store = place or session.common.store
    url = with_parameters(
        session.store_address.value,
        region=region,
        ca=ca_file,
        style="path" if path_style else None,
    )
    check_creatable(url)
    spec = ChunkerSpec(
        name=chunker, min_size=chunk_size // 4, avg_size=chunk_size, max_size=chunk_size * 4
    )
    listen(debug=session.common.debug)
    with (
        watching(session.common, Words("")) as watch,
        Store.create(
            url,
            chunker=spec,
            frame_size=frame_size,
            pack_length=pack_length,
            progress=watch,
            **session.environment.store_arguments(url),
        ) as created,
    ):
        _tell(session, created.url, created.config.store_id.hex())


def _tell(session: Session, url: str, identifier: str) -> None:
    if session.common.json:
        output.document({"url": url, "id": identifier})
    elif session.common.quiet:
        output.line(identifier)
    else:
        output.line(f"created a store at {url}")
        named = session.common.store
        if named is None or not is_address(named):
            return  # a remote, or what the settings name: it has its name already
        address = quoted(url)
        output.hint(
            f"export CHUNKSTORE_STORE={address}, or keep it: "
            f"chunkstore remote add NAME {address} --default"
        )
