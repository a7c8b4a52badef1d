"""`chunkstore completion`: a script by which the shell completes verbs and options."""

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
    """Print a script that makes SHELL complete verbs and options; source it in its start file."""
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
