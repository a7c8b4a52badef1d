"""Signing in with a token and out again, and the files that all pages load.

A session is a cookie that no script can read and no other site can send. Forms of other origins are
refused, so that nobody is signed in as somebody else without knowing.
"""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from chunkstore.errors import NotFoundError
from chunkstore_api import sessions
from chunkstore_api.context import Served
from chunkstore_api.problems import RequestError
from chunkstore_api.web.rendering import STATIC, page
from chunkstore_api.web.urls import Urls

router = APIRouter(include_in_schema=False)

_LONGEST_FORM: Final = 16 * 1024


@router.get("/sign-in")
def sign_in_page(request: Request, served: Served, target: str = "/") -> Response:
    """Show the form that takes a token."""
    if served.tokens is None:
        return RedirectResponse(Urls(request.scope["raw_path"]).home(), 303)
    return page(request.scope, "sign_in.html", target=target, problem=None)


@router.post("/sign-in")
async def sign_in(request: Request, served: Served) -> Response:
    """Begin a session for whoever has a token; say nothing but that it is none otherwise."""
    _refuse_others(request)
    if served.tokens is None:
        raise NotFoundError("this server asks nobody to sign in")
    form = parse_qs((await _body(request)).decode("ascii", "replace"), keep_blank_values=True)
    target = form.get("target", ["/"])[0]
    tokens = served.tokens.read()
    now = time.time()
    token = tokens.find(form.get("token", [""])[0].strip(), now)
    if token is None:
        problem = {"code": "bad_token", "detail": "There is no such token, or it has ended."}
        return page(request.scope, "sign_in.html", status=403, target=target, problem=problem)
    value, seconds = sessions.make(tokens, token, now)
    answer = RedirectResponse(_safe(request, target), 303, headers={"Cache-Control": "no-store"})
    _set_cookie(request, answer, value, seconds)
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session in this browser."""
    _refuse_others(request)
    urls = Urls(request.scope["raw_path"])
    answer = RedirectResponse(urls.at("sign-in"), 303, headers={"Cache-Control": "no-store"})
    _set_cookie(request, answer, "", 0)
    return answer


@router.get("/static/{name}")
def static(name: str, v: str = "") -> Response:
    """Send the style or the script of the pages."""
    file = STATIC.get(name)
    if file is None:
        raise NotFoundError(f"no file {name!r}")
    lasting = "public, max-age=31536000, immutable" if v == file.digest else "no-cache"
    headers = {"Cache-Control": lasting, "X-Content-Type-Options": "nosniff"}
    return Response(file.data, media_type=file.media_type, headers=headers)


def _set_cookie(request: Request, answer: Response, value: str, seconds: int) -> None:
    origin = request.headers.get("origin", "")  # what the browser speaks, whatever a proxy does
    secure = request.url.scheme == "https" or origin.startswith("https:")
    answer.set_cookie(
        sessions.cookie_name(secure=secure),
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def _refuse_others(request: Request) -> None:
    """Refuse a form that another site has sent here.

    Raises:
        RequestError: 403.
    """
    site = request.headers.get("sec-fetch-site")  # right behind any proxy, where it is sent
    origin = request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not ours:
        raise RequestError(403, "forbidden", "a page of another site may not sign anybody in")


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise RequestError(413, "too_large", f"a form has at most {_LONGEST_FORM} bytes")
    return body


def _safe(request: Request, target: str) -> str:
    """Return the URL of a page of this server, its home where `target` is none."""
    urls = Urls(request.scope["raw_path"])
    path = target.partition("?")[0]
    inside = path.startswith("/") and "\\" not in target and "//" not in path
    if not inside or not target.isprintable() or not target.isascii():
        return urls.home()
    return urls.at(target) if sessions.is_page(path) else urls.home()
