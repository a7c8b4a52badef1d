"""A server with a file of tokens: who gets what."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import io
import json
import logging
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from chunkstore_api import sessions, web
from chunkstore_api.access import OPEN
from chunkstore_api.app import create_app
from chunkstore_api.settings import Settings
from chunkstore_api.tokens import Right, TokensFile
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import Store
from chunkstore.errors import AlreadyExistsError, InvalidInputError, NotFoundError, RefusedError
from chunkstore.patterns import matches
from tests.api.conftest import Served, flat, serving, tokens_file

SCOPED = "/v1/datasets/{name}/versions/latest/files/f.txt"


@dataclass
class Guarded:
    """A server that asks for tokens, with the datasets `pets` and `team/a`, and its tokens."""

    server: Served
    file: TokensFile
    tokens: dict[str, str]

    def ask(self, token: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request with the token of a name, or a text."""
        headers = {"Authorization": f"Bearer {self.tokens.get(token, token)}"}
        return self.server.client.request(method, path, headers=headers, **more)


@contextlib.contextmanager
def guarded_in(folder: Path) -> Iterator[Guarded]:
    """Run a server that asks for tokens, on a new store."""
    file, tokens = tokens_file(
        folder,
        reader=(Right.READ, "*"),
        writer=(Right.WRITE, "*"),
        admin=(Right.ADMIN, "*"),
        team=(Right.WRITE, "team/*"),
    )
    with Store.create(str(folder / "store"), cache_folder=folder / "cache") as store:
        for name in ("pets", "team/a"):
            store.push(io.BytesIO(b"tom\n"), name, name="f.txt")
        with serving(store, tokens=file.path) as server:
            yield Guarded(server, file, tokens)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_in(tmp_path_factory.mktemp("guarded")) as found:
        yield found


def routes(store: Store) -> list[tuple[str, str]]:
    """Return method and path of every route that an application has, as it is declared."""
    app = create_app(store, Settings(tokens="unused"))
    found = []
    for route in flat(app.routes):
        for method in sorted(route.methods):
            path = str(route.path)
            for part in ("name:dataset", "exec_id:dataset"):
                path = path.replace(f"{{{part}}}", "pets")
            for part in ("version:version", "before:version"):
                path = path.replace(f"{{{part}}}", "latest")
            path = path.replace("{key:file}", "refs/pets")
            parts = {"kind": "tar", "name": "page.css"}
            for part in ("path:file", "filename:file", "tag:version", *parts):
                path = path.replace(f"{{{part}}}", parts.get(part, "f.txt"))
            assert "{" not in path, path
            found.append((method, path))
    assert len(found) > 25
    return found


def test_no_route_answers_without_a_token(guarded: Guarded) -> None:
    """Every route, and what is none, gives nobody anything but /healthz and how to sign in."""
    unknown = [("GET", "/"), ("GET", "/v1/nothing"), ("POST", OPEN + "/x"), ("OPTIONS", "/v1/stat")]
    wrong = f"cs_{'0' * 12}_{'0' * 64}"
    for method, path in [*routes(guarded.server.store), *unknown]:
        for headers in ({}, {"Authorization": f"Bearer {wrong}"}, {"Authorization": "Basic eDp5"}):
            answer = guarded.server.client.request(method, path, headers=headers)
            if path == OPEN or sessions.is_open(path):
                assert (
                    answer.status_code == (303 if path == "/sign-out" else 200) or method == "POST"
                )
                assert "pets" not in answer.text
                continue
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="chunkstore"')
            assert answer.headers["content-type"] == "application/problem+json"
            assert method == "HEAD" or answer.json()["code"] == "unauthorized"


def test_a_websocket_is_closed(guarded: Guarded) -> None:
    """What is no request of HTTP is refused too, token or not."""
    app = create_app(guarded.server.store, Settings(tokens=guarded.file.path))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": OPEN, "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_openapi_says_what_takes_a_token(guarded: Guarded) -> None:
    """Every operation but /healthz has the scheme of tokens."""
    document = guarded.ask("reader", "GET", "/v1/openapi.json").json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("security") == (None if path == OPEN else [{"token": []}]), path


def test_every_route_names_the_right_that_it_needs(guarded: Guarded) -> None:
    """What changes something takes more than a reader's token, whatever the route."""
    for method, path in routes(guarded.server.store):
        if path == "/v1/links" or sessions.is_open(path):  # a reader may make links to read
            continue
        if method not in ("GET", "HEAD"):
            answer = guarded.ask("reader", method, path, json={"version": "1"})
            assert answer.status_code == 403, (method, path, answer.text)
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
            answer = guarded.ask("writer", method, path + "?", json={"version": "1"})
            drops = method == "DELETE" and "/tags/" not in path
            assert (answer.status_code == 403) is (drops or path.endswith((":delete", "/undo"))), (
                method,
                path,
                answer.text,
            )


def test_every_route_of_a_dataset_asks_on_which() -> None:
    """No route has a dataset in its path but asks for a right on it."""
    from chunkstore_api.routes import archives, artifacts, datasets, files, health, links, uploads

    modules = (archives, artifacts, datasets, files, health, links, uploads)
    for router in [*(module.router for module in modules), *web.ROUTERS]:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            if "dataset}" in route.path:
                first: Any = route.dependant.dependencies[0].call
                assert first.__qualname__ == "allow.<locals>.check", route.path


def test_what_a_token_does_not_reach_is_not_there(guarded: Guarded) -> None:
    """Each route says the same of a dataset out of reach as of one that nobody has."""
    for method, path in routes(guarded.server.store):
        if "/pets" not in path:
            continue
        there = guarded.ask("team", method, path, json={"version": "1"})
        absent = guarded.ask("team", method, path.replace("pets", "dogs"), json={"version": "1"})
        assert there.status_code == absent.status_code == 404, (method, path, there.text)
        assert there.text == absent.text.replace("dogs", "pets")
    # and a name within reach that is not there is answered alike, without names out of reach
    mine = guarded.ask("team", "GET", SCOPED.format(name="team~pets"))
    other = guarded.ask("team", "GET", SCOPED.format(name="pet"))
    assert mine.text == other.text.replace("'pet'", "'team/pets'")
    assert mine.json()["hint"] is None


def test_lists_show_what_a_token_reaches(guarded: Guarded) -> None:
    """The list of datasets has those that a token reaches; what tells of all takes all."""
    assert guarded.ask("team", "GET", "/v1/datasets").json()["datasets"] == ["team/a"]
    assert "pets" in guarded.ask("reader", "GET", "/v1/datasets").json()["datasets"]
    for path in ("/v1/stat", "/metrics"):
        assert guarded.ask("team", "GET", path).status_code == 403
        assert guarded.ask("reader", "GET", path).status_code == 200
    assert guarded.ask("team", "GET", "/readyz").status_code == 200


def test_tokens_do_what_they_may(guarded: Guarded) -> None:
    """Reading, writing and dropping work with the rights for them."""
    path = SCOPED.format(name="team~new")
    assert guarded.ask("team", "PUT", path, content=b"new\n").status_code == 201
    assert guarded.ask("reader", "GET", path).content == b"new\n"
    version = "/v1/datasets/team~new/versions/1"
    assert guarded.ask("team", "DELETE", version).status_code == 403
    assert guarded.ask("admin", "DELETE", version).status_code == 200


def test_a_revoked_token_is_refused_at_once_by_every_server(tmp_path: Path) -> None:
    """Two servers that share a file refuse a token right after it was revoked."""
    with guarded_in(tmp_path) as one, serving(one.server.store, tokens=one.file.path) as other:
        headers = {"Authorization": f"Bearer {one.tokens['reader']}"}
        clients = (one.server.client, other.client)
        assert [c.get("/v1/datasets", headers=headers).status_code for c in clients] == [200, 200]
        TokensFile(one.file.path).revoke("reader")
        assert [c.get("/v1/datasets", headers=headers).status_code for c in clients] == [401, 401]
        text = TokensFile(one.file.path).create("late", Right.READ, ["*"])[1]
        headers = {"Authorization": f"Bearer {text}"}
        assert [c.get("/v1/datasets", headers=headers).status_code for c in clients] == [200, 200]


def test_a_server_that_cannot_read_its_tokens_lets_nobody_in(tmp_path: Path) -> None:
    """Where the file is gone, broken or open to all, every token is refused."""
    with guarded_in(tmp_path) as guarded:
        path = Path(guarded.file.path)
        kept = path.read_bytes()
        for spoil in (lambda: path.write_bytes(b"{}"), lambda: path.chmod(0o604), path.unlink):
            path.write_bytes(kept)
            path.chmod(0o600)
            assert guarded.ask("admin", "GET", "/v1/datasets").status_code == 200
            spoil()
            answer = guarded.ask("admin", "GET", "/v1/datasets")
            guarded.server.problem(answer, 503, "unavailable")
            assert str(path) not in answer.text


def test_a_token_ends(tmp_path: Path) -> None:
    """A token is one until its end, and none from then on."""
    file = TokensFile(str(tmp_path / "t"))
    token, text = file.create("short", Right.READ, ["*"], expires=int(time.time()) + 1000)
    assert token.expires is not None
    tokens = file.read()
    assert tokens.find(text, token.expires - 1) == token
    assert tokens.find(text, token.expires) is None
    with pytest.raises(InvalidInputError):
        file.create("past", Right.READ, ["*"], expires=int(time.time()))


def test_an_ended_token_is_refused(tmp_path: Path) -> None:
    """A server refuses a token whose end is past."""
    with guarded_in(tmp_path) as guarded:
        path = Path(guarded.file.path)
        document = json.loads(path.read_bytes())
        for each in document["tokens"]:
            each["expires"] = 1
        path.write_text(json.dumps(document))
        answer = guarded.ask("admin", "GET", "/v1/datasets")
        guarded.server.problem(answer, 401, "unauthorized")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_the_file_gives_nobody_a_token(tmp_path: Path) -> None:
    """The file has no secret of a token, and only its owner may read it."""
    file = TokensFile(str(tmp_path / "t"))
    texts = [file.create(name, Right.ADMIN, ["*"])[1] for name in ("a", "b")]
    kept = Path(file.path).read_text()
    assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600
    assert len({*texts}) == 2
    for text in texts:
        assert text.rpartition("_")[2] not in kept
    Path(file.path).chmod(0o640)  # a group may have been given it; it keeps it
    file.revoke("a")
    assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o640
    Path(file.path).chmod(0o644)
    with pytest.raises(RefusedError):
        file.read()


def test_names_of_tokens_are_used_once(tmp_path: Path) -> None:
    """A name is one token's; who is not there cannot be revoked."""
    file = TokensFile(str(tmp_path / "t"))
    made, _ = file.create("a", Right.READ, ["*"])
    with pytest.raises(AlreadyExistsError):
        file.create("a", Right.READ, ["*"])
    assert file.revoke(made.id) == made
    with pytest.raises(NotFoundError):
        file.revoke("a")
    for name, patterns in (("", ["*"]), ("a b", ["*"]), ("a", ["A"]), ("a", []), ("a", ["x?"])):
        with pytest.raises(InvalidInputError):
            file.create(name, Right.READ, patterns)


def test_no_token_is_told(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor answers have a token, be it right, wrong or in the wrong place."""
    secret = "f" * 64
    wrong = f"cs_{'1' * 12}_{secret}"
    right = guarded.tokens["reader"]
    client = guarded.server.client
    with caplog.at_level(logging.DEBUG):
        answers = [
            guarded.ask(wrong, "GET", "/v1/datasets"),
            guarded.ask("reader", "GET", SCOPED.format(name="nothing")),
            guarded.ask("reader", "PUT", SCOPED.format(name="pets"), content=b"x"),
            guarded.ask("reader", "GET", "/v1/datasets?limit=many"),
            client.get("/v1/datasets", headers={"Authorization": f"Basic {right}"}),
            client.get("/v1/datasets", headers=[("Authorization", f"Bearer {right}")] * 2),
        ]
    assert [answer.status_code for answer in answers] == [401, 404, 403, 400, 401, 401]
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    told = "\n".join([*ours, *(answer.text + str(answer.headers) for answer in answers)])
    assert secret not in told
    assert right.rpartition("_")[2] not in told


NAMES = st.text("ab/.*", max_size=12)


@given(pattern=NAMES, name=st.text("ab/.", max_size=12))
def test_a_star_is_any_characters(pattern: str, name: str) -> None:
    """A pattern stands for the same names as a shell's with stars only."""
    assert matches(pattern, name) is fnmatch.fnmatchcase(name, pattern)


@given(data=st.data())
def test_only_the_very_text_is_a_token(tmp_path_factory: Any, data: st.DataObject) -> None:
    """A token with any character changed, added or left out is none."""
    file = TokensFile(str(tmp_path_factory.mktemp("t") / "t"))
    token, text = file.create("a", Right.READ, ["*"])
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(at + 2, len(text))))
    changed = text[:at] + data.draw(st.text("0123456789abcdefCS_ \n", max_size=2)) + text[end:]
    assert file.read().find(changed, 0) == (token if changed == text else None)


def test_rights_have_those_before_them() -> None:
    """Admin may write, who writes may read, and not the other way round."""
    order = [Right.READ, Right.WRITE, Right.ADMIN]
    for high, one in enumerate(order):
        assert [one.includes(other) for other in order] == [low <= high for low in range(3)]
