"""nginx and Caddy before a server, configured as docs/howto/serve.md has it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import httpx
import pytest
from chunkstore_api.tokens import Right, TokensFile

from chunkstore import HttpOptions, Store
from chunkstore.testing import servers
from chunkstore.testing.servers import free_ports
from chunkstore.testing.trees import random_bytes
from tests.api.processes import MIB, Process, process
from tests.docs.pages import ROOT, blocks

NGINX = """\
daemon off;
pid {folder}/pid;
error_log {folder}/log notice;
events {{}}
http {{
access_log off;
client_body_temp_path {folder}/spool;
proxy_temp_path {folder}/spool;
fastcgi_temp_path {folder}/spool;
uwsgi_temp_path {folder}/spool;
scgi_temp_path {folder}/spool;
{page}
}}
"""

CADDY = """\
{{
    admin off
    local_certs
    skip_install_trust
    auto_https disable_redirects
    storage file_system {folder}/caddy
}}
{page}
"""


@dataclass
class Proxy:
    """A proxy before a server; only with `--proxy` it is believed.

    Attributes:
        address: its URL.
        token: may do everything.
        ca_file: vouches for its certificate.
        folder: where its files are.
    """

    address: str
    token: str
    ca_file: Path
    folder: Path

    def client(self, host: str = "0.0.0.0") -> httpx.Client:
        """Return a client that comes from an address."""
        context = ssl.create_default_context(cafile=self.ca_file)
        line = httpx.HTTPTransport(verify=context, local_address=host)
        return httpx.Client(base_url=self.address, transport=line, timeout=60)


Behind: TypeAlias = Callable[..., contextlib.AbstractContextManager[Proxy]]


def configuration(program: str, folder: Path, server: Process, port: int) -> str:
    """Return the block of the page, with a port, a server and a certificate that are there."""
    begin = {"nginx": "server {", "caddy": "data.example.org {"}[program]
    found = [each.text for each in blocks((ROOT / "docs/howto/serve.md").read_text())]
    (text,) = (each for each in found if each.startswith(begin))
    for old, new in {
        "http://127.0.0.1:8080": server.address,
        "127.0.0.1:8080": server.address.removeprefix("http://"),
        "listen 443": f"listen 127.0.0.1:{port}",
        "data.example.org {": f"localhost:{port} {{",
        "/etc/ssl/data.pem": str(folder / "public.crt"),
        "/etc/ssl/data.key": str(folder / "private.key"),
    }.items():
        text = text.replace(old, new)
    return {"nginx": NGINX, "caddy": CADDY}[program].format(folder=folder, page=text)


def answers(url: str) -> bool:
    """Whether a proxy serves, whoever vouches for it."""
    try:
        return httpx.get(f"{url}/healthz", verify=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(params=["nginx", "caddy"])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Behind:
    """Start a server with options, and a proxy before it."""
    program = request.param
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    servers.make_certificate(tmp_path)
    Store.create(str(tmp_path / "store")).close()
    tokens = TokensFile(str(tmp_path / "tokens.json"))
    token = tokens.create("ann", Right.ADMIN, ["*"])[1]
    (port,) = free_ports(1)
    file = tmp_path / "configuration"
    command = {
        "nginx": ["nginx", "-p", str(tmp_path), "-c", str(file)],
        "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)],
    }[program]

    @contextlib.contextmanager
    def start(*options: str) -> Iterator[Proxy]:
        url = f"https://localhost:{port}"
        options = ("--tokens", str(tokens.path), "--proxy", "127.0.0.1", *options)
        with process(tmp_path, *options) as server, (tmp_path / "output").open("wb") as output:
            file.write_text(configuration(program, tmp_path, server, port))
            with subprocess.Popen(command, stdout=output, stderr=output) as running:
                try:
                    while not answers(url):
                        assert running.poll() is None, (tmp_path / "output").read_text()
                        time.sleep(0.1)
                    authority = tmp_path / "caddy/pki/authorities/local/root.crt"
                    ca_file = {"nginx": tmp_path / "public.crt", "caddy": authority}[program]
                    yield Proxy(url, token, ca_file, tmp_path)
                finally:
                    running.terminate()

    return start


def test_everything_passes(behind: Behind) -> None:
    """Bodies pass as they come, whatever the path; links and signing in go by the proxy's port."""
    content = random_bytes(20 * MIB, 3)
    with behind() as proxy, proxy.client() as client:
        bearer = {"Authorization": f"Bearer {proxy.token}"}
        files = "/v1/datasets/pets/versions/latest/files"
        parts = (content[at : at + MIB] for at in range(0, len(content), MIB))
        assert client.put(f"{files}/a", content=parts, headers=bearer).status_code == 201
        got = client.get(f"{files}/a", headers=bearer)
        assert (got.content == content, got.headers["content-length"]) == (True, str(len(content)))
        part = client.get(f"{files}/a", headers={**bearer, "Range": "bytes=1000-1009"})
        assert (part.status_code, part.content) == (206, content[1000:1010])
        assert client.put(f"{files}/a", content=b"x" * MIB).status_code == 401

        longest = "/".join(["\u00e9" * 127] * 16)
        assert len(longest.encode()) == 4079
        path = f"{files}/{quote(longest)}"
        assert client.put(path, content=b"tom\n", headers=bearer).status_code == 201
        assert client.get(path, headers=bearer).content == b"tom\n"

        wanted = {"dataset": "pets", "path": "a"}
        url = client.post("/v1/links", json=wanted, headers=bearer).json()["url"]
        assert url.startswith(f"{proxy.address}/v1/")
        assert hashlib.sha256(client.get(url).content).digest() == hashlib.sha256(content).digest()
        form, origin = {"token": proxy.token}, {"Origin": proxy.address}
        assert client.post("/sign-in", data=form, headers=origin).status_code == 303
        assert "pets" in client.get("/", headers={"Accept": "text/html"}).text

        options = HttpOptions(token=proxy.token, ca_file=str(proxy.ca_file))
        cache = proxy.folder / "mine"
        tree = proxy.folder / "tree"
        tree.mkdir()
        (tree / "b").write_bytes(content[::-1])
        with Store.open(proxy.address, http=options, cache_folder=cache) as store:
            store.push(tree, "others")
            store.pull("others", proxy.folder / "copy")
        assert (proxy.folder / "copy/b").read_bytes() == content[::-1]
    if (log := proxy.folder / "log").exists():
        assert "temporary file" not in log.read_text()


def test_clients_are_told_apart(
    behind: Behind,
) -> None:
    """Each address has requests of its own, and what a client says of its address is nothing."""
    with behind("--rate", "1") as proxy:
        for host in ("127.0.0.2", "127.0.0.3"):
            with proxy.client(host) as client:
                for number in itertools.count():
                    said = {"X-Forwarded-For": f"10.0.0.{number % 200}"}
                    status = client.get("/v1/datasets", headers=said).status_code
                    assert status == 401 if number == 0 else status in (401, 429)
                    if status == 429:
                        break
