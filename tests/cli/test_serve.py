"""`chunkstore serve`: what it refuses to start with."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from chunkstore.testing import servers
from tests.cli.conftest import Place

SERVE = ("serve", "--store", "./store", "--port", "0")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_what_is_no_certificate(place: Place) -> None:
    """Files that are none, do not fit or have a passphrase are named, as is one alone."""
    servers.make_certificate(place.folder)
    make = ["openssl", "pkey", "-in", "private.key", "-aes256", "-passout", "pass:x"]
    subprocess.run([*make, "-out", "locked.key"], check=True)
    place.well("init", "./store")
    cert, key = "public.crt", "private.key"
    for wrong in ((cert, cert), (key, key), (cert, "none"), (cert, "locked.key")):
        said = place.failing(2, *SERVE, "--tls-cert", wrong[0], "--tls-key", wrong[1])
        assert f"{wrong[0]} and {wrong[1]} are no certificate and its key: " in said
        assert "hint: both in PEM" in said
    place.failing(2, *SERVE, "--tls-cert", cert)
