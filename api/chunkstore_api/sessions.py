"""Sessions of the web pages: a cookie that stands for a token until it ends. Pure.

The cookie has the id of a token, an end, and an HMAC-SHA-256 of both and of the token's entry in
the file: nothing of its secret. It ends with the token, and every process that has the file knows
it. It opens the pages, which only read; the routes of the API take no cookie. Neighbours: `access`
asks, `web` makes it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final

from chunkstore_api.tokens import Token, Tokens

LONGEST: Final = 12 * 3600
"""Seconds that a session holds at most."""

_PAGES: Final = re.compile(r"/(|store|datasets/.+)", re.DOTALL)
_OPEN: Final = re.compile(r"/(sign-in|sign-out|static/.+)")
_COOKIE: Final = re.compile(r"([0-9a-f]{12})\.([1-9][0-9]{0,11})\.([0-9a-f]{64})")


def is_page(path: str) -> bool:
    """Whether a path of the server is for people: a page, or what belongs to one."""
    return bool(_PAGES.fullmatch(path)) or is_open(path)


def is_open(path: str) -> bool:
    """Whether a path is what one needs to sign in: it says nothing of the store."""
    return bool(_OPEN.fullmatch(path))


def cookie_name(*, secure: bool) -> str:
    """Return the cookie's name; where TLS is spoken, one that no other site can set."""
    return "__Host-chunkstore" if secure else "chunkstore"


def cookie_of(cookies: Mapping[str, str], *, secure: bool) -> str:
    """Return the cookie of a session among those of a request, "" where there is none.

    A proxy may speak TLS without saying so, so that a secure one may come to a plain server.
    """
    plain = "" if secure else cookies.get(cookie_name(secure=False), "")
    return cookies.get(cookie_name(secure=True), plain)


def make(tokens: Tokens, token: Token, now: float) -> tuple[str, int]:
    """Return the value of a cookie for a token, and the seconds for which it holds."""
    end = int(now) + LONGEST
    if token.expires is not None:
        end = min(end, token.expires)
    return f"{token.id}.{end}.{_sign(tokens.link_key, token, end)}", end - int(now)


def opened(tokens: Tokens, cookie: str, now: float) -> Token | None:
    """Return the token that a cookie stands for; None where it was not made here, or has ended."""
    parts = _COOKIE.fullmatch(cookie)
    token = tokens.by_id.get(parts[1]) if parts else None
    if parts is None or token is None:
        return None
    end = int(parts[2])
    signed = hmac.compare_digest(_sign(tokens.link_key, token, end), parts[3])
    return token if signed and now < end and token.lives(now) else None


def _sign(key: bytes, token: Token, end: int) -> str:
    text = f"chunkstore-session-1\n{token.id}\n{end}\n{token.sha256}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
