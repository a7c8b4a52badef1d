"""`chunkstore link`: a URL of a server for one file or one upload, which needs no token."""

from __future__ import annotations

import time

import click
from chunkstore_api import links
from chunkstore_api.tokens import Right, TokensFile

from chunkstore.address import parse_address
from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.options import duration_option, tokens_option, verb
from chunkstore_cli.session import Session


@verb(
    store=False,
    examples="""
    chunkstore link imagenet@v2:train/a.bin --expires 1h --server https://data.example.org
    chunkstore link job42:outputs/model.bin --upload
    """,
)
@click.argument("address")
@duration_option(
    "--expires", default="1h", show_default=True, help="How long it holds; at most 7d."
)
@click.option("--upload", is_flag=True, help="For a PUT of the file, not a GET.")
@click.option(
    "--server",
    metavar="URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="The server, as whoever gets the link reaches it.",
)
@tokens_option
def link(
    session: Session, address: str, expires: int, upload: bool, server: str, tokens: str | None
) -> None:
    """Print a URL for the file ADDRESS, which is DATASET[@VERSION]:PATH.

    Whoever has it needs no token. The server must have the same file of tokens. Neither it nor the
    store is asked.
    """
    path = session.tokens_file(tokens)
    if not 0 < expires <= links.LONGEST:
        raise InvalidInputError("a link holds for at most 7 days, and not less than a second")
    if not server.startswith(("http://", "https://")) or "?" in server or "#" in server:
        raise InvalidInputError(f"not the address of a server: {server!r}")
    where = parse_address(address)
    end = int(time.time()) + expires
    made = links.make(
        TokensFile(path).read().link_key,
        where.dataset,
        where.version or "latest",
        where.path,
        right=Right.WRITE if upload else Right.READ,
        expires=end,
    )
    url = server.rstrip("/") + made
    if session.common.json:
        output.document({"url": url, "expires": output.time_json(end * 10**9)})
    else:
        output.line(url)
