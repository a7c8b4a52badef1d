"""A real tree of about 2 GB: large package wheels, unpacked side by side.

Taken from the package registry by `pip download` once and kept in `bench/data`, which git ignores.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "tensorflow==2.21.0",
    "scipy==1.17.1",
    "pandas==3.1.1",
    "scikit-learn==1.9.1",
    "sympy==1.14.0",
    "sqlalchemy==2.1.9",
    "numba==0.68.1",
)
DATA: Final = Path(__file__).parent / "data"


def package_tree() -> Path:
    """Return the root of the tree; download and unpack it where it is not there yet."""
    root, wheels = DATA / "packages", DATA / "wheels"
    if root.exists():
        return root
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*command, str(wheels), *PACKAGES], check=True)
    unpacked = root.with_suffix(".part")
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked / wheel.name.partition("-")[0])
    unpacked.rename(root)
    return root
