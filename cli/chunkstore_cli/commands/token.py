"""`chunkstore token`: who may do what on a server."""

from __future__ import annotations

import time
from typing import Any

import click
from chunkstore_api.tokens import Right, Token, TokensFile

from chunkstore_cli import output
from chunkstore_cli.options import (
    SETTINGS,
    Group,
    common_options,
    duration_option,
    tokens_option,
    verb,
)
from chunkstore_cli.session import Session


@click.group(cls=Group, context_settings=SETTINGS, subcommand_metavar="VERB [ARGUMENT]...")
def token() -> None:
    """Make, list and revoke the tokens that 'chunkstore serve --tokens FILE' asks for.

    The file holds no token, only what tells one: a token is shown once, when it is made.
    """


@verb(
    store=False,
    examples="""
    chunkstore token create ann --right write --dataset 'team/*' --tokens ./tokens.json
    TOKEN=$(chunkstore token create ci --expires 90d)
    """,
)
@click.argument("name")
@click.option(
    "--right",
    type=click.Choice([right.value for right in Right]),
    default=Right.READ.value,
    show_default=True,
    help="The most that it allows: admin may write too, write may read too.",
)
@click.option(
    "--dataset",
    "datasets",
    metavar="PATTERN",
    multiple=True,
    default=("*",),
    show_default=True,
    help="The datasets that it reaches; * is any characters. May be repeated.",
)
@duration_option("--expires", help="How long it holds: 30m, 12h, 90d. Without, until revoked.")
@tokens_option
def create(
    session: Session,
    name: str,
    right: str,
    datasets: tuple[str, ...],
    expires: int | None,
    tokens: str | None,
) -> None:
    """Make a token called NAME and print it; it is not shown again."""
    end = None if expires is None else int(time.time()) + expires
    file = _file(session, tokens)
    made, text = file.create(name, Right(right), datasets, expires=end)
    if session.common.json:
        output.document({**_document(made), "token": text})
        return
    output.line(text)
    if not session.common.quiet:
        output.note(f"token {made.id} of {name} may {right}; it is not shown again")


@verb(store=False, examples="chunkstore token list --tokens ./tokens.json")
@tokens_option
def list_(session: Session, tokens: str | None) -> None:
    """List the tokens, without their secrets."""
    found = sorted(_file(session, tokens).read().by_id.values(), key=lambda token: token.name)
    if session.common.json:
        output.document({"tokens": [_document(each) for each in found]})
    elif session.common.quiet:
        for each in found:
            output.line(each.id)
    else:
        output.table(
            ("NAME", "ID", "RIGHT", "DATASETS", "CREATED (UTC)", "EXPIRES (UTC)"),
            [
                (
                    each.name,
                    each.id,
                    each.right.value,
                    " ".join(each.datasets),
                    _time(each.created),
                    "never" if each.expires is None else _time(each.expires),
                )
                for each in found
            ],
        )


@verb(store=False, examples="chunkstore token revoke ann --tokens ./tokens.json")
@click.argument("which", metavar="NAME|ID")
@tokens_option
def revoke(session: Session, which: str, tokens: str | None) -> None:
    """Take a token away: servers that read the file refuse it from the next request on."""
    gone = _file(session, tokens).revoke(which)
    if session.common.json:
        output.document(_document(gone))
    else:
        output.line(gone.id if session.common.quiet else f"revoked {gone.id} of {gone.name}")


def _file(session: Session, option: str | None) -> TokensFile:
    return TokensFile(session.tokens_file(option))


def _document(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "right": token.right.value,
        "datasets": list(token.datasets),
        "created": output.time_json(token.created * 10**9),
        "expires": None if token.expires is None else output.time_json(token.expires * 10**9),
    }


def _time(seconds: int) -> str:
    return output.time_text(seconds * 10**9)


token.params += common_options(store=False)
for _command in (create, list_, revoke):
    token.add_command(_command)
