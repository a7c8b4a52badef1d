"""The options that every verb takes, kept in one place however they were given."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(slots=True)
class Common:
    """What the options of every verb said; each may stand before or after the verb.

    Attributes:
        json: print JSON.
        quiet: print ids only.
        no_progress: show none.
        debug: print tracebacks.
        store: address or remote, None where the option was not given.
        endpoint: of the S3 server, None where the option was not given.
        stdout_is_taken: stdout belongs to the process that is run; JSON goes to stderr. No option.
    """

    json: bool = False
    quiet: bool = False
    no_progress: bool = False
    debug: bool = False
    store: str | None = None
    endpoint: str | None = None
    stdout_is_taken: bool = False

    def command(self, *words: str) -> str:
        """Return a command of this program to paste into a shell; it means the same store.

        Args:
            words: the verb, its arguments and options.
        """
        store = {"--store": self.store, "--endpoint": self.endpoint}
        options = [word for name, given in store.items() if given for word in (name, given)]
        return " ".join(["chunkstore", *map(quoted, (*words, *options))])


def quoted(word: str) -> str:
    """Return `word` for a shell; bytes that are not to be seen are escapes of bash and zsh."""
    if word.isprintable():
        import shlex  # only hints need it

        return shlex.quote(word)
    plain = set(range(32, 127)) - set(b"'\\")
    escaped = (chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(escaped)}'"
