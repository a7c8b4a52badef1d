"""`chunkstore serve`: the HTTP server."""

from __future__ import annotations

import contextlib
import dataclasses

import click

from chunkstore.errors import InvalidInputError
from chunkstore_cli import output
from chunkstore_cli.interrupts import Stopped
from chunkstore_cli.options import size_option, tokens_option, verb
from chunkstore_cli.session import Session


@verb(
    examples="""
    chunkstore serve --store ./store
    chunkstore serve --port 0 --downloads 32
    chunkstore serve --tokens ./tokens.json --host 0.0.0.0
    """
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The port, 0 for any that is free.",
)
@tokens_option
@click.option(
    "--tls-cert",
    metavar="FILE",
    help="Speak HTTPS with this certificate (PEM), and those behind it.",
)
@click.option("--tls-key", metavar="FILE", help="The key of the certificate (PEM).")
@click.option(
    "--proxy",
    "proxies",
    metavar="ADDRESS",
    multiple=True,
    help="The address of a reverse proxy, whose X-Forwarded-For and -Proto are believed. May be "
    "repeated.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen where other machines reach it, though it asks nobody who they are: whoever "
    "reaches it may read, change and delete everything.",
)
@click.option(
    "--direct",
    is_flag=True,
    help="Have clients that can move packs straight from and to an S3 storage, by signed URLs; "
    "they must reach it at the address that the server uses.",
)
@click.option("--downloads", type=click.IntRange(1), default=16, help="Transfers out at once.")
@click.option("--uploads", type=click.IntRange(1), default=4, help="Transfers in at once.")
@size_option("--upload-size", help="The longest upload that is taken, 1024G without.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests a second of one token, or of one address without tokens. No bound without.",
)
@click.option("--requests", type=click.IntRange(1), default=32, help="At once of one token.")
def serve(
    session: Session,
    host: str,
    port: int,
    tokens: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    proxies: tuple[str, ...],
    insecure: bool,
    direct: bool,
    downloads: int,
    uploads: int,
    upload_size: int | None,
    rate: float | None,
    requests: int,
) -> None:
    """Serve the store over HTTP until Ctrl-C.

    Only this machine reaches the default address. With a file of tokens nobody is served without
    one. Where others reach it give it a certificate, or put a reverse proxy in front that has one:
    tokens and data can be read on the way otherwise.
    """
    if (tls_cert is None) is not (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        from chunkstore_api.server import serve as run
        from chunkstore_api.settings import Limits, Settings
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"the server needs packages that are not installed: {error.name}",
            hint="pip install 'chunkstore-cas[api]'",
        ) from error
    limits = Limits(downloads=downloads, uploads=uploads, rate=rate, requests=requests)
    if upload_size is not None:
        limits = dataclasses.replace(limits, upload_size=upload_size)
    settings = Settings(
        host=host,
        port=port,
        open_to_all=insecure,
        tokens=session.tokens_path(tokens),
        direct=direct,
        tls=(tls_cert, tls_key) if tls_cert and tls_key else None,
        proxies=proxies,
        limits=limits,
    )

    def listening(address: str) -> None:
        if session.common.json:
            output.json_line({"type": "listening", "address": address, "store": store.url})
        elif not session.common.quiet:
            output.line(f"serving {store.url} at {address}")
        else:
            output.line(address)
        output.flush()

    with session.open_store() as store, contextlib.suppress(Stopped):  # it ended in good order
        run(store, settings, listening=listening)
