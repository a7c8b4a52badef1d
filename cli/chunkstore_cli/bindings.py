"""What goes into a run and comes out of it: `--in NAME[@VERSION][:PATH]=TARGET`, `--out PATH=NAME`.

Pure. Neighbours: `host` and `container` know where targets and paths lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chunkstore.address import LATEST, Address, parse_address
from chunkstore.errors import InvalidInputError, NotFoundError


class NoOutputError(NotFoundError):
    """The process has not left what it was to leave."""


@dataclass(frozen=True, slots=True)
class Input:
    """Data that a process reads.

    Attributes:
        where: the version, or one path of it.
        target: the folder in which the process finds it; of a single file its path.
    """

    where: Address
    target: str


@dataclass(frozen=True, slots=True)
class Output:
    """Data that a process leaves.

    Attributes:
        path: the folder or file in which it leaves them.
        dataset: the dataset of which they become the next version.
        name: path of a file in the version, None for its own.
    """

    path: str
    dataset: str
    name: str | None = None

    @property
    def address(self) -> str:
        """Where a push puts them, NAME[:FILE]."""
        return f"{self.dataset}:{self.name}" if self.name else self.dataset


def parse_input(text: str) -> Input:
    """Return the Input that `text` spells; the last `=` divides it.

    Raises:
        InvalidInputError: it spells none.
    """
    address, _, target = text.rpartition("=")
    if not address or not target:
        raise InvalidInputError(
            f"not an input: {text!r}", hint="write --in NAME[@VERSION][:PATH]=TARGET"
        )
    return Input(parse_address(address), target)


def parse_output(text: str) -> Output:
    """Return the Output that `text` spells; the last `=` divides it.

    Raises:
        InvalidInputError: it spells none, or chooses a version.
    """
    path, _, name = text.rpartition("=")
    if not path or not name:
        raise InvalidInputError(f"not an output: {text!r}", hint="write --out PATH=NAME[:FILE]")
    where = parse_address(name)
    if where.version != LATEST or "@" in name.partition(":")[0]:
        raise InvalidInputError(
            f"an output cannot choose the version: {text!r}",
            hint=f"it makes the next one; write --out {path}={where.dataset}, and --tag to name it",
        )
    return Output(path, where.dataset, where.path or None)


def parse_outputs(texts: Sequence[str]) -> list[Output]:
    """Return the Outputs that `texts` spell.

    Raises:
        InvalidInputError: one spells none, or two are for one dataset.
    """
    outputs = [parse_output(text) for text in texts]
    names = [each.dataset for each in outputs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(
                f"two outputs for dataset {name!r}; the second would replace the first",
                hint="let the process leave both in one folder, or give them datasets of their own",
            )
    return outputs
