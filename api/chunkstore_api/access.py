"""Lets in only who has a token or a link, and each of them only as far as that goes.

Nothing but `/healthz` and what one needs to sign in is answered to anybody else, whatever the
route: what is not known here is refused. The pages, which only read, take the cookie of a session
too; the API does not. A dataset that a token does not reach is, to its holder, not there.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from chunkstore.errors import ChunkstoreError, NotFoundError
from chunkstore_api import links, sessions
from chunkstore_api.callers import REALM, less
from chunkstore_api.problems import RequestError, problem_of
from chunkstore_api.rates import Rates, address_of
from chunkstore_api.tokens import Right, Token, TokensFile

log = logging.getLogger(__name__)

OPEN: Final = "/healthz"
"""The one path of the API that asks for no token; it says nothing of the store."""

_HINT: Final = "send the header 'Authorization: Bearer TOKEN'"


class Doorkeeper:
    """Finds out whose request it is; refuses those of nobody."""

    def __init__(self, app: ASGIApp, *, tokens: TokensFile, rates: Rates | None = None) -> None:
        """`rates` count those of nobody; the others are counted behind."""
        self._app = app
        self._tokens = tokens
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                token = self._token(scope)
            except RequestError as error:
                answer = None
                if self._rates is not None:
                    answer = self._rates.refusal(f"nobody at {address_of(scope)}")
                await (answer or problem_of(error))(scope, receive, send)
                return
            state = scope.setdefault("state", {})
            state["token"] = token
            state["narrow"] = not token.everywhere or not token.id
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _token(self, scope: Scope) -> Token:
        given = Headers(scope=scope).getlist("authorization")
        linked = links.MARK in scope["query_string"]
        cookie = _session(scope)
        if not given and not linked and not cookie:
            raise _unknown("this server answers to who has a token", REALM)
        try:
            tokens = self._tokens.read()
        except ChunkstoreError as error:
            raise _closed(error) from error
        if not given and not linked:
            token = sessions.opened(tokens, cookie, time.time())
            if token is None:
                raise _unknown("the session has ended", REALM)
            scope.setdefault("state", {})["signed_in"] = True
            return token
        if not given:
            try:
                return links.opened(
                    tokens, scope["method"], scope["path"], scope["query_string"], time.time()
                )
            except links.BadLinkError as error:
                raise RequestError(403, "forbidden", str(error), hint="ask for another") from error
        scheme, _, text = given[0].partition(" ")
        token = tokens.find(text.strip(), time.time()) if scheme.lower() == "bearer" else None
        if token is None or len(given) > 1:
            raise _unknown("no such token, or it has ended", f'{REALM}, error="invalid_token"')
        return token


def authorise(request: Request, right: Right, dataset: str | None) -> None:
    """Let a request through where its token gives the right on the dataset, or on all.

    Raises:
        NotFoundError: the token does not reach the dataset, as if that were not there.
        RequestError: 403, the token gives less.
    """
    token = request.state.token
    assert isinstance(token, Token)
    if dataset is not None and not token.reaches(dataset):
        raise NotFoundError(f"no dataset {dataset!r}")
    if dataset is None and not token.everywhere:
        raise less("this takes a token for all datasets", right)
    if not token.right.includes(right):
        raise less(f"this takes a token that may {right.value}", right)


def _is_open(path: str) -> bool:
    return path == OPEN or sessions.is_open(path)


def _session(scope: Scope) -> str:
    """Return the cookie of a request that may have one, that for a page; else ""."""
    if scope["method"] not in ("GET", "HEAD") or not sessions.is_page(scope["path"]):
        return ""
    cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
    return sessions.cookie_of(cookies, secure=scope["scheme"] == "https")


def _closed(error: ChunkstoreError) -> RequestError:
    log.error("%s: %s", error.code, error.message)
    return RequestError(
        503, "unavailable", "the server cannot read its tokens", hint="ask who runs it"
    )


def _unknown(message: str, challenge: str) -> RequestError:
    headers = {"WWW-Authenticate": challenge}
    return RequestError(401, "unauthorized", message, hint=_HINT, headers=headers)
