"""A storage that fails for a while, or now and then, costs time and nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from chunkstore import BackendError, S3Options, Store
from chunkstore.limits import MIB
from chunkstore.testing import servers
from chunkstore.testing.fault_proxy import fault_proxy
from chunkstore.testing.trees import make_tree, tree_state, write_mixture
from tests.conftest import NO_MINIO


@pytest.fixture(params=["seaweedfs", "minio"])
def own_server(request: pytest.FixtureRequest) -> object:
    """A server of the test's own, which it may stop."""
    if request.param == "minio" and servers.minio_program() is None:
        pytest.skip(NO_MINIO)
    with getattr(servers, request.param)() as server:
        server.make_bucket("tests")
        yield server


def test_a_server_that_is_away_for_a_while_is_waited_for(
    own_server: servers.Server, tmp_path: Path
) -> None:
    """Stopped for 10 s in mid-push and mid-pull and started again: both finish without help."""
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    write_mixture(tree / "big", 300 * MIB, 1)
    url, options, cache = own_server.store_url("tests", "a"), own_server.options, tmp_path / "c"
    with Store.create(url, s3=options, cache_folder=cache) as store:
        with _outage(own_server, after=0.5, seconds=10) as happened:
            result = store.push(tree, "data")
        assert happened.wait(0)
        assert result.version == 1
        with _outage(own_server, after=0.2, seconds=10) as happened:
            store.pull("data", out)
        assert happened.wait(0)
    assert tree_state(out) == tree_state(tree)


class _outage:  # noqa: N801  # used like a function
    """Stop a server some time after the block begins, and start it again."""

    def __init__(self, server: servers.Server, *, after: float, seconds: float) -> None:
        self._happened = threading.Event()

        def run() -> None:
            time.sleep(after)
            server.stop()
            self._happened.set()
            time.sleep(seconds)
            server.start()

        self._thread = threading.Thread(target=run)

    def __enter__(self) -> threading.Event:
        self._thread.start()
        return self._happened

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@pytest.mark.parametrize("name", ["seaweedfs", "minio"])
def test_one_request_in_twenty_may_fail(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """20 pushes and pulls through a bad line: equal files, no version doubled or missing."""
    server: servers.Server = request.getfixturevalue(name)
    tree = make_tree(tmp_path / "tree")
    prefix = f"line-{tmp_path.name}"
    Store.create(server.store_url("tests", prefix), s3=server.options, pack_length=2 * MIB).close()
    with fault_proxy(server.port, share=0.05, seed=7) as proxy:
        options = S3Options(
            endpoint=proxy.endpoint, region="us-east-1", credentials=server.options.credentials
        )
        for number in range(20):
            make_tree(tree, seed=number + 2, files=4)
            cache = tmp_path / f"cache-{number % 3}"
            url = f"s3://tests/{prefix}"
            with Store.open(url, s3=options, cache_folder=cache, deadline=60) as store:
                result = store.push(tree, "data")
                assert result.version == number + 1
                store.pull("data", tmp_path / "out", delete=True)
            assert tree_state(tmp_path / "out") == tree_state(tree)
        assert sum(proxy.injected.values()) > 10
    with Store.open(server.store_url("tests", prefix), s3=server.options) as store:
        assert [v.number for v in store.dataset("data").versions] == list(range(1, 21))


def test_a_server_that_is_away_for_good_is_named(tmp_path: Path) -> None:
    """Within the deadline there is an error with the address and what to do."""
    (port,) = servers.free_ports(1)
    options = S3Options(
        endpoint=f"http://127.0.0.1:{port}",
        credentials=servers.Credentials("a", "b"),
        region="us-east-1",
    )
    started = time.monotonic()
    with pytest.raises(BackendError, match=str(port)) as caught:
        Store.open("s3://tests/x", s3=options, deadline=2)
    assert caught.value.hint is not None
    assert time.monotonic() - started < 30  # no bound on speed: it ends at all
