"""hf-xet as a command: folders go into its local store and come back.

Runs in the Python that hf-xet is installed in, which need not be the one of chunkstore.

    hf_xet_client.py version
    hf_xet_client.py push STORE SOURCE LABEL
    hf_xet_client.py pull STORE TARGET LABEL
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path


def push(store: Path, source: Path, label: str) -> None:
    """Store all files; keep the list of what they are called in the store."""
    import hf_xet  # noqa: PLC0415  # `version` says that it is missing

    files = sorted(path for path in source.rglob("*") if path.is_file())
    with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{store}") as commit:
        uploads = [commit.start_upload_file(str(path), sha256=hf_xet.SKIP_SHA256) for path in files]
    infos = [upload.result().xet_info for upload in uploads]
    entries = [
        [str(path.relative_to(source)), info.hash, info.file_size]
        for path, info in zip(files, infos, strict=True)
    ]
    listing = store / "lists" / f"{label}.json"
    listing.parent.mkdir(exist_ok=True)
    listing.write_text(json.dumps(entries))


def pull(store: Path, target: Path, label: str) -> None:
    """Restore all files of a list."""
    import hf_xet  # noqa: PLC0415  # `version` says that it is missing

    entries = json.loads((store / "lists" / f"{label}.json").read_text())
    for folder in {(target / name).parent for name, _, _ in entries}:
        folder.mkdir(parents=True, exist_ok=True)
    session = hf_xet.XetSession()
    with session.new_file_download_group(endpoint=f"local://{store}") as group:
        for name, identifier, size in entries:
            group.start_download_file(hf_xet.XetFileInfo(identifier, size), str(target / name))


def main() -> int:
    """Do what the arguments say."""
    match sys.argv[1:]:
        case ["version"]:
            try:
                print(importlib.metadata.version("hf-xet"))
            except importlib.metadata.PackageNotFoundError:
                return 1
        case ["push", store, source, label]:
            push(Path(store), Path(source), label)
        case ["pull", store, target, label]:
            pull(Path(store), Path(target), label)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
