"""Links: URLs of one file or one upload that need no token until they end. Pure.

A link is the URL of a file with three parameters, the last of which is an HMAC-SHA-256 of all that
the server goes by: the method, the end, who made it, and the path, in which dataset, version and
file stand. No other parameter may stand beside them.

Imports nothing of a web framework, so that the command line may use it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final
from urllib.parse import quote

from chunkstore.errors import InvalidInputError, RefusedError
from chunkstore_api.tokens import Right, Token, Tokens

LONGEST: Final = 7 * 86400
"""Seconds that a link may hold at most."""

MARK: Final = b"cs-signature="
"""What makes a query that of a link."""

_QUERY: Final = re.compile(
    rb"cs-expires=([0-9]{1,12})&cs-by=([0-9a-f]{12}|)&cs-signature=([0-9a-f]{64})"
)
_METHODS: Final = {"GET": Right.READ, "HEAD": Right.READ, "PUT": Right.WRITE}


class BadLinkError(Exception):
    """A link that opens nothing."""


def make(
    key: bytes, dataset: str, version: str, path: str, *, right: Right, expires: int, by: str = ""
) -> str:
    """Return path and query of a link.

    Args:
        key: of the tokens file.
        dataset: a name.
        version: a number, a tag or `latest`; for an upload `latest` only.
        path: of a file.
        right: READ for a download, WRITE for an upload.
        expires: in seconds since 1970.
        by: the id of the token that the link stands for, "" for the key's owner.

    Raises:
        InvalidInputError: no file is named.
        RefusedError: an upload into a version that does not change.
    """
    path = path.strip("/")
    if not path:
        raise InvalidInputError("a link is to a file", hint=f"name it: {dataset}:PATH")
    if right is Right.WRITE and version != "latest":
        raise RefusedError(f"version {version!r} does not change", hint="leave the version out")
    parts = (dataset.replace("/", "~"), version.replace("/", "~"))
    where = "/v1/datasets/{}/versions/{}/files/{}".format(*parts, path)
    signature = _sign(key, right, where, expires, by)
    return f"{quote(where, safe='/~')}?cs-expires={expires}&cs-by={by}&cs-signature={signature}"


def opened(tokens: Tokens, method: str, path: str, query: bytes, now: float) -> Token:
    """Return the token that a link stands for; of the key's owner's, one made up for it.

    Args:
        tokens: of the tokens file.
        method: of the request.
        path: of the request, decoded.
        query: of the request, as it is.
        now: in seconds since 1970.

    Raises:
        BadLinkError: it was changed, is for another method, has ended, or its token has.
    """
    parts = _QUERY.fullmatch(query)
    right = _METHODS.get(method)
    if parts is None or right is None:
        raise BadLinkError("the link is not as it was made, or for something else")
    expires, by = int(parts[1]), parts[2].decode()
    wanted = _sign(tokens.link_key, right, path, expires, by)
    if not hmac.compare_digest(wanted, parts[3].decode()):
        raise BadLinkError("the link is not as it was made, or for something else")
    if now >= expires:
        raise BadLinkError("the link has ended")
    if not by:
        return Token(id="", name="", sha256="", right=right, datasets=("*",), created=0)
    token = tokens.by_id.get(by)
    if token is None or not token.lives(now):
        raise BadLinkError("the link has ended")
    return token


def _sign(key: bytes, right: Right, path: str, expires: int, by: str) -> str:
    # The path stands last: it alone may have line ends.
    text = f"chunkstore-link-1\n{right.value}\n{expires}\n{by}\n{path}"
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
