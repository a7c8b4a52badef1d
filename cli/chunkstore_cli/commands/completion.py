"""`chunkstore completion`: a script by which the shell completes verbs, options and datasets."""

from __future__ import annotations

import click

from chunkstore_cli import output
from chunkstore_cli.options import verb
from chunkstore_cli.session import Session


@verb(
    store=False,
    examples="""
    eval "$(chunkstore completion bash)"
    chunkstore completion fish > ~/.config/fish/completions/chunkstore.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(session: Session, shell: str) -> None:
    """Print a script by which SHELL completes; source it in the shell's start file.

    Verbs, options, files and names of datasets are completed; for the latter the store is asked.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    group = click.get_current_context().find_root().command
    script = kind(group, {}, "chunkstore", "_CHUNKSTORE_COMPLETE").source()
    if session.common.json:
        output.document({"shell": shell, "script": script})
    else:
        for text in script.splitlines():
            output.raw_line(text)
