"""Who gets what: every route, asked by every kind of token. The table of docs/reference/http.md.

A new route fails until it has a row here, which says what it takes.
"""

from __future__ import annotations

import enum
import io
import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from chunkstore_api import links
from chunkstore_api.access import OPEN
from chunkstore_api.app import create_app
from chunkstore_api.settings import Settings
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import Store
from chunkstore.backends.location import open_backend
from chunkstore.chunk_index import DEFAULT_BUDGET
from chunkstore.objects import Objects
from chunkstore.testing.backends import CountingBackend
from tests.api.conftest import Served, flat, serving
from tests.docs.test_reference import REFERENCE, codes, rows

READ, WRITE, ADMIN = Right


class On(enum.Enum):
    """What a route is about."""

    NOTHING = "nothing of the store: whoever asks"
    ANY = "whoever has a token; it gives what that reaches"
    DATASET = "one dataset"
    STORE = "the whole store"


@dataclass(frozen=True)
class Row:
    """What a route takes.

    Attributes:
        on: what it is about.
        right: the least that a token gives.
        url: one for it, about the dataset `pets`.
        body: of a request that succeeds, or that fails only because of what it asks for.
        given: the status of such a failure; 200 stands for any success.
        right_first: who has less than the right is told so whatever the dataset is.
    """

    on: On
    right: Right
    url: str
    body: dict[str, Any] = field(default_factory=dict)
    given: int = 200
    right_first: bool = False


NAME, EXEC = "{name:dataset}", "{exec_id:dataset}"
VERSION = "/v1/datasets/{name:dataset}/versions/{version:version}"
FILE = VERSION + "/files/{path:file}"
PETS = "/v1/datasets/pets"
LATEST = PETS + "/versions/latest"
THE_FILE = LATEST + "/files/f.txt"
OBJECT, THE_REF = "/v1/objects/{key:file}", "/v1/objects/refs/pets"
A_PACK = {"key": "packs/" + "0" * 64, "length": 1000, "sha256": "0" * 64}
TAR = bytes(10240)  # an empty archive


def of(right: Right, url: str, **body: Any) -> Row:
    """Return the row of a route about one dataset."""
    return Row(On.DATASET, right, url, body)


ROWS = {
    ("GET", "/healthz"): Row(On.NOTHING, READ, "/healthz"),
    ("GET", "/readyz"): Row(On.ANY, READ, "/readyz"),
    ("GET", "/v1/openapi.json"): Row(On.ANY, READ, "/v1/openapi.json"),
    ("HEAD", "/v1/openapi.json"): Row(On.ANY, READ, "/v1/openapi.json"),
    ("GET", "/v1/datasets"): Row(On.ANY, READ, "/v1/datasets"),
    ("GET", "/metrics"): Row(On.STORE, READ, "/metrics"),
    ("GET", "/v1/stat"): Row(On.STORE, READ, "/v1/stat"),
    ("POST", "/v1/links"): of(READ, "/v1/links", json={"dataset": "pets", "path": "f.txt"}),
    ("GET", FILE): of(READ, THE_FILE),
    ("HEAD", FILE): of(READ, THE_FILE),
    ("PUT", FILE): of(WRITE, THE_FILE, content=b"tom\n"),
    ("GET", VERSION + "/archive.{kind}"): of(READ, LATEST + "/archive.tar"),
    ("HEAD", VERSION + "/archive.{kind}"): of(READ, LATEST + "/archive.tar"),
    ("PUT", f"/v1/datasets/{NAME}/versions/latest/archive.tar"): of(
        WRITE, LATEST + "/archive.tar", content=TAR
    ),
    ("POST", f"/v1/datasets/{NAME}/versions"): of(WRITE, PETS + "/versions", content=TAR),
    ("GET", VERSION): of(READ, LATEST),
    ("GET", VERSION + "/stat"): of(READ, LATEST + "/stat"),
    ("GET", VERSION + "/entries"): of(READ, LATEST + "/entries"),
    ("GET", VERSION + "/diff/{before:version}"): of(READ, LATEST + "/diff/latest"),
    ("DELETE", VERSION): of(ADMIN, LATEST),
    ("GET", f"/v1/datasets/{NAME}/dropped"): of(READ, PETS + "/dropped"),
    ("POST", f"/v1/datasets/{NAME}/undo"): of(ADMIN, PETS + "/undo", json={}),
    ("GET", f"/v1/datasets/{NAME}"): of(READ, PETS),
    ("GET", f"/v1/datasets/{NAME}/stat"): of(READ, PETS + "/stat"),
    ("GET", f"/v1/datasets/{NAME}/versions"): of(READ, PETS + "/versions"),
    ("GET", f"/v1/datasets/{NAME}/tags"): of(READ, PETS + "/tags"),
    ("PUT", f"/v1/datasets/{NAME}/tags/{{tag:version}}"): of(
        WRITE, PETS + "/tags/prod", json={"version": "latest"}
    ),
    ("DELETE", f"/v1/datasets/{NAME}/tags/{{tag:version}}"): of(WRITE, PETS + "/tags/prod"),
    ("GET", f"/artifacts/{EXEC}/download/{{filename:file}}"): of(
        READ, "/artifacts/pets/download/f.txt"
    ),
    ("HEAD", f"/artifacts/{EXEC}/download/{{filename:file}}"): of(
        READ, "/artifacts/pets/download/f.txt"
    ),
    ("PUT", f"/artifacts/{EXEC}/upload/{{filename:file}}"): of(
        WRITE, "/artifacts/pets/upload/f.txt", content=b"tom\n"
    ),
    ("GET", f"/artifacts/{EXEC}"): of(READ, "/artifacts/pets"),
    ("GET", "/v1/server"): Row(On.ANY, READ, "/v1/server"),
    ("GET", "/v1/objects"): Row(On.STORE, READ, "/v1/objects"),  # some of it takes less
    ("GET", OBJECT): of(READ, THE_REF),
    ("HEAD", OBJECT): of(READ, THE_REF),
    ("PUT", OBJECT): Row(On.DATASET, WRITE, THE_REF, {"content": b"x"}, 428, right_first=True),
    ("POST", "/v1/objects:delete"): Row(
        On.STORE, ADMIN, "/v1/objects:delete", {"json": {"keys": ["gc/current"]}}
    ),
    ("POST", "/v1/uploads"): Row(On.ANY, WRITE, "/v1/uploads", {"json": A_PACK}, given=409),
    ("POST", "/v1/chunks:missing"): Row(
        On.DATASET,
        WRITE,
        "/v1/chunks:missing",
        {"json": {"dataset": "pets", "ids": ["0" * 64]}},
        right_first=True,
    ),
}

KINDS = [f"{right.value} of {reach}" for right in Right for reach in ("all", "pets", "others")]
NOBODY = ["nobody", "a made-up token", "an expired token", "a revoked token", "a wrong scheme"]
LINKS = ["a link", "a link to upload", "a changed link", "a link that ended"]


class World:
    """A server, every kind of token and link, and a store whose calls are counted."""

    def __init__(self, folder: Path) -> None:
        file = TokensFile(str(folder / "tokens.json"))
        reach = {"all": ["*"], "pets": ["pets", "team/*"], "others": ["team/*"]}
        self.headers: dict[str, dict[str, str]] = {"nobody": {}}
        for kind in KINDS:
            right, _, which = kind.partition(" of ")
            made = file.create(kind.replace(" ", "-"), Right(right), reach[which])[1]
            self.headers[kind] = {"Authorization": f"Bearer {made}"}
        end = int(time.time()) + 2
        ended = file.create("ended", ADMIN, ["*"], expires=end)[1]
        revoked = file.create("revoked", ADMIN, ["*"])[1]
        file.revoke("revoked")
        for kind, text in (
            ("a made-up token", f"cs_{'0' * 12}_{'0' * 64}"),
            ("an expired token", ended),
            ("a revoked token", revoked),
        ):
            self.headers[kind] = {"Authorization": f"Bearer {text}"}
        self.headers["a wrong scheme"] = {"Authorization": f"Basic {revoked}"}
        key = file.read().link_key
        now = int(time.time())
        self.query = {}
        for kind, right, expires in (
            ("a link", READ, now + 3600),
            ("a link to upload", WRITE, now + 3600),
            ("a changed link", READ, now + 3600),
            ("a link that ended", READ, now - 1),
        ):
            made = links.make(key, "pets", "latest", "f.txt", right=right, expires=expires)
            self.query[kind] = made.partition("?")[2]
        self.query["a changed link"] = self.query["a link"].replace("expires=1", "expires=2")
        Store.create(str(folder / "store")).close()
        self.calls = CountingBackend(open_backend(str(folder / "store")))
        config = Objects(self.calls).read_config()
        self.store = Store(self.calls, config, str(folder / "cache"), DEFAULT_BUDGET)
        self.file = file
        self.server: Served
        self.renew()
        while time.time() < end:
            time.sleep(0.05)

    def renew(self) -> None:
        """Have the dataset be as the rows suppose it."""
        self.store.push(io.BytesIO(b"tom\n"), "pets", name="f.txt", keep=True)
        self.store.push(io.BytesIO(b"tom\n"), "pets", name="outputs/f.txt", keep=True)
        self.store.tag("pets@latest", "prod")

    def ask(self, kind: str, method: str, row: Row, *, url: str | None = None) -> httpx.Response:
        url = url or row.url
        if kind in self.query:
            url += f"?{self.query[kind]}"
        client = self.server.client
        return client.request(method, url, headers=self.headers.get(kind, {}), **row.body)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    with made.store, serving(made.store, tokens=made.file.path) as made.server:
        yield made


def test_every_route_has_its_row(store: Store) -> None:
    """What a route takes is written down before it is served; pages have tests of their own."""
    found = set()
    for route in flat(create_app(store, Settings(tokens="unused")).routes):
        if getattr(route, "include_in_schema", True) or route.path == "/v1/openapi.json":
            found |= {(method, route.path) for method in route.methods}
    assert found == set(ROWS)


def test_every_route_is_documented() -> None:
    """The table of docs/reference/http.md has every route, and no other."""
    found = set()
    for row in rows(REFERENCE / "http.md", "Routes"):
        methods: list[str] = []
        fresh = True  # a path has the methods before it, or those of the path before
        for word in " ".join(codes(row[0])).split():
            if word.isupper():
                methods = [word] if fresh else [*methods, word]
            else:
                found |= {(method, word.partition("?")[0]) for method in methods}
            fresh = not word.isupper()
    declared = {(method, re.sub(r":\w+}", "}", path)) for method, path in ROWS}
    file = re.sub(r":\w+}", "}", FILE)
    latest = ("PUT", file.replace("{version}", "latest"))  # which alone takes files
    assert found == declared - {("HEAD", "/v1/openapi.json"), ("PUT", file)} | {latest}


def expected(kind: str, method: str, row: Row) -> int:
    """Return the status that the table of the documentation gives; 200 for any success."""
    if row.on is On.NOTHING:
        return 200
    if kind in NOBODY:
        return 401
    if kind in LINKS:
        wanted = {"a link": ("GET", "HEAD"), "a link to upload": ("PUT",)}.get(kind, ())
        return 200 if method in wanted and row.url == THE_FILE else 403
    right, _, reach = kind.partition(" of ")
    less = not Right(right).includes(row.right)
    if row.right_first and less:
        return 403
    if row.on is On.DATASET and reach == "others":
        return 404
    if row.on is On.STORE and reach != "all":
        return 403
    return 403 if less else row.given


@pytest.mark.parametrize("kind", [*NOBODY, *LINKS, *KINDS])
def test_every_cell(world: World, kind: str) -> None:
    """Each kind of token gets from each route what the table says, and else changes nothing."""
    for (method, _), row in ROWS.items():
        wanted = expected(kind, method, row)
        if wanted == row.given:
            world.renew()
        before = world.store.dataset("pets")
        answer = world.ask(kind, method, row)
        status = 200 if answer.is_success else answer.status_code
        assert status == wanted, (kind, method, row.url, answer.status_code, answer.text)
        if wanted == 200:
            continue
        assert answer.headers["content-type"] == "application/problem+json"
        assert world.store.dataset("pets") == before
        challenge = answer.headers.get("www-authenticate", "")
        assert challenge.startswith('Bearer realm="chunkstore"') is (
            wanted == 401 or bool(challenge)
        )
        if wanted == 401:
            assert challenge


@pytest.mark.parametrize("kind", ["nobody", "a link", "read of all", "read of others"])
def test_head_is_answered_as_get(world: World, kind: str) -> None:
    """Whoever asks gets status and type of the answer to a GET, no body, and is counted so."""
    for (method, _), row in ROWS.items():
        if method != "GET":
            continue
        got, described = (world.ask(kind, each, row) for each in ("GET", "HEAD"))
        assert described.status_code == got.status_code, row.url
        assert described.headers["content-type"] == got.headers["content-type"]
        assert not described.content
    if kind.startswith("read"):
        metrics = world.ask("read of all", "GET", ROWS["GET", "/metrics"]).text
        assert '{method="HEAD",route="/v1/datasets",status="200"}' in metrics


def test_a_refused_method_is_told_the_others(world: World) -> None:
    """405 names all methods of the path, HEAD wherever there is GET."""
    headers = world.headers["admin of all"]
    for url, methods in ((PETS, "GET, HEAD"), (LATEST, "DELETE, GET, HEAD")):
        answer = world.server.client.post(url, headers=headers)
        world.server.problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == methods


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("others")])
def test_what_a_token_does_not_reach_is_not_there(world: World, kind: str) -> None:
    """A dataset out of reach and one that nobody has give the same answer and the same calls.

    But for the name, byte by byte, in status, headers and body; the storage is asked nothing.
    """
    for (method, _), row in ROWS.items():
        if row.on is not On.DATASET:
            continue
        found = []
        for name in ("pets", "dogs"):
            body = dict(row.body)
            if "json" in body and "dataset" in body["json"]:
                body["json"] = {**body["json"], "dataset": name}
            asked = Row(row.on, row.right, row.url.replace("pets", name), body)
            world.calls.reset()
            answer = world.ask(kind, method, asked)
            headers = {key: value for key, value in answer.headers.items() if key != "date"}
            text = answer.text.replace(name, "NAME")
            found.append((answer.status_code, headers, text, dict(world.calls.requests)))
        there, absent = found
        assert there == absent, (method, row.url)
        assert there[0] == expected(kind, method, row)
        assert not any(there[3].values()), there


def test_a_name_within_reach_gets_no_hint_of_others(world: World) -> None:
    """Of a dataset that is not there a narrow token learns no name of those that are."""
    for name in ("team~pets", "team~pet"):
        answer = world.server.client.get(
            f"/v1/datasets/{name}", headers=world.headers["read of others"]
        )
        assert answer.status_code == 404
        assert answer.json()["hint"] is None


def test_lists_show_what_a_token_reaches(world: World) -> None:
    """The list of datasets has those that a token reaches, and a page of it counts only those."""
    world.store.push(io.BytesIO(b"x"), "team/a", name="f")
    world.store.push(io.BytesIO(b"x"), "zoo", name="f")
    for kind, names in (
        ("read of all", ["pets", "team/a", "zoo"]),
        ("read of pets", ["pets", "team/a"]),
        ("admin of others", ["team/a"]),
    ):
        headers = world.headers[kind]
        client = world.server.client
        assert client.get("/v1/datasets", headers=headers).json()["datasets"] == names
        pages = []
        for after in itertools.chain([""], names[:-1]):
            page = client.get("/v1/datasets", headers=headers, params={"after": after, "limit": 1})
            pages += page.json()["datasets"]
        assert pages == names


def test_no_route_is_there_for_nobody(world: World) -> None:
    """What is no route, or no method of one, is answered to nobody either."""
    for method, url in [("GET", "/"), ("GET", "/v1/x"), ("POST", OPEN + "/x"), ("OPTIONS", PETS)]:
        for kind in NOBODY:
            headers = world.headers[kind]
            answer = world.server.client.request(method, url, headers=headers)
            world.server.problem(answer, 401, "unauthorized")
