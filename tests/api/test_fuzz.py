"""schemathesis over the OpenAPI document: nothing fails, and nothing is answered that it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import Store
from chunkstore.testing.trees import make_tree
from tests.api.conftest import serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)
"""Not those of `Allow`: a dataset's name may have slashes, so paths have more methods than it sees;
nor those which take a schema for all that makes a name or version right."""


@pytest.mark.parametrize("examples", [8, pytest.param(300, marks=pytest.mark.large)])
@pytest.mark.timeout(0)
def test_nothing_undocumented_is_answered(store: Store, tmp_path: Path, examples: int) -> None:
    """Requests made from the document, right and wrong, get documented answers and never a 5xx."""
    for _ in range(2):
        store.push(str(make_tree(tmp_path / "tree")), "imagenet", tags=["prod"])
    (tmp_path / "tree" / "more").write_text("more\n")
    store.push(str(tmp_path / "tree"), "imagenet")
    file = TokensFile(str(tmp_path / "tokens.json"))
    _, token = file.create("fuzz", Right.ADMIN, ["*"])
    with serving(store, tokens=file.path) as served:
        command = [
            *(str(Path(sys.executable).parent / "schemathesis"), "run"),
            f"{served.address}/v1/openapi.json",
            *("--header", f"Authorization: Bearer {token}", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
            *("--checks", ",".join(CHECKS), "--continue-on-failure"),
        ]
        variables = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.api.fuzz_hooks",
            "PYTHONPATH": f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}",
        }
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert store.datasets()
