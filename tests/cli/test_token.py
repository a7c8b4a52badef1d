"""`chunkstore token`: tokens are made, listed and revoked."""

from __future__ import annotations

import subprocess
import sys

from chunkstore_api.tokens import TokensFile

from tests.cli.conftest import Place


def test_a_token_is_printed_once(place: Place) -> None:
    """`create` prints what the file takes for a token; `list` and the file have none of it."""
    place.variable("CHUNKSTORE_TOKENS", "./t.json")
    text = place.well("token", "create", "ann", "--right", "write", "--expires", "1h").text.strip()
    token = TokensFile("./t.json").read().find(text, 0)
    assert token is not None
    assert token.expires == token.created + 3600
    secret = text.rpartition("_")[2]
    shown = place.well("token", "list").text + place.well("token", "list", "--json").text
    assert "ann" in shown
    assert secret not in shown
    assert secret not in (place.folder / "t.json").read_text()
    assert place.well("token", "revoke", "ann", "-q").text.strip() == token.id
    assert TokensFile("./t.json").read().find(text, 0) is None


def test_what_can_be_no_token_is_said(place: Place) -> None:
    """No file, a name that is taken, a pattern and a time that are none have their statuses."""
    assert place.run("token", "list").status == 2
    place.variable("CHUNKSTORE_TOKENS", "./t.json")
    assert place.run("token", "list").status == 4
    place.well("token", "create", "ann")
    assert place.run("token", "create", "ann").status == 5
    assert place.run("token", "create", "bob", "--dataset", "A?").status == 2
    assert place.run("token", "create", "bob", "--expires", "soon").status == 2
    assert place.run("token", "create", "bob", "--expires", "0s").status == 2
    assert place.run("token", "create", "bob", "--expires", "999999w").status == 2
    assert place.run("token", "revoke", "bob").status == 4
    (place.folder / "t.json").chmod(0o644)
    assert place.run("token", "list").status == 5


def test_tokens_need_no_web_framework() -> None:
    """The verb works without the packages of the extra `api`."""
    code = "import chunkstore_cli.commands.token, sys; sys.exit('starlette' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
