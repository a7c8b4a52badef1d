"""Refs that clients send say nothing of dropped versions but what is so."""

from __future__ import annotations

import pytest

from chunkstore.format.ref import DroppedVersion, encode_ref
from tests.api.conftest import Served
from tests.api.forging import follow, put
from tests.api.test_commits import Dataset


@pytest.fixture
def dataset(shared: Served) -> Dataset:
    """A new dataset of the shared server."""
    return Dataset(shared)


def test_dropped_versions_come_back_as_they_were(dataset: Dataset) -> None:
    """A ref keeps what was dropped, invents nothing there, and takes it back with its number."""
    ref, version = dataset.now
    (record,) = ref.versions
    away = follow(ref, versions=(), dropped=(DroppedVersion(record, 5, ()),))
    assert put(dataset.served.client, dataset.key, encode_ref(away), version).status_code == 200
    dataset.takes(dataset.draft())
    now, version = dataset.now
    assert now.dropped == away.dropped
    changed = record._replace(message="x")
    unknown = record._replace(number=2, message="y")
    invented = (DroppedVersion(record, 5, ()), DroppedVersion(unknown, 5, ()))
    for wrong in (
        follow(now, dropped=(DroppedVersion(changed, 5, ()),)),
        follow(now, versions=now.versions[1:], dropped=invented),
        follow(now, versions=(changed, *now.versions), dropped=()),
    ):
        dataset.refuses(wrong, 422, "invalid_object")
    back = follow(now, versions=(record, *now.versions), dropped=())
    assert put(dataset.served.client, dataset.key, encode_ref(back), version).status_code == 200
    assert [each.number for each in dataset.now[0].versions] == [1, 2]
