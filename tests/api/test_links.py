"""Links open one file or one upload, and nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunkstore_api import links
from chunkstore_api.tokens import Right, Tokens
from hypothesis import given
from hypothesis import strategies as st

from tests.api.test_tokens import Guarded, guarded_in

KEY = bytes(32)
NONE = Tokens(KEY, {})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_in(tmp_path_factory.mktemp("links")) as found:
        yield found


def link(guarded: Guarded, path: str, *, upload: bool = False, seconds: int = 600) -> str:
    """Return path and query of a link into `team/a`, as the key's owner makes it."""
    right = Right.WRITE if upload else Right.READ
    expires = int(time.time()) + seconds
    key = guarded.file.read().link_key
    return links.make(key, "team/a", "latest", path, right=right, expires=expires)


def test_curl_needs_nothing_but_the_link(guarded: Guarded, tmp_path: Path) -> None:
    """Plain curl puts a file and gets it, whole and in part, by links."""
    source = tmp_path / "new"
    source.write_bytes(bytes(range(256)) * 1000)
    name = "a b/ü%3F?#.bin"
    curl = ["curl", "--silent", "--fail", "--max-time", "60"]
    address = guarded.server.address
    put = address + link(guarded, name, upload=True)
    subprocess.run([*curl, "--upload-file", str(source), put], check=True, capture_output=True)
    get = [*curl, address + link(guarded, name)]
    assert subprocess.run(get, check=True, capture_output=True).stdout == source.read_bytes()
    part = subprocess.run([*get, "--range", "5-9"], check=True, capture_output=True).stdout
    assert part == source.read_bytes()[5:10]
    assert guarded.server.client.head(link(guarded, name)).status_code == 200


def test_a_link_opens_nothing_else(guarded: Guarded) -> None:
    """Another method, dataset, version, path, end, maker, parameter or signature is refused."""
    client, server = guarded.server.client, guarded.server
    made = link(guarded, "f.txt")
    assert client.get(made).content == b"tom\n"
    assert client.get(made.replace("signature=", "signature=0")).status_code == 403
    for old, new in (
        ("team~a", "pets"),
        ("team~a", "team%2Fa"),
        ("latest", "1"),
        ("f.txt", "g.txt"),
        ("/files/f.txt", "/archive.tar"),
        ("/files/f.txt", ""),
        ("cs-expires=", "cs-expires=9"),
        ("cs-by=", "cs-by=000000000000"),
        ("?", "?x=1&"),
        ("cs-by=&", ""),
    ):
        assert old in made
        server.problem(client.get(made.replace(old, new)), 403, "forbidden")
    server.problem(client.get(made + "&tag=prod"), 403, "forbidden")
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        server.problem(client.request(method, made, content=b"x"), 403, "forbidden")
    put = link(guarded, "f.txt", upload=True)
    for method in ("GET", "POST", "DELETE"):
        server.problem(client.request(method, put), 403, "forbidden")
    server.problem(client.put(put + "&tag=prod", content=b"x"), 403, "forbidden")


def test_a_link_ends(guarded: Guarded) -> None:
    """A link whose end is past is refused, and so is one of another key."""
    client, server = guarded.server.client, guarded.server
    server.problem(client.get(link(guarded, "f.txt", seconds=-1)), 403, "forbidden")
    soon = int(time.time()) + 600
    other = links.make(KEY, "team/a", "latest", "f.txt", right=Right.READ, expires=soon)
    server.problem(client.get(other), 403, "forbidden")


def test_the_route_makes_links_for_those_who_may(guarded: Guarded) -> None:
    """A token makes links as far as it goes; they end with it."""
    made = guarded.file.create("maker", Right.READ, ["team/*"], expires=int(time.time()) + 60)
    body = {"dataset": "team/a", "path": "f.txt"}
    answer = guarded.ask(made[1], "POST", "/v1/links", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["expires"] == made[0].expires
    client, server = guarded.server.client, guarded.server
    assert client.get(answer.json()["url"]).content == b"tom\n"
    for more, status, code in (
        ({"upload": True}, 403, "forbidden"),
        ({"dataset": "pets"}, 404, "not_found"),
        ({"dataset": "dogs"}, 404, "not_found"),
        ({"seconds": links.LONGEST + 1}, 400, "invalid_input"),
        ({"seconds": 0}, 400, "invalid_input"),
        ({"path": "/"}, 400, "invalid_input"),
    ):
        refused = guarded.ask(made[1], "POST", "/v1/links", json={**body, **more})
        server.problem(refused, status, code)
    guarded.file.revoke("maker")
    server.problem(client.get(answer.json()["url"]), 403, "forbidden")


def test_a_link_does_not_tell_of_other_names(guarded: Guarded) -> None:
    """What is not there is answered to who has a link without names that are."""
    soon = int(time.time()) + 600
    key = guarded.file.read().link_key
    absent = links.make(key, "pet", "latest", "f.txt", right=Right.READ, expires=soon)
    problem = guarded.server.problem(guarded.server.client.get(absent), 404, "not_found")
    assert problem["hint"] is None


@given(
    one=st.tuples(st.text(min_size=1), st.sampled_from(list(Right)[:2]), st.integers(1, 10**9)),
    two=st.tuples(st.text(min_size=1), st.sampled_from(list(Right)[:2]), st.integers(1, 10**9)),
)
def test_a_signature_is_of_one_thing(
    one: tuple[str, Right, int], two: tuple[str, Right, int]
) -> None:
    """What was signed for one method, path and end opens only these."""
    path, right, expires = one
    if not path.strip("/"):
        return
    query = links.make(KEY, "a", "latest", path, right=right, expires=expires).partition("?")[2]
    other, method, now = two[0], {Right.READ: "GET", Right.WRITE: "PUT"}[two[1]], two[2]
    where = f"/v1/datasets/a/versions/latest/files/{other.strip('/')}"
    good = (other.strip("/"), two[1]) == (path.strip("/"), right) and now < expires
    try:
        links.opened(NONE, method, where, query.encode(), now)
    except links.BadLinkError:
        assert not good
    else:
        assert good
