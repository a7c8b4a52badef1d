"""The options that every verb takes, kept in one place however they were given."""

from __future__ import annotations

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
