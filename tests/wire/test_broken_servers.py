"""Servers that are killed, answers that are lost: what was moved is not moved again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chunkstore_api.tokens import Right

from bench.sites import Site
from chunkstore import ConflictError, HttpOptions, Store, UnavailableError
from chunkstore.limits import MIB
from chunkstore.testing.fault_proxy import fault_proxy
from chunkstore.testing.line import Answer, Line, Request, running
from chunkstore.testing.trees import make_tree, random_bytes, tree_state
from tests.api.conftest import tokens_file
from tests.conftest import Place
from tests.wire.server_process import ServerProcess, server_process

FILES = 6
FILE = 4 * MIB
PACK = 2 * MIB


class Meter(Line):
    """A line that counts bytes of packs, and does something once at a chosen request."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.bytes: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.at: tuple[str, int] | None = None
        self.then: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def handle(self, request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
        """Pass everything on; at the chosen request act, and end the connection."""
        is_pack = "/packs/" in request.path
        with self._lock:
            self.requests[request.method] += is_pack
            now = is_pack and self.at == (request.method, self.requests[request.method])
            if now:
                self.at = None
        if now:
            self.then()
            return None
        try:
            answer = forward(request)
        except OSError:
            return None  # nobody is there
        if is_pack and answer.status < 300:
            with self._lock:
                moved = answer.body if request.method == "GET" else request.body
                self.bytes[request.method] += len(moved)
        return answer


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "tree"
    root.mkdir()
    for number in range(FILES):
        (root / f"{number}.bin").write_bytes(random_bytes(FILE, number))
    return root


@pytest.fixture
def server(local: Place, tmp_path: Path) -> Iterator[ServerProcess]:
    local.create(pack_length=PACK).close()
    with server_process(local.url, tmp_path) as started:
        yield started


@pytest.fixture
def meter(server: ServerProcess) -> Iterator[Meter]:
    with running(Meter(server.port)) as line:
        yield line


def opened(meter: Line, cache: Path, deadline: float = 60, token: str | None = None) -> Store:
    http = HttpOptions(token=token)
    return Store.open(meter.endpoint, cache_folder=cache, deadline=deadline, http=http)


def test_a_server_that_is_killed_and_comes_back(
    server: ServerProcess, meter: Meter, tree: Path, tmp_path: Path
) -> None:
    """A push and a pull wait for a killed server; only what was on its way moves twice."""

    def again() -> None:
        server.kill()
        server.start()

    meter.at, meter.then = ("PUT", 4), again
    with opened(meter, tmp_path / "cache") as store:
        result = store.push(tree, "data")
        assert meter.at is None
        sent = result.stats.sent_bytes
        assert meter.bytes["PUT"] <= sent + 2 * PACK  # two packs go at once
        meter.at = ("GET", meter.requests["GET"] + 3)
        pulled = store.pull("data", tmp_path / "out")
        assert meter.at is None
        assert meter.bytes["GET"] <= pulled.stats.fetched_bytes * 2
        assert tree_state(tmp_path / "out") == tree_state(tree)
        assert [version.number for version in store.dataset("data").versions] == [1]


@pytest.mark.parametrize(("datasets", "gone"), [("*", False), ("team/*", False), ("team/*", True)])
def test_the_same_push_again(
    local: Place, tree: Path, tmp_path: Path, datasets: str, gone: bool
) -> None:
    """A push that gave up sends, when it is run again, nothing that the server had taken.

    It had no time to list any of it. Where that is gone meanwhile, it sends that as well.
    """
    local.create(pack_length=PACK).close()
    file, tokens = tokens_file(tmp_path, mine=(Right.WRITE, datasets))
    with (
        server_process(local.url, tmp_path, "--tokens", file.path) as server,
        running(Meter(server.port)) as meter,
        opened(meter, tmp_path / "cache", deadline=1, token=tokens["mine"]) as store,
    ):
        meter.at, meter.then = ("PUT", 9), server.kill
        with pytest.raises(UnavailableError) as caught:
            store.push(tree, "team/data")
        assert "run the same command again" in (caught.value.hint or "")
        taken = meter.bytes["PUT"]
        assert taken >= 6 * PACK
        if gone:
            with local.open() as behind:
                objects = behind.objects.backend
                objects.delete([info.key for info in objects.list("packs/")])
        server.start()
        again = store.push(tree, "team/data")
        assert again.version == 1
        lost = taken if gone else 0
        assert again.stats.new_bytes <= FILES * FILE - taken + lost + MIB
        assert meter.bytes["PUT"] <= FILES * FILE + lost + MIB
        store.pull("team/data", tmp_path / "out")
    assert tree_state(tmp_path / "out") == tree_state(tree)


def test_the_same_push_again_after_a_kill(meter: Meter, tree: Path, tmp_path: Path) -> None:
    """A push that was killed loses no more than the packs that were on their way, two at once."""
    site = Site(meter.endpoint, None, tmp_path / "cache")
    child = site.start("push", str(tree), "data")
    meter.at, meter.then = ("PUT", 9), child.kill
    child.communicate()
    assert child.returncode < 0
    assert meter.bytes["PUT"] >= 6 * PACK
    with site.open() as store:
        again = store.push(tree, "data")
        assert again.version == 1
        assert meter.bytes["PUT"] <= FILES * FILE + 2 * PACK + MIB
        assert not store.push(tree, "data").stats.sent_bytes


def test_the_same_pull_again(
    server: ServerProcess, meter: Meter, tree: Path, tmp_path: Path
) -> None:
    """A pull that gave up fetches, when it is run again, what the target lacks, and no more."""
    with opened(meter, tmp_path / "cache", deadline=1) as store:
        store.push(tree, "data")
        whole = store.pull("data", tmp_path / "whole").stats.fetched_bytes
        before = meter.bytes["GET"]
        meter.at, meter.then = ("GET", meter.requests["GET"] + 18), server.kill
        with pytest.raises(UnavailableError):
            store.pull("data", tmp_path / "out")
        server.start()
        again = store.pull("data", tmp_path / "out").stats
        assert again.reused_bytes > 0
        assert meter.bytes["GET"] - before <= whole + 4 * 4 * MIB  # four spans at once
        assert tree_state(tmp_path / "out") == tree_state(tree)


def test_lost_answers_and_cut_connections(local: Place, tmp_path: Path) -> None:
    """Behind a line that loses a fifth of all it carries, every command does its work once."""
    tree = make_tree(tmp_path / "tree")
    local.create().close()
    with (
        server_process(local.url, tmp_path) as server,
        fault_proxy(server.port, share=0.2, seed=7) as line,
    ):
        with Store.open(line.endpoint, cache_folder=tmp_path / "cache") as store:
            for number in range(1, 5):
                (tree / "new.bin").write_bytes(random_bytes(200_000, number))
                assert store.push(tree, "data", tags=["newest"]).version == number
                store.pull("data@newest", tmp_path / "out", delete=True)
                assert tree_state(tmp_path / "out") == tree_state(tree)
            assert [v.number for v in store.remove("data", [1])] == [1]
        assert sum(line.injected.values()) > 10
    with local.open() as store:
        assert [version.number for version in store.dataset("data").versions] == [2, 3, 4]


def test_two_servers_of_one_store(local: Place, tmp_path: Path) -> None:
    """Requests that go to two servers by turns are served as by one."""
    tree = make_tree(tmp_path / "tree")
    local.create(pack_length=MIB).close()

    class Turns(Line):
        turn = 0

        def handle(self, request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
            self.turn += 1
            self.port = ports[self.turn % 2]
            return forward(request)

    (tmp_path / "b").mkdir()
    with (
        server_process(local.url, tmp_path) as one,
        server_process(local.url, tmp_path / "b") as two,
    ):
        ports = (one.port, two.port)
        with running(Turns(one.port)) as line:
            with opened(line, tmp_path / "cache") as store:
                for number in (1, 2):
                    (tree / "new.bin").write_bytes(random_bytes(2_000_000, number))
                    assert store.push(tree, "data").version == number
                    store.tag(f"data@{number}", "newest")
                store.pull("data@newest", tmp_path / "out")
                assert tree_state(tmp_path / "out") == tree_state(tree)
                with pytest.raises(ConflictError):
                    store.push(tree / "new.bin", "data", expect="1")
            assert line.turn > 20
