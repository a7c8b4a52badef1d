"""Who signs in to the pages sees what the token reaches, and a session opens nothing else."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chunkstore_api import sessions
from chunkstore_api.tokens import Right, TokensFile
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import serving
from tests.api.pages import BROWSER, Page, crawl, get
from tests.api.test_tokens import Guarded, guarded_in

PETS = "/datasets/pets/versions/1/files/f.txt"
TEAM = "/datasets/team~a/versions/1/files/f.txt"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_in(tmp_path_factory.mktemp("guarded")) as found:
        yield found


@contextlib.contextmanager
def signed_in(guarded: Guarded, who: str, **headers: str) -> Iterator[httpx.Client]:
    """Give a browser in which somebody has signed in, by the form that every page gives."""
    address = guarded.server.address
    with httpx.Client(base_url=address, timeout=60) as client:
        form = Page(client.get(PETS, headers=BROWSER))
        assert form.answer.status_code == 401
        assert form.forms == [("post", "../../../../../sign-in")]
        assert form.fields == {"target": PETS, "token": ""}
        fields = {**form.fields, "token": f" {guarded.tokens[who]}\n"}
        answer = client.post("/sign-in", data=fields, headers={"Origin": address, **headers})
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"] == f".{PETS}"
        yield client


def test_who_has_signed_in_sees_all_pages(guarded: Guarded) -> None:
    """A token of all datasets opens every page, and none of them is kept by the browser."""
    with signed_in(guarded, "reader") as client:
        found = crawl(client)
        assert {PETS, TEAM, "/store"} <= set(found)
        for url, answer in found.items():
            kept = "no-cache" if "/download/" in url or "/archive." in url else "no-store"
            assert url.startswith("/static/") or kept in answer.headers["cache-control"]
        assert "Sign out" in found["/"].text
        assert "reader" in found["/"].text


@pytest.mark.parametrize("https", [None, "Origin"])
def test_the_cookie_is_out_of_reach(guarded: Guarded, https: str | None) -> None:
    """The cookie has nothing of the secret; no script reads it and no other site sends it.

    With TLS it is sent by nothing else, though a proxy that speaks it does not say so.
    """
    store, file = guarded.server.store, guarded.file.path
    with serving(store, tokens=file) as server:
        said = {https: "https://data.example"} if https else {}
        headers = {**said, "Sec-Fetch-Site": "same-origin"}
        data = {"token": guarded.tokens["reader"]}
        kept = server.client.post("/sign-in", data=data, headers=headers).headers["set-cookie"]
        attributes = {part.strip().lower() for part in kept.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/"} <= attributes
        assert ("secure" in attributes) is kept.startswith("__Host-") is (https is not None)
        assert guarded.tokens["reader"].rpartition("_")[2] not in kept
        headers["Cookie"] = kept.partition(";")[0]
        assert server.client.get(PETS, headers=headers).status_code == 200


def test_the_api_takes_no_session(guarded: Guarded) -> None:
    """What only the cookie would open stays shut: every route but the pages, every other method."""
    with signed_in(guarded, "admin") as client:
        assert client.get(PETS).status_code == 200
        file = "/v1/datasets/pets/versions/latest/files/f.txt"
        for method, url in (
            ("GET", file),
            ("PUT", file),
            ("GET", "/v1/datasets"),
            ("GET", "/artifacts/pets"),
            ("DELETE", "/v1/datasets/pets/versions/1"),
            ("GET", "/metrics"),
            ("POST", PETS),
            ("PUT", "/"),
        ):
            answer = client.request(method, url, headers={"Origin": guarded.server.address})
            assert answer.status_code == 401, (method, url)


def test_what_a_token_does_not_reach_is_not_there(guarded: Guarded) -> None:
    """Pages of datasets out of reach say the same as those of datasets that nobody has."""
    with signed_in(guarded, "team") as client:
        home = get(client, "/")
        assert "team/a" in home.text
        assert "pets" not in home.answer.text
        assert "1 dataset" in home.text
        assert "/store" not in home.local
        assert set(crawl(client)) >= {TEAM}
        get(client, "/store", 403)
        assert "No dataset" in get(client, "/?prefix=pe").text
        for rest in (
            "",
            "/versions/1",
            "/versions/latest/folders/x",
            "/versions/1/files/f.txt",
            "/versions/1/download/f.txt",
            "/versions/1/archive.tar",
            "/differences",
        ):
            there = get(client, f"/datasets/pets{rest}", 404)
            absent = get(client, f"/datasets/dogs{rest}", 404)
            assert there.answer.text == absent.answer.text.replace("dogs", "pets")
            near = get(client, f"/datasets/team~pets{rest}", 404)
            assert "Hint" not in near.text


def test_a_token_that_is_none_is_refused(guarded: Guarded) -> None:
    """Whatever is sent by the form, who has no token stays outside, and is told no more."""
    client = guarded.server.client
    expected = "There is no such token, or it has ended."
    for token in ("", "x", f"cs_{'0' * 12}_{'0' * 64}", guarded.tokens["admin"][:-1], "é"):
        answer = client.post("/sign-in", data={"token": token, "target": "/"}, headers=BROWSER)
        assert answer.status_code == 403
        assert expected in Page(answer).text
        assert "set-cookie" not in answer.headers
    assert client.post("/sign-in", content=b"x" * 20_000).status_code == 413
    assert client.post("/sign-in", content=b"\xff\0&&==").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_no_other_site_signs_anybody_in_or_out(guarded: Guarded, headers: dict[str, str]) -> None:
    """A form of another origin neither begins nor ends a session."""
    for url in ("/sign-in", "/sign-out"):
        data = {"token": guarded.tokens["reader"]}
        answer = guarded.server.client.post(url, data=data, headers={**BROWSER, **headers})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        Page(answer)


@pytest.mark.parametrize(
    "target",
    [
        "//elsewhere/",
        "http://elsewhere/",
        "/\\elsewhere",
        "/v1/stat",
        "",
        "javascript:x",
        "/store\r\nx",
    ],
)
def test_signing_in_leads_to_pages_only(guarded: Guarded, target: str) -> None:
    """Whatever a form says, who has signed in is led to a page of this server."""
    data = {"token": guarded.tokens["reader"], "target": target}
    answer = guarded.server.client.post("/sign-in", data=data)
    assert answer.headers["location"] == "./"


def test_signing_out(guarded: Guarded) -> None:
    """Who signs out is asked for a token again."""
    with signed_in(guarded, "reader", **{"Sec-Fetch-Site": "same-origin"}) as client:
        page = get(client, PETS)
        ((method, action),) = page.forms
        assert method == "post"
        answer = client.post(str(page.answer.url.join(action)), follow_redirects=True)
        assert "Sign in" in Page(answer).text
        get(client, PETS, 401)


def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    """A token that is revoked opens no page any more, wherever somebody signed in with it."""
    with guarded_in(tmp_path) as guarded, signed_in(guarded, "reader") as client:
        get(client, PETS)
        guarded.file.revoke("reader")
        assert "Sign in" in get(client, PETS, 401).text
        Path(guarded.file.path).write_bytes(b"{}")
        assert "cannot read its tokens" in get(client, PETS, 503).text


def test_a_token_in_a_header_opens_pages_too(guarded: Guarded) -> None:
    """Who sends a token needs no session."""
    assert guarded.ask("reader", "GET", PETS).status_code == 200
    assert guarded.ask("team", "GET", PETS).status_code == 404


def test_no_secret_is_told(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor pages nor URLs have what was typed into the form."""
    with caplog.at_level(logging.DEBUG), signed_in(guarded, "reader") as client:
        answers = list(crawl(client).values())
        answers.append(client.post("/sign-in", data={"token": guarded.tokens["team"] + "x"}))
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    told = "\n".join([*ours, *(answer.text + str(answer.headers) for answer in answers)])
    for token in guarded.tokens.values():
        assert token.rpartition("_")[2] not in told


def test_without_tokens_nobody_signs_in(served: Any) -> None:
    """A server that asks nobody has no form to sign in, and no session."""
    served.store.push(io.BytesIO(b"x"), "pets", name="x")
    assert "Datasets" in get(served.client, "/sign-in").text
    assert get(served.client, "/").forms == [("get", "./")]
    served.problem(served.client.post("/sign-in", data={"token": "x"}), 404, "not_found")


@given(data=st.data())
def test_only_the_very_cookie_is_a_session(tmp_path_factory: Any, data: st.DataObject) -> None:
    """A cookie with any character changed, added or left out is none; a whole one ends."""
    file = TokensFile(str(tmp_path_factory.mktemp("t") / "t"))
    token, _ = file.create("a", Right.READ, ["*"], expires=int(time.time()) + 10**6)
    tokens = file.read()
    cookie, seconds = sessions.make(tokens, token, 1000.5)
    assert seconds == sessions.LONGEST
    at = data.draw(st.integers(0, len(cookie)))
    end = data.draw(st.integers(at, min(at + 2, len(cookie))))
    changed = cookie[:at] + data.draw(st.text("0123456789abcdef. ", max_size=2)) + cookie[end:]
    assert sessions.opened(tokens, changed, 1001) == (token if changed == cookie else None)
    assert sessions.opened(tokens, cookie, 1000 + sessions.LONGEST) is None
    assert token.expires is not None
    late, left = sessions.make(tokens, token, token.expires - 5)
    assert left == 5
    assert sessions.opened(tokens, late, token.expires) is None
