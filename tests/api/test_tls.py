"""A server with a certificate."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import httpx
import pytest

from chunkstore import Store
from chunkstore.testing import servers
from tests.api.processes import process

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def test_a_certificate_of_its_own(tmp_path: Path) -> None:
    """With certificate and key the server speaks TLS only, up and down, and makes https links."""
    servers.make_certificate(tmp_path)
    options = (
        "--tls-cert",
        str(tmp_path / "public.crt"),
        "--tls-key",
        str(tmp_path / "private.key"),
    )
    content = b"miaow\n" * 500_000
    Store.create(str(tmp_path / "store")).close()
    with process(tmp_path, *options) as server:
        assert server.address.startswith("https://")
        with httpx.Client(
            verify=ssl.create_default_context(cafile=tmp_path / "public.crt")
        ) as client:
            assert client.put(f"{server.files}/a", content=content).status_code == 201
            assert client.get(f"{server.files}/a").content == content
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.address)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.address.replace("https", "http"))
    assert "Traceback" not in server.log.read_text()
