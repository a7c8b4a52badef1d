"""Pages from templates, with the headers that every page has.

Whatever comes from a store is escaped by the templates; control characters are made visible by the
filters of `texts`. The policy lets a page load nothing but the style, the script and the images of
this server, and no script that stands in a page runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import Scope

from chunkstore_api.tokens import Token
from chunkstore_api.web import texts
from chunkstore_api.web.urls import Urls

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_TYPES: Final = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}


class StaticFile:
    """A file that belongs to all pages."""

    def __init__(self, name: str) -> None:
        self.data = resources.files(__package__).joinpath("static", name).read_bytes()
        self.media_type = _TYPES[name]
        self.digest = hashlib.sha256(self.data).hexdigest()[:16]


STATIC: Final = {name: StaticFile(name) for name in _TYPES}


def page(
    scope: Scope,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """Return a page for the request of a scope."""
    state = scope.get("state", {})
    token = state.get("token")
    html = _TEMPLATES.get_template(template).render(
        urls=Urls(scope.get("raw_path") or scope["path"].encode()),
        token=token if isinstance(token, Token) else None,
        signed_in=state.get("signed_in", False),
        static={name: f"static/{name}?v={file.digest}" for name, file in STATIC.items()},
        **values,
    )
    return HTMLResponse(
        html,
        status,
        {
            "Cache-Control": "no-store" if token else "private, no-cache",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "Vary": "Accept, Cookie",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        },
    )


def server_of(request: Request) -> str:
    """Return the address of the server, as whoever asks has written it."""
    return str(request.base_url).rstrip("/")


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": texts.size_text,
        "change": texts.change_text,
        "visible": texts.visible,
        "line": texts.one_line,
        "quoted": texts.quoted,
        "time": texts.time_text,
        "instant": texts.time_attribute,
    }
    made.globals |= {"count": texts.count_text}
    return made


_TEMPLATES: Final = _environment()
