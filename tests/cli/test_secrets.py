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
    "copy pets {store}:other",
    "copy : {store}:",
    "tag pets@1 prod",
    "tag --delete pets@nothing",
    "rm pets@1 --yes",
    "undo pets --list",
    "gc --json",
    "verify",
    "repair --yes",
    "link pets:a.txt --server http://127.0.0.1:1",
    "serve --host none.invalid --port 0",
    "doctor",
    "completion bash",
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

    def found(self, *secrets: str) -> list[str]:
        """Return what stands around each secret in it, of which there is much."""
        format_it = logging.Formatter().format  # tracebacks, too
        ours = [r for r in self._caplog.records if not r.name.startswith(("httpx", "httpcore"))]
        text = "\n".join([*self._texts, *map(format_it, ours)])
        assert len(text) > 1000
        return [
            text[max(0, text.index(secret) - 500) :][:1000] for secret in secrets if secret in text
        ]


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
        plain = words[0] in ("init", "remote", "completion")
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
    assert told.found(text, text.rpartition("_")[2], MADE_UP) == []


def test_keys_of_a_storage(place: Place, told: Told, seaweedfs: servers.Server) -> None:
    """The secret key of a bucket, right or wrong, is told by no verb, with debugging on."""
    place.variable("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    store = seaweedfs.store_url("tests", f"secrets-{place.folder.parent.name}")
    for key, verbs in ((servers.SECRET_KEY, VERBS), (WRONG_KEY, SOME)):
        place.variable("AWS_SECRET_ACCESS_KEY", key)
        every_verb(place, told, store, verbs)
    assert told.found(servers.SECRET_KEY, WRONG_KEY) == []


def test_secrets_in_addresses(place: Place, told: Told) -> None:
    """An address that holds a secret is refused, and not repeated."""
    for store in (
        f"s3://key:{MADE_UP}@bucket/x",
        f"http://user:{MADE_UP}@127.0.0.1:1",
        f"http://127.0.0.1:1/?token={MADE_UP}",
        f"s3://bucket/x?endpoint=http://a:{MADE_UP}@127.0.0.1:1",
    ):
        every_verb(place, told, store, SOME)
    assert told.found(MADE_UP) == []


def test_a_server_tells_none(place: Place, told: Told, guarded: tuple[Served, TokensFile]) -> None:
    """Tokens, links and their key are in no log and no answer of a server, whatever it is sent."""
    served, file = guarded
    text = file.create("ann", Right.ADMIN, ["*"])[1]
    place.variable("CHUNKSTORE_TOKENS", file.path)
    served.store.push(io.BytesIO(b"tom\n"), "pets", name="a")
    link = place.well("link", "pets:a", "--debug", "--server", served.address).text.strip()
    signature = link.rpartition("=")[2]
    client = served.client
    bearer = {"Authorization": f"Bearer {text}"}
    url = "/v1/datasets/pets/versions/latest/files/a"
    for method, where, more in (
        ("GET", link, {}),
        ("PUT", link, {"content": b"x"}),
        ("GET", link + "x", {}),
        ("GET", link.replace("/a?", "/b?"), {}),
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
    made = place.well("token", "create", "bob", "--debug")
    told.answer(client.get(url, headers={"Authorization": f"Bearer {made.text.strip()}"}))
    for line in ("list --debug", "list --json", "create bob --debug", "revoke bob --debug"):
        told.keep(place.run("token", *line.split()))
    bob = made.text.strip().rpartition("_")[2]
    assert bob not in made.errors
    Path(file.path).chmod(0o644)
    told.answer(client.get(url, headers=bearer))
    assert told.found(text.rpartition("_")[2], MADE_UP, bob, signature, file_key(file)) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
def test_the_list_of_processes(place: Place, guarded: tuple[Served, TokensFile]) -> None:
    """Whoever sees the lines of all processes sees no secret in chunkstore's nor its command's."""
    served, file = guarded
    text = file.create("ann", Right.ADMIN, ["*"])[1]
    place.variable("CHUNKSTORE_TOKEN", text)
    place.variable("AWS_SECRET_ACCESS_KEY", WRONG_KEY)
    place.file("data/a", "tom\n")
    place.well("push", "data", "pets", "--store", served.address)
    script = "cat /proc/$PPID/cmdline /proc/$$/cmdline"
    ended = place.start(
        "run", "--store", served.address, "--in", "pets=in", "--", "sh", "-c", script
    )
    assert ended.status == 0, ended
    assert ended.output.count(b"--store\0") == 1  # its own line, then that of its command
    assert ended.output.count(script.encode()) == 2
    assert [secret for secret in (text, WRONG_KEY) if secret.encode() in ended.output] == []


def file_key(file: TokensFile) -> str:
    """Return the key of links, as the file has it."""
    Path(file.path).chmod(0o600)
    return file.read().link_key.hex()
