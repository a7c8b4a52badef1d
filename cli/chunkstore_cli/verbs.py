"""The table of verbs, and the group that imports a verb's module when it is used, not before."""

from __future__ import annotations

import importlib
from typing import Final

import click

from chunkstore import __version__
from chunkstore_cli.options import SETTINGS, Group, common_options

SECTIONS: Final = {
    "Stores": {
        "init": "Create a store.",
        "remote": "Keep stores under names.",
        "doctor": "Check the installation, the settings and the storage.",
    },
    "Data": {
        "push": "Store a folder, a file or stdin as the next version.",
        "pull": "Restore a version, fetching only what is missing.",
        "status": "Compare a folder with a version before any transfer.",
        "run": "Run a command on data, and store what it leaves.",
        "cat": "Print one file of a version, or a range of it.",
    },
    "Versions": {
        "ls": "List datasets, or the files of a version.",
        "log": "List the versions of a dataset.",
        "diff": "List what differs between two versions.",
        "stat": "Show sizes and what deduplication saves.",
        "tag": "Name a version, or list and delete such names.",
        "rm": "Drop versions.",
        "undo": "Bring dropped versions back.",
        "gc": "Delete what no version needs, to free space.",
    },
    "Upkeep": {
        "verify": "Check the store, or some versions, against all that it promises.",
        "repair": "Mend what is damaged, from good packs, another store or files.",
        "copy": "Copy versions, or everything, to another store.",
    },
    "Server": {
        "serve": "Serve the store over HTTP.",
        "link": "Make a URL for one file or upload that needs no token.",
        "token": "Make, list and revoke tokens of a server.",
    },
    "Shell": {
        "completion": "Print a script that completes commands.",
    },
}
"""Verbs and their one-line helps, so that listing them imports none of them."""

_INTRODUCTION: Final = """\
Versioned datasets, cut into content-defined chunks and stored once, in a folder or an S3
bucket. A push sends only what the store lacks; a pull fetches only what the target lacks; both go
on where they stopped when the same command is run again.
"""

_FIRST_STEPS: Final = """\
First steps:
  chunkstore init ./store
  export CHUNKSTORE_STORE=./store
  chunkstore push ./data imagenet -m "first"
  chunkstore pull imagenet@1 ./copy

'chunkstore VERB --help' explains a verb.
"""


class Verbs(Group):
    """The group of all verbs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        del ctx
        return [name for verbs in SECTIONS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb; None where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"chunkstore_cli.commands.{cmd_name}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by section, and the first steps."""
        del ctx
        width = max(len(name) for verbs in SECTIONS.values() for name in verbs)
        for heading, verbs in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in verbs.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first steps as they are."""
        del ctx
        formatter.write_paragraph()
        formatter.write(_FIRST_STEPS)


def build() -> Verbs:
    """Return the command line as one click command."""

    def root() -> None:
        """Take the options that stand before the verb; they keep themselves."""

    version = click.version_option(__version__, message="%(prog)s %(version)s")
    group = Verbs(
        "chunkstore",
        callback=root,
        help=_INTRODUCTION,
        context_settings=SETTINGS,
        params=[*common_options()],
        subcommand_metavar="VERB [ARGUMENT]...",
    )
    return version(group)
