"""Every page is tried out as it stands, from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ENDPOINT, ROOT, blocks, needs_server, pages
from tests.docs.session import Session


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Commands, output, exit statuses and Python of a page are what really happens."""
    found = blocks(page.read_text())
    endpoint = request.getfixturevalue("endpoint") if needs_server(found) else ENDPOINT
    with Session(str(page.relative_to(ROOT)), tmp_path, endpoint) as session:
        for block in found:
            session.run(block)
