"""Whose request it is, as far as the rules for objects go by that.

A caller is *wide* who has a token of all datasets, or whom the server asks for none; *narrow* who
has a token of some. Neighbours: `access` finds the token, `guarded` goes by what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import Request

from chunkstore.errors import NotFoundError
from chunkstore.limits import NAME
from chunkstore_api.problems import RequestError
from chunkstore_api.tokens import Right, Token

DATASETS_HEADER: Final = "chunkstore-dataset"
"""Names the datasets by virtue of which a narrow caller reads packs and index segments."""

MOST_DATASETS: Final = 8

REALM: Final = 'Bearer realm="chunkstore"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        right: the most that the caller may do.
        token: None where the server asks for none.
        named: the datasets of the request's header that the caller reaches, in its order.
        others: those that it does not reach.
    """

    right: Right
    token: Token | None
    named: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def wide(self) -> bool:
        """Whether the caller reaches every dataset."""
        return self.token is None or self.token.everywhere

    def reaches(self, dataset: str) -> bool:
        """Whether a dataset is there for the caller."""
        return self.token is None or self.token.reaches(dataset)

    def require(self, right: Right, dataset: str | None = None) -> None:
        """Return where the caller has a right, on a dataset or, for None, on something.

        Raises:
            NotFoundError: the dataset is not there for the caller.
            RequestError: 403, the caller has less.
        """
        if dataset is not None and not self.reaches(dataset):
            raise NotFoundError(f"no dataset {dataset!r}")
        if not self.right.includes(right):
            raise less(f"this takes a token that may {right.value}", right)

    def sends_for(self) -> str | None:
        """Return the dataset for which the caller sends chunks, None where none is named.

        Raises:
            RequestError: 404, datasets are named and none is there for the caller.
        """
        if self.others and not self.named:
            assert self.token is not None
            raise RequestError(
                404,
                "not_found",
                f"no dataset {self.others[0]!r}",
                hint=f"the token is for {' and '.join(self.token.datasets)}",
            )
        return self.named[0] if self.named else None

    def require_wide(self, right: Right) -> None:
        """Return where the caller has a right on all datasets; raises as `require`."""
        if not self.wide:
            raise less("this takes a token for all datasets", right)
        self.require(right)


def caller_of(request: Request) -> Caller:
    """Return whose request it is.

    Raises:
        RequestError: the header of datasets names none, or too many.
    """
    token = getattr(request.state, "token", None)
    if token is None:
        return Caller(Right.ADMIN, None)
    assert isinstance(token, Token)
    given = request.headers.get(DATASETS_HEADER, "").split(",")
    names = [part.strip().replace("~", "/") for part in given if part.strip()]
    if len(names) > MOST_DATASETS or not all(NAME.fullmatch(name) for name in names):
        raise RequestError(
            400,
            "invalid_input",
            f"the header Chunkstore-Dataset has names of datasets, at most {MOST_DATASETS}",
        )
    named = tuple(name for name in names if token.reaches(name))
    return Caller(token.right, token, named, tuple(name for name in names if name not in named))


def forbidden(message: str) -> RequestError:
    """Return the error of what nobody may do."""
    return RequestError(403, "forbidden", message)


def less(message: str, right: Right) -> RequestError:
    """Return the error of whose token does not give a right that it takes."""
    challenge = f'{REALM}, error="insufficient_scope", scope="{right.value}"'
    return RequestError(403, "forbidden", message, headers={"WWW-Authenticate": challenge})
