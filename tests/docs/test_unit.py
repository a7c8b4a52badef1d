"""The unit of systemd on its page is one that systemd understands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM
from tests.docs.pages import ROOT, blocks


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit(tmp_path: Path) -> None:
    """No line of it is unknown or misspelt; nothing is said of it."""
    found = [each.text for each in blocks((ROOT / "docs/howto/deploy-a-server.md").read_text())]
    (text,) = (each for each in found if each.startswith("[Unit]"))
    assert text.count("/opt/chunkstore/bin/chunkstore ") == 1
    unit = tmp_path / "chunkstore.service"
    unit.write_text(text.replace("/opt/chunkstore/bin/chunkstore ", f"{PROGRAM} "))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
