"""Bounds of a server: how fast a client may ask, how long a body may be."""

from __future__ import annotations

import itertools
from pathlib import Path

import httpx
import pytest
from chunkstore_api.bounds import LONGEST_DOCUMENT
from chunkstore_api.rates import CLIENTS, Rates
from chunkstore_api.settings import Limits
from chunkstore_api.tokens import Right, TokensFile
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import Store
from chunkstore.errors import InvalidInputError
from tests.api.conftest import FILES, Served, serving


@given(
    rate=st.floats(0.1, 50),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_no_client_is_served_faster_than_the_rate(rate: float, gaps: list[float]) -> None:
    """In any span a client gets at most a burst and the rate times the span; waiting helps."""
    rates = Rates(rate)
    served = []
    for now in itertools.accumulate(gaps):
        wait = rates.wait("a", now)
        if not wait:
            served.append(now)
    for first, last in itertools.combinations(range(len(served)), 2):
        span = served[last] - served[first]
        assert last - first + 1 <= max(1.0, rate) + span * rate + 1e-6
    later = sum(gaps) + rates.wait("a", sum(gaps)) + 1e-3
    assert rates.wait("a", later) <= 1e-3 or rates.wait("a", later + 1 / rate) == 0


def test_clients_are_counted_apart_and_forgotten() -> None:
    """One client's haste is not another's; CLIENTS bounds how many are kept in mind."""
    rates = Rates(1)
    assert rates.wait("a", 0) == 0
    assert rates.wait("a", 0) > 0
    assert rates.wait("b", 0) == 0
    for number in range(CLIENTS + 100):
        rates.wait(str(number), 0)
    assert len(rates) == CLIENTS


def test_who_asks_too_fast_is_told_when_to_come_back(store: Store) -> None:
    """A request over the rate gets 429 with Retry-After."""
    with serving(store, rate=0.01) as served:
        assert served.client.get("/healthz").status_code == 200
        answer = served.client.get("/healthz")
        served.problem(answer, 429, "too_many_requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 100
    with pytest.raises(InvalidInputError):
        Limits(rate=0)


def test_who_is_let_in_by_nothing_is_counted(store: Store, tmp_path: Path) -> None:
    """Requests that are refused get 429 over the rate, and take nothing from tokens and links."""
    file = TokensFile(str(tmp_path / "tokens.json"))
    _, token = file.create("ann", Right.READ, ["*"])
    with serving(store, tokens=file.path, rate=0.01) as served:
        served.problem(served.client.get("/v1/stat"), 401, "unauthorized")
        served.problem(served.client.get("/v1/stat"), 429, "too_many_requests")
        mine = {"Authorization": f"Bearer {token}"}
        assert served.client.get("/v1/stat", headers=mine).status_code == 200
        served.problem(served.client.get("/v1/stat", headers=mine), 429, "too_many_requests")
        assert served.client.get("/healthz").status_code == 200
    with serving(store, rate=0.01) as served:
        evil = {"Host": "evil.example"}
        served.problem(served.client.get("/healthz", headers=evil), 403, "forbidden")
        served.problem(served.client.get("/healthz", headers=evil), 429, "too_many_requests")


def test_upload_size(store: Store) -> None:
    """An upload over the bound gets 413, by its length or as it comes, and makes no version."""
    with serving(store, upload_size=1000) as served:
        for body in (b"x" * 1001, iter([b"x" * 1001])):
            served.problem(served.client.put(f"{FILES}/a", content=body), 413, "too_large")
        assert store.datasets() == []
        assert served.client.put(f"{FILES}/a", content=b"x" * 1000).status_code == 201


def test_longest_document(shared: Served) -> None:
    """A JSON body over LONGEST_DOCUMENT gets 413 while it comes; uploads may be longer."""
    shared.client.put(f"{FILES}/a", content=bytes(2 * LONGEST_DOCUMENT))
    assert shared.file("a").headers["content-length"] == str(2 * LONGEST_DOCUMENT)
    body = b'{"version":"' + b"1" * LONGEST_DOCUMENT + b'"}'
    for content in (body, iter([body[:1000], body[1000:]])):
        answer: httpx.Response = shared.client.put(
            "/v1/datasets/pets/tags/prod",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        shared.problem(answer, 413, "too_large")
