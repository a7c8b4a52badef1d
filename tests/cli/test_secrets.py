"""No secret is told: whatever fails, nothing that is printed, logged or answered has one."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import Store
from chunkstore.testing import servers
from tests.api.conftest import Served, serving
from tests.cli.conftest import Ended, Place

MADE_UP = "e" * 64
WRONG_KEY = "wrong-and-secret-0123456789abcdef"
VERBS = (
    "init {store}",
    "push {data} pets -m first",
    "push {data} pets --dry-run",
    "push {data} UPPER",
    "pull pets copy",
    "pull nothing copy",
    "status {data} pets",
    "cat pets:a.txt",
    "cat pets:none",
    "ls",
    "ls pets",
    "log pets",
    "diff pets@1 pets@latest",
    "stat pets",
    "stat",
    "tag pets@1 prod",
    "tag --delete pets@nothing",
    "rm pets@1 --yes",
    "gc --json",
    "verify",
    "doctor",
    "remote add there {store}",
    "remote list",
    "remote remove there",
    "run --in pets=inside -- cat inside/a.txt",
)

SOME = [each for each in VERBS if each.split()[0] in ("init", "push", "ls", "doctor", "remote")]


class Told:
    """All that was printed, logged and answered."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._texts: list[str] = []

    def keep(self, *ended: Ended) -> None:
        for each in ended:
            self._texts += [each.text, each.errors]

    def answer(self, answer: httpx.Response) -> None:
        self._texts += [answer.text, str(answer.headers)]

    def check(self, *secrets: str) -> None:
        """Check that no secret is in it, and that it is not empty."""
        format_it = logging.Formatter().format  # tracebacks, too
        ours = [r for r in self._caplog.records if not r.name.startswith(("httpx", "httpcore"))]
        text = "\n".join([*self._texts, *map(format_it, ours)])
        assert len(text) > 1000
        for secret in secrets:
            assert secret not in text, text[max(0, text.index(secret) - 500) :][:1000]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.DEBUG)
    return Told(caplog)


@pytest.fixture
def guarded(place: Place) -> Iterator[tuple[Served, TokensFile]]:
    """A server with tokens on a store of a folder."""
    file = TokensFile(str(place.folder.parent / "tokens.json"))
    cache = place.folder.parent / "server"
    with Store.create(str(place.folder.parent / "served"), cache_folder=cache) as store:
        file.create("first", Right.READ, ["*"])
        with serving(store, tokens=file.path) as served:
            yield served, file


def every_verb(place: Place, told: Told, store: str, verbs: Sequence[str] = VERBS) -> None:
    """Run each verb with a store and --debug."""
    data = place.folder / "data"
    data.mkdir(exist_ok=True)
    (data / "a.txt").write_text("miaow\n")
    for line in verbs:
        words = [word.format(store=store, data=data) for word in line.split()]
        plain = words[0] in ("init", "remote")
        options = ["--debug"] if plain else ["--debug", "--store", store]
        at = words.index("--") if "--" in words else len(words)
        told.keep(place.run(*words[:at], *options, *words[at:]))


def test_tokens(place: Place, told: Told, guarded: tuple[Served, TokensFile]) -> None:
    """A token, right, made up or of another form, is told by no verb, with debugging on."""
    served, file = guarded
    text = file.create("ann", Right.ADMIN, ["*"])[1]
    for token in (text, f"cs_{'1' * 12}_{MADE_UP}", f"bad token {MADE_UP}", f"ü{MADE_UP}"):
        place.variable("CHUNKSTORE_TOKEN", token)
        every_verb(place, told, served.address, VERBS if token == text else SOME)
    place.variable("CHUNKSTORE_TOKEN", "")
    held = place.file("token", f"{text} {MADE_UP}\n")
    held.chmod(0o600)
    place.variable("CHUNKSTORE_TOKEN_FILE", str(held))
    every_verb(place, told, served.address, SOME)
    told.check(text, text.rpartition("_")[2], MADE_UP)


def test_keys_of_a_storage(place: Place, told: Told, seaweedfs: servers.Server) -> None:
    """The secret key of a bucket, right or wrong, is told by no verb, with debugging on."""
    place.variable("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    store = seaweedfs.store_url("tests", f"secrets-{place.folder.parent.name}")
    for key, verbs in ((servers.SECRET_KEY, VERBS), (WRONG_KEY, SOME)):
        place.variable("AWS_SECRET_ACCESS_KEY", key)
        every_verb(place, told, store, verbs)
    told.check(servers.SECRET_KEY, WRONG_KEY)


def test_secrets_in_addresses(place: Place, told: Told) -> None:
    """An address that holds a secret is refused, and not repeated."""
    for store in (
        f"s3://key:{MADE_UP}@bucket/x",
        f"http://user:{MADE_UP}@127.0.0.1:1",
        f"http://127.0.0.1:1/?token={MADE_UP}",
        f"s3://bucket/x?endpoint=http://a:{MADE_UP}@127.0.0.1:1",
    ):
        every_verb(place, told, store, SOME)
    told.check(MADE_UP)


def test_a_server_tells_none(place: Place, told: Told, guarded: tuple[Served, TokensFile]) -> None:
    """Tokens, links and their key are in no log and no answer of a server, whatever it is sent."""
    served, file = guarded
    text = file.create("ann", Right.ADMIN, ["*"])[1]
    place.variable("CHUNKSTORE_TOKENS", file.path)
    served.store.push(io.BytesIO(b"tom\n"), "pets", name="a")
    made = place.well("link", "pets:a", "--debug", "--server", served.address).text.strip()
    signature = made.rpartition("=")[2]
    client = served.client
    bearer = {"Authorization": f"Bearer {text}"}
    url = "/v1/datasets/pets/versions/latest/files/a"
    for method, where, more in (
        ("GET", made, {}),
        ("PUT", made, {"content": b"x"}),
        ("GET", made + "x", {}),
        ("GET", made.replace("/a?", "/b?"), {}),
        ("GET", url, {"headers": bearer}),
        ("PUT", url, {"headers": {**bearer, "Content-Encoding": "gzip"}, "content": b"no gzip"}),
        ("GET", f"/v1/datasets/{text}", {"headers": {"Authorization": f"Basic {text}"}}),
        ("GET", url, {"headers": {"Authorization": f"Bearer cs_{'1' * 12}_{MADE_UP}"}}),
        ("POST", "/v1/links", {"headers": bearer, "content": b"{"}),
        ("POST", "/v1/links", {"headers": bearer, "json": {"dataset": "Pets", "path": ""}}),
        ("PUT", "/v1/objects/refs/pets", {"headers": bearer, "content": b"x"}),
        ("GET", "/metrics", {"headers": bearer}),
        ("GET", "/v1/server", {"headers": bearer}),
    ):
        told.answer(client.request(method, where, **more))
    told.keep(place.well("token", "list", "--debug"), place.well("token", "list", "--json"))
    Path(file.path).chmod(0o644)
    told.answer(client.get(url, headers=bearer))
    told.check(text.rpartition("_")[2], MADE_UP, signature, file_key(file))


def file_key(file: TokensFile) -> str:
    """Return the key of links, as the file has it."""
    Path(file.path).chmod(0o600)
    return file.read().link_key.hex()
