"""Two versions of a real tree of about 2 GB: large package wheels, unpacked side by side.

Version 2 has the same packages a release later, so that going from one to the other is a real
upgrade. The wheels are taken from the package registry by `pip download` once, for one Python and
one platform wherever the bench runs, so that everybody measures the same bytes.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

SMALL: Final = {
    "v1": ("pandas==3.0.6", "sympy==1.13.3", "sqlalchemy==2.0.58", "scikit-learn==1.8.0"),
    "v2": ("pandas==3.1.1", "sympy==1.14.0", "sqlalchemy==2.1.9", "scikit-learn==1.9.1"),
}
LARGE: Final = {
    "v1": ("tensorflow==2.20.0", "scipy==1.16.3", "numba==0.67.0", *SMALL["v1"]),
    "v2": ("tensorflow==2.21.0", "scipy==1.17.1", "numba==0.68.1", *SMALL["v2"]),
}
GLIBC: Final = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


def unpack_packages(packages: tuple[str, ...], wheels: Path, root: Path) -> None:
    """Unpack each package into a folder of its own below `root`; wheels are kept in `wheels`.

    Raises:
        subprocess.CalledProcessError: pip could not download one of them.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    command += ["--abi=cp311", *(f"--platform={glibc}_x86_64" for glibc in GLIBC)]
    lacking = [package for package in packages if not _wheel(package, wheels)]
    if lacking:
        subprocess.run([*command, f"--dest={wheels}", *lacking], check=True)
    for package in packages:
        wheel = _wheel(package, wheels)
        assert wheel is not None
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / package.partition("==")[0])


def _wheel(package: str, wheels: Path) -> Path | None:
    name, _, version = package.replace("-", "_").partition("==")
    return next(wheels.glob(f"{name}-{version}-*.whl"), None)
