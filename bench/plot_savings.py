"""Draw docs/images/savings.svg: what five versions of a real tree take up, kept in four ways.

Run it with `python -m bench.plot_savings`. The tree is this environment's installed packages; the
edits are seeded. The figures in the picture are those of the run that drew it.
"""

from __future__ import annotations

import random
import shutil
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chunkstore import Store
from chunkstore.testing.trees import hash_of

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "savings.svg"
WAYS = {
    "every version copied": "#b8b8b8",
    "every different file once": "#7aa6c2",
    "every different chunk once": "#3a78a1",
    "the store: those chunks, compressed, and all metadata": "#d1632b",
}


def _as_installed(_: Path) -> None:
    pass


def _edit(tree: Path) -> None:
    """Change a byte in the middle of the largest file, insert 20 bytes into 20 others."""
    *others, largest = _files(tree)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    chance = random.Random(1)
    for path in chance.sample(others[-200:], 20):
        content = bytearray(path.read_bytes())
        at = chance.randrange(len(content))
        path.write_bytes(content[:at] + chance.randbytes(20) + content[at:])


def _rename(tree: Path) -> None:
    """Rename the folder with the most files."""
    folder = max((p for p in tree.iterdir() if p.is_dir()), key=lambda p: len(_files(p)))
    folder.rename(folder.with_name("renamed"))


def _append(tree: Path) -> None:
    """Append 100 KB that do not compress to the ten largest files."""
    chance = random.Random(2)
    for path in _files(tree)[-10:]:
        with path.open("ab") as file:
            file.write(chance.randbytes(100_000))


def _concatenate(tree: Path) -> None:
    """Write all Python sources into one file, beside them."""
    sources = sorted(tree.rglob("*.py"))
    (tree / "sources.txt").write_bytes(b"".join(path.read_bytes() for path in sources))


STEPS: dict[str, Callable[[Path], None]] = {
    "as installed": _as_installed,
    "1 byte changed, 20 bytes put into 20 files": _edit,
    "a folder renamed": _rename,
    "100 KB appended to 10 files": _append,
    "all sources joined in one file": _concatenate,
}


@dataclass
class Measured:
    """Bytes after each version, for each of the four ways."""

    files: int = 0
    rows: list[tuple[str, list[int]]] = field(default_factory=list)


def measure(tree: Path, store: Store) -> Measured:
    """Push the tree after every step."""
    measured = Measured()
    copied = 0
    different: dict[str, int] = {}
    for step, change in STEPS.items():
        change(tree)
        result = store.push(tree, "packages", message=step)
        measured.files = measured.files or result.stats.files
        copied += result.stats.size
        different |= {hash_of(path): path.stat().st_size for path in _files(tree)}
        held = store.stat()
        sizes = [copied, sum(different.values()), held.unique_bytes, held.stored_bytes]
        measured.rows.append((step, sizes))
        print(f"{step}: {', '.join(f'{size / 1e6:,.1f} MB' for size in sizes)}")
    return measured


def draw(measured: Measured) -> str:
    """Return the picture."""
    most = max(size for _, sizes in measured.rows for size in sizes)
    shapes: list[str] = []
    for column, (colour, way) in enumerate((colour, way) for way, colour in WAYS.items()):
        y = 46 + column * 18
        shapes.append(f'<rect x="16" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        shapes.append(f'<text x="34" y="{y}">{way}</text>')
    y = 128
    for number, (step, sizes) in enumerate(measured.rows, 1):
        shapes.append(f'<text x="16" y="{y}" class="step">version {number}: {step}</text>')
        for size, colour in zip(sizes, WAYS.values(), strict=True):
            y += 14
            width = max(1, round(size / most * 620))
            shapes.append(
                f'<rect x="16" y="{y - 8}" width="{width}" height="11" fill="{colour}"/>'
                f'<text x="{width + 22}" y="{y + 1}" class="size">{size / 1e6:,.0f} MB</text>'
            )
        y += 24
    title = f"Installed Python packages, {measured.files:,} files: what all versions so far take up"
    style = (
        "text{font:12px sans-serif;fill:#222}.title,.step{font-weight:bold}.size{font-size:11px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {y}" role="img">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n"
        f'<rect width="720" height="{y}" fill="#fff"/>\n'
        f'<text x="16" y="22" class="title">{title}</text>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def main() -> None:
    """Measure and draw."""
    with tempfile.TemporaryDirectory(prefix="chunkstore-plot-") as work:
        tree = Path(work) / "tree"
        packages = sysconfig.get_paths()["purelib"]
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(packages, tree, symlinks=True, ignore=leave_out)
        with Store.create(f"{work}/store", cache_folder=f"{work}/cache") as store:
            PICTURE.write_text(draw(measure(tree, store)))
    print(f"drawn: {PICTURE}")


def _files(tree: Path) -> list[Path]:
    """Return the files of a tree, the largest last."""
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(files, key=lambda path: (path.stat().st_size, path))


if __name__ == "__main__":
    main()
