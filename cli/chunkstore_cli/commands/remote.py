"""`chunkstore remote`: stores under names, kept in a settings file."""

from __future__ import annotations

import os

import click

from chunkstore.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from chunkstore_cli import output
from chunkstore_cli.environment import (
    Environment,
    check_remote_name,
    is_address,
    with_parameters,
)
from chunkstore_cli.options import SETTINGS, Group, common_options, s3_options, verb
from chunkstore_cli.session import Session
from chunkstore_cli.settings_file import REMOTES, SettingsFile
from chunkstore_cli.toml_edit import add_table, drop_key, drop_table, set_key

_local = click.option(
    "--local", is_flag=True, help="Keep it in ./chunkstore.toml, not in the user's settings."
)


@click.group(
    cls=Group,
    context_settings=SETTINGS,
    invoke_without_command=True,
    subcommand_metavar="[VERB [ARGUMENT]...]",
)
@click.pass_context
def remote(ctx: click.Context) -> None:
    """Keep stores under names, so that --store NAME is enough, or nothing for the default one.

    Remotes are kept in the user's settings file or, with --local, in ./chunkstore.toml. They
    never hold credentials. Without a further word they are listed.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@verb(
    store=False,
    examples="""
    chunkstore remote add lab s3://datasets/cs --endpoint http://minio:9000 --default
    chunkstore remote add disk /mnt/store
    chunkstore remote add team https://data.example.org --token-file ~/.config/team-token
    """,
)
@click.argument("name")
@click.argument("url")
@click.option("--endpoint", metavar="URL", help="The S3 server, such as http://127.0.0.1:9000.")
@s3_options
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, resolve_path=True),
    help="The file that holds the token for a chunkstore server. It is not copied.",
)
@click.option("--default", "is_default", is_flag=True, help="Make it the default store.")
@_local
def add(
    session: Session,
    name: str,
    url: str,
    endpoint: str | None,
    region: str | None,
    ca_file: str | None,
    path_style: bool,
    token_file: str | None,
    is_default: bool,
    local: bool,
) -> None:
    """Keep the store at URL under NAME. Nothing is asked of the store."""
    check_remote_name(name)
    file = _file(session, local=local)
    if name in file.remotes:
        raise AlreadyExistsError(
            f"there is already a remote {name!r}: {file.remotes[name]}",
            hint=f"remove it first: chunkstore remote remove {name}{' --local' if local else ''}",
        )
    style = "path" if path_style else None
    url = with_parameters(url, endpoint=endpoint, region=region, ca=ca_file, style=style)
    url = with_parameters(url, token_file=token_file)
    url = _checked_url(url, local=local)

    def change(text: str) -> str:
        text = add_table(text, REMOTES, name, {"url": url})
        return set_key(text, "store", name) if is_default else text

    file.edit(change)
    _tell(session, name, url, f"kept {name} in {file.path}: {url}")


@verb(store=False, examples="chunkstore remote list")
def list_(session: Session) -> None:
    """List the remotes; the default is marked with a star."""
    remotes = sorted(session.environment.remotes.values(), key=lambda remote: remote.name)
    default = _default(session.environment)
    if session.common.json:
        documents = [
            {"name": r.name, "url": r.url, "default": r.name == default, "file": r.path}
            for r in remotes
        ]
        output.document({"remotes": documents})
    elif session.common.quiet:
        for found in remotes:
            output.line(found.name)
    elif remotes:
        output.table(
            ("", "NAME", "URL", "FILE"),
            [("*" if r.name == default else "", r.name, r.url, r.path) for r in remotes],
        )
    else:
        output.note("there are no remotes")
        output.hint("keep one: chunkstore remote add NAME URL --default")


@verb(store=False, examples="chunkstore remote remove lab")
@click.argument("name")
@_local
def remove(session: Session, name: str, local: bool) -> None:
    """Forget the remote NAME. The store itself is not touched."""
    environment = session.environment
    file = _file(session, local=local or name in environment.local.remotes)
    if name not in file.remotes:
        environment.address(name if not is_address(name) else check_remote_name(name))
        raise NotFoundError(f"{file.path} has no remote {name!r}")

    def change(text: str) -> str:
        text = drop_table(text, REMOTES, name)
        return drop_key(text, "store") if file.values.get("store") == name else text

    file.edit(change)
    _tell(session, name, file.remotes[name], f"forgot {name}; the store itself is as it was")


@verb(
    store=False,
    examples="""
    chunkstore remote default
    chunkstore remote default lab
    """,
)
@click.argument("name", required=False)
@_local
def default(session: Session, name: str | None, local: bool) -> None:
    """Make a remote the default store, or say which is.

    Without NAME the default one is printed.
    """
    environment = session.environment
    if name is None:
        name = _default(environment)
        if name is None:
            raise NotFoundError(
                "no remote is the default", hint="make one: chunkstore remote default NAME"
            )
        url = environment.address(name)
        _tell(session, name, url, f"{name}: {url}")
        return
    url = environment.address(check_remote_name(name))
    file = _file(session, local=local)
    file.edit(lambda text: set_key(text, "store", name))
    _tell(session, name, url, f"{name} is the default store: {url}")


def _file(session: Session, *, local: bool) -> SettingsFile:
    return session.environment.local if local else session.environment.user


def _default(environment: Environment) -> str | None:
    """Return the remote that the settings files make the default, whatever the variables say."""
    for file in (environment.local, environment.user):
        if "store" in file.values:
            return str(file.values["store"])
    return None


def _checked_url(url: str, *, local: bool) -> str:
    """Return a store's address as it is kept: a folder's without reference to where one stands.

    Raises:
        InvalidInputError: it is none, or holds credentials.
    """
    from chunkstore.backends.location import parse_location

    if not url.isprintable():
        raise InvalidInputError(f"not an address: {url!r}")
    if not is_address(url):
        raise InvalidInputError(f"not an address: {url!r}", hint=f"for a folder write ./{url}")
    parse_location(url)
    if "://" in url or (local and not os.path.isabs(url)):
        return url
    return os.path.abspath(os.path.expanduser(url))


def _tell(session: Session, name: str, url: str, text: str) -> None:
    if session.common.json:
        output.document({"name": name, "url": url})
    else:
        output.line(name if session.common.quiet else text)


remote.params += common_options(store=False)
for _command in (add, list_, remove, default):
    remote.add_command(_command)
