"""The tools that the bench compares, each as the commands that a user would type.

A tool runs with the settings that it has by itself. Commands are templates: `{store}` is the folder
that it keeps its data in, `{cache}` one for whatever else it keeps, `{source}` the folder to store,
`{label}` a name for the version, `{out}` the folder to restore to.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PEERS: Final = ROOT / ".peers"
"""Where `make bench-peers` installs what it can; looked in before PATH."""

PATH: Final = os.pathsep.join([str(PEERS / "bin"), str(PEERS / "venv/bin"), os.environ["PATH"]])


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and its commands.

    Attributes:
        name: as in the tables.
        says: what a reader must know to compare it.
        version: prints its version.
        init: makes a store.
        push: stores `{source}` as the version `{label}`.
        pull: restores the version `{label}` into the empty folder `{out}`.
        over: restores it into a folder that has another version, so that both are equal after;
            empty where it cannot.
        again: whether a push of what is unchanged means anything.
        pulls_at_most: files of a version that it can restore in bearable time, if there is a limit.
        counted: folders whose bytes are counted as stored.
        environment: variables for all of these.
    """

    name: str
    says: str
    version: str
    init: str
    push: str
    pull: str
    over: str = ""
    again: bool = True
    pulls_at_most: int | None = None
    counted: tuple[str, ...] = ("{store}",)
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, template: str, **places: str) -> list[str]:
        """Return a command with its places filled in."""
        return [word.format(**_PROGRAMS, **places) for word in shlex.split(template)]

    def variables(self, **places: str) -> dict[str, str]:
        """Return the environment to run commands in."""
        own = {name: value.format(**places) for name, value in self.environment.items()}
        inherited = {**os.environ, "PATH": PATH}
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # no user's Python compiles at every start
        return {**inherited, **own}

    def installed(self) -> str | None:
        """Return the version that is installed, or None."""
        command = self.command(self.version)
        if shutil.which(command[0], path=PATH) is None:
            return None
        variables = {**os.environ, "PATH": PATH}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=variables)
        found = re.search(r"\d+\.\d+[\w.+-]*", done.stdout)
        if done.returncode or found is None:
            return None
        return f"{found[0]} ({_commit()})" if self.name == "chunkstore" else found[0]


def _commit() -> str:
    """Return the last commit that changed the code, with a + where the code differs from it."""
    code = ["--", "chunkstore", "cli"]
    return _git("log", "-1", "--abbrev=9", "--format=%h", *code) + (
        "+" if _git("status", "--porcelain", *code) else ""
    )


def _git(*arguments: str) -> str:
    """Return what git says of this checkout; nothing where it is none."""
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip()


_PROGRAMS: Final = {
    "chunkstore": str(Path(sys.executable).with_name("chunkstore")),
    "xet_python": str(PEERS / "venv/bin/python"),
    "xet_client": str(Path(__file__).with_name("hf_xet_client.py")),
}

_BORG: Final = Tool(
    name="borg",
    says="LZ4, its default; not encrypted, which it lets one choose",
    version="borg --version",
    init="borg init --encryption none {store}",
    push="borg create {store}::{label} .",
    pull="borg extract {store}::{label}",
    environment={
        "BORG_BASE_DIR": "{cache}",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    },
)

TOOLS: Final = (
    Tool(
        name="chunkstore",
        says="zstd 3",
        version="{chunkstore} --version",
        init="{chunkstore} --quiet --store {store} init",
        push="{chunkstore} --quiet --store {store} push {source} bench --tag {label}",
        pull="{chunkstore} --quiet --store {store} pull bench@{label} {out}",
        over="{chunkstore} --quiet --store {store} pull bench@{label} {out} --delete --yes",
        environment={"CHUNKSTORE_CACHE": "{cache}"},
    ),
    Tool(
        name="restic",
        says="zstd at its default; encrypted, always",
        version="restic version",
        init="restic --quiet --repo {store} init",
        push="restic --quiet --repo {store} backup {source} --tag {label}",
        pull="restic --quiet --repo {store} restore latest:{source} --tag {label} --target {out}",
        over="restic --quiet --repo {store} restore latest:{source} --tag {label} --target {out}"
        " --delete",
        environment={"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": "{cache}"},
    ),
    _BORG,
    dataclasses.replace(
        _BORG,
        name="borg zstd",
        says="the same with zstd 3",
        push="borg create --compression zstd,3 {store}::{label} .",
    ),
    Tool(
        name="rustic",
        says="zstd 3; encrypted, always",
        version="rustic --version",
        init="rustic --no-progress --repository {store} init",
        push="rustic --no-progress --repository {store} backup {source} --tag {label}",
        pull="rustic --no-progress --repository {store} restore --filter-tags {label}"
        " latest:{source} {out}",
        over="rustic --no-progress --repository {store} restore --filter-tags {label} --delete"
        " latest:{source} {out}",
        environment={"RUSTIC_PASSWORD": "bench", "RUSTIC_CACHE_DIR": "{cache}"},
    ),
    Tool(
        name="hf-xet",
        says="its client on a local store, by Python; SHA-256 left out; pulls of up to 5,000 files,"
        " as that store takes time with their square",
        version="{xet_python} {xet_client} version",
        init="mkdir {store}",
        push="{xet_python} {xet_client} push {store} {source} {label}",
        pull="{xet_python} {xet_client} pull {store} {out} {label}",
        pulls_at_most=5000,  # 1,000 files 2 s, 2,000 9 s, by each of its functions
        counted=("{store}/xet/xorbs", "{store}/lists"),
        environment={"HF_HOME": "{cache}", "HF_XET_TELEMETRY_ENABLED": "false"},
    ),
    Tool(
        name="cp -r",
        says="copies; does not wait for the disk",
        version="cp --version",
        init="mkdir {store}",
        push="cp -r {source} {store}/{label}",
        pull="cp -r {store}/{label}/. {out}",
        again=False,
    ),
)
