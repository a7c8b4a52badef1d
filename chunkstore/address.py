"""Addresses of data: `name[@version][:path]`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from chunkstore.errors import InvalidInputError
from chunkstore.layout import check_name

LATEST: Final = "latest"

_VERSION: Final = re.compile(r"[0-9a-z~][0-9a-z._/-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """What an address names.

    Attributes:
        dataset: the dataset's name.
        version: a number, a tag, `latest`, `~N` or a prefix of a manifest id.
        path: a path in the version, without slashes at its ends; "" is the whole version.
    """

    dataset: str
    version: str = LATEST
    path: str = ""

    def __str__(self) -> str:
        path = f":{self.path}" if self.path else ""
        return f"{self.dataset}@{self.version}{path}"


def parse_address(text: str | Address) -> Address:
    """Return the Address that `text` spells, or that it is.

    Raises:
        InvalidInputError: no dataset name, or a version that can be none.
    """
    if isinstance(text, Address):
        return text
    head, colon, path = text.partition(":")
    dataset, at, version = head.partition("@")
    check_name(dataset, "dataset")
    if at and not _VERSION.fullmatch(version):
        raise InvalidInputError(
            f"not a version: {version!r} in {text!r}",
            hint="use a number, a tag, 'latest', '~N' or the first digits of a manifest id",
        )
    if colon and not path.strip("/"):
        raise InvalidInputError(
            f"no path after the colon in {text!r}", hint="leave the colon out for all files"
        )
    return Address(dataset, version or LATEST, path.strip("/"))
