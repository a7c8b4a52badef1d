"""A version made to do harm is refused, and nothing is written outside the target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from chunkstore import IntegrityError
from chunkstore.errors import CorruptObjectError
from chunkstore.format.blob import LIST
from chunkstore.format.document import encode_document
from chunkstore.ids import ChunkKind, chunk_id
from chunkstore.target import part_name
from tests.library.forgery import CONTENT, Forged, data_id, file, folder, forge, link, sizes

LONG = "x" * 256
BAD_PATHS = {
    "climbs": "../out",
    "climbs-deep": "a/../../out",
    "climbs-inside": "a/../b",
    "climbs-last": "a/..",
    "only-climbs": "..",
    "dot": "./a",
    "only-dot": ".",
    "dot-inside": "a/./b",
    "dot-last": "a/.",
    "absolute": "/etc/out",
    "root": "/",
    "two-slashes": "//out",
    "empty": "",
    "empty-part": "a//b",
    "slash-at-end": "a/",
    "nul": "a\0b",
    "nul-first": "\0",
    "nul-and-climb": "a\0/../b",
    "backslash": "a\\b",
    "windows-climb": "..\\..\\out",
    "windows-drive": "C:\\out",
    "newline": "a\nb",
    "tab": "a\tb",
    "escape": "a\x1b[2Jb",
    "delete": "a\x7fb",
    "c1": "a\x9bb",
    "carriage-return": "a\rb",
    "bell": "\x07",
    "long-part": LONG,
    "long-part-below": f"a/{LONG}/b",
    "long-bytes": "\u00e9" * 128,
    "long-path": "/".join(["abcdefg"] * 520),
    "deep": "/".join("a" * 129),
    "not-nfc": "cafe\u0301",
    "not-nfc-below": "a/e\u0301/b",
    "not-nfc-hangul": "\u1100\u1161",
    "not-nfc-ohm": "\u2126",
}
TREES: dict[str, Forged] = {}


def tree(name: str, *pages: list[list[Any]], **options: Any) -> None:
    assert name not in TREES
    TREES[name] = Forged(pages, **options)


def listed(depth: int, size: Any, ids: bytes, lengths: bytes) -> bytes:
    return encode_document(LIST, [depth, size, ids, lengths])


for what, path in BAD_PATHS.items():
    tree(f"path-{what}", [file(path)])
    tree(f"link-at-{what}", [link(path, "a")])
    tree(f"folder-at-{what}", [folder(path + "/")])
    tree(f"path-later-{what}", sorted([file("A"), file(path)], key=lambda e: e[0].encode()))

# the order of paths, and what lies below what

tree("twice", [file("a"), file("a")])
tree("twice-in-pages", [file("a")], [file("a")])
tree("file-and-link", [file("a"), link("a", "b")])
tree("unsorted", [file("b"), file("a")])
tree("unsorted-pages", [file("b")], [file("a")])
tree("unsorted-by-slash", [file("a/b"), file("a-b")])
tree("page-reaches-into-next", [file("a"), file("c")], [file("b")])
tree("file-below-file", [file("a"), file("a/b")])
tree("file-below-file-later", [file("a"), file("a-b"), file("a/b")])
tree("file-below-file-in-pages", [file("a")], [file("a/b")])
tree("file-below-file-pages-apart", [file("a")], [file("a-b")], [file("a.b")], [file("a/b")])
tree("file-below-link", [link("a", "/tmp"), file("a/b")])
tree("file-below-link-in-pages", [link("a", "/tmp")], [file("a/b")])
tree("file-deep-below-link-in-pages", [file("0"), link("a", "..")], [file("a/b/c")])
tree("link-below-link", [link("a", "/tmp"), link("a/b", "/tmp")])
tree("link-below-link-in-pages", [link("a", "/tmp")], [link("a/b", "/tmp")])
tree("folder-below-link", [link("a", "/tmp"), folder("a/b/")])
tree("folder-below-link-in-pages", [link("a", "/tmp")], [folder("a/b/")])
tree("file-in-empty-folder", [folder("a/"), file("a/b")])
tree("file-in-empty-folder-in-pages", [folder("a/")], [file("a/b")])
tree("file-and-folder", [file("a"), folder("a/")])
tree("file-and-folder-in-pages", [file("a")], [folder("a/")])
tree("folder-twice", [folder("a/"), folder("a/")])

# links

tree("link-empty", [link("a", "")])
tree("link-nul", [link("a", "b\0c")])
tree("link-long", [link("a", "b" * 4097)])
tree("link-with-size", [["a", 2, "b", 5]])
tree("link-without-target", [["a", 2]])
tree("link-target-bytes", [["a", 2, b"b"]])

# files: fields that are not what they should be

tree("kind-unknown", [file("a", kind=3)])
tree("kind-negative", [file("a", kind=-1)])
tree("kind-hard-link", [["a", 3, "b"]])
tree("kind-text", [file("a", kind="file")])
tree("mode-number", [file("a", executable=0o4755)])
tree("mode-nil", [file("a", executable=None)])
tree("mtime-float", [file("a", mtime=1.5)])
tree("mtime-huge", [file("a", mtime=1 << 63)])
tree("hash-short", [file("a", hash=b"x" * 31)])
tree("hash-long", [file("a", hash=b"x" * 33)])
tree("hash-text", [file("a", hash="x" * 32)])
tree("hash-lies", [file("a", hash=b"x" * 32)])
tree("hash-of-nothing", [file("a", hash=blake3(b"").digest())])
tree("hash-lies-of-empty", [file("a", size=0, ids=b"", sizes=b"", hash=blake3(b"x").digest())])
tree("hash-lies-in-second", [file("a"), file("b", hash=b"x" * 32)])
tree("field-missing", [file("a")[:-1]])
tree("field-more", [[*file("a"), 0]])
tree("entry-no-array", [["a"]])  # type: ignore[list-item]
tree("path-bytes", [file(b"a")])  # type: ignore[arg-type]
tree("path-number", [file(1)])  # type: ignore[arg-type]

# blobs

SIZE = len(CONTENT)
tree("size-more", [file("a", size=SIZE + 1)])
tree("size-less", [file("a", size=SIZE - 1)])
tree("size-zero", [file("a", size=0)])
tree("size-negative", [file("a", size=-1)])
tree("size-huge", [file("a", size=(1 << 53) + 1)])
tree("size-float", [file("a", size=1.0)])
tree("chunk-size-lies-more", [file("a", size=SIZE + 1, sizes=sizes(SIZE + 1))])
tree("chunk-size-lies-less", [file("a", size=SIZE - 1, sizes=sizes(SIZE - 1))])
tree("chunk-size-zero", [file("a", ids=data_id() * 2, sizes=sizes(SIZE, 0))])
tree("chunk-size-huge", [file("a", size=(8 << 20) + 1, sizes=sizes((8 << 20) + 1))])
tree("chunk-size-wraps", [file("a", ids=data_id() * 2, sizes=sizes(SIZE - 1, 1 << 32, width=8))])
tree("ids-cut", [file("a", ids=data_id()[:-1])])
tree("ids-more", [file("a", ids=data_id() * 2)])
tree("sizes-more", [file("a", sizes=sizes(SIZE, 1))])
tree("sizes-none", [file("a", sizes=b"")])
tree("ids-none", [file("a", ids=b"")])
tree("ids-nobody-has", [file("a", ids=b"n" * 32)])
tree("ids-of-a-page", [file("a", ids=chunk_id(ChunkKind.PAGE, CONTENT))])
tree("chunks-too-many", [file("a", size=4097, ids=data_id() * 4097, sizes=sizes(*[1] * 4097))])
tree("depth-5", [file("a", depth=5, sizes=sizes(SIZE, width=8))])
tree("depth-negative", [file("a", depth=-1)])
tree("depth-huge", [file("a", depth=1 << 40, sizes=sizes(SIZE, width=8))])
tree("depth-of-data", [file("a", depth=1, sizes=sizes(SIZE, width=8))])

# lists: each a chunk that the store really has


def with_list(name: str, data: bytes, *, size: Any = SIZE, depth: int = 1) -> None:
    identifier = chunk_id(ChunkKind.LIST, data)
    entry = file("a", size=size, depth=depth, ids=identifier, sizes=sizes(size, width=8))
    tree(f"list-{name}", [entry], chunks=[(ChunkKind.LIST, data)])


GOOD_LIST = listed(0, SIZE, data_id(), sizes(SIZE))
with_list("of-another-size", GOOD_LIST, size=SIZE + 1)
with_list("huge-size", GOOD_LIST, size=1 << 53)
with_list("of-another-depth", GOOD_LIST, depth=2)
with_list("much-too-deep", GOOD_LIST, depth=4)
with_list("deeper-than-above", listed(1, SIZE, data_id(), sizes(SIZE, width=8)))
with_list("as-deep-as-4", listed(4, SIZE, data_id(), sizes(SIZE, width=8)))
with_list("whose-chunks-are-less", listed(0, SIZE, data_id(), sizes(SIZE - 1)))
with_list("empty", listed(0, 0, b"", b""))
with_list("of-nothing", listed(0, SIZE, b"", b""))
with_list("of-zero-sizes", listed(0, SIZE, data_id() * 2, sizes(SIZE, 0)))
with_list("of-missing-chunks", listed(0, SIZE, b"n" * 32, sizes(SIZE)))
with_list("no-list", b"no list at all")
with_list("a-page", encode_document(LIST, [[["a", 1]]]))
with_list("cut-off", GOOD_LIST[:-1])
with_list("with-more", GOOD_LIST + b"\0")
with_list("too-long", GOOD_LIST + bytes(600_000))
with_list(
    "names-itself", listed(1, SIZE, chunk_id(ChunkKind.LIST, b""), sizes(SIZE, width=8)), depth=2
)
tree(
    "list-is-data",
    [file("a", depth=1, ids=data_id(GOOD_LIST), sizes=sizes(SIZE, width=8))],
    chunks=[(ChunkKind.DATA, GOOD_LIST)],
)

# the root and its pages

tree("no-entries", [])
tree("page-id-wrong", [file("a")], page={0: b"x" * 32})
tree("page-first-path-other", [file("a")], page={1: "b"})
tree("page-first-path-climbs", [file("a")], page={1: "../a"})
tree("page-counts-more", [file("a")], page={2: 2}, root={5: [2, SIZE, 0]})
tree("page-counts-less", [file("a"), file("b")], page={2: 1}, root={5: [1, 2 * SIZE, 0]})
tree("page-counts-none", [file("a")], page={2: 0}, root={5: [0, SIZE, 0]})
tree("page-counts-huge", [file("a")], page={2: 1 << 62})
tree("page-pack-unknown", [file("a")], page={3: [1]})
tree("page-packs-unsorted", [file("a")], page={3: [0, 0]})
tree("page-outside-is-missing", [file("a")], page={0: b"n" * 32, 4: None})
tree("page-is-no-page", [file("a")], page={0: chunk_id(ChunkKind.PAGE, b"x"), 4: b"x"})
tree("page-is-huge", [file("a")], page={4: bytes(600_000)})
tree("files-more", [file("a")], root={5: [2, SIZE, 0]})
tree("files-huge", [file("a")], root={5: [1 << 62, SIZE, 0]})
tree("size-of-all-more", [file("a")], root={5: [1, SIZE + 1, 0]})
tree("size-of-all-less", [file("a"), file("b")], root={5: [2, SIZE, 0]})
tree("pack-length-huge", [file("a")], root={6: [[b"p" * 32, 1 << 40, 24]]})
tree("pack-directory-outside", [file("a")], root={6: [[b"p" * 32, 100, 99]]})
tree("packs-no-array", [file("a")], root={6: 5})
tree("pages-no-array", [file("a")], root={7: "pages"})
tree("dataset-climbs", [file("a")], root={0: "../data"})
tree("parent-short", [file("a")], root={3: b"x"})


def test_there_are_enough_of_them() -> None:
    """At least 150 hostile trees are tried."""
    assert len(TREES) >= 150


@pytest.mark.parametrize("name", TREES)
def test_a_hostile_tree_is_refused(tmp_path: Path, name: str) -> None:
    """It ends with an IntegrityError; all that is written is inside the target, and whole."""
    store = forge(TREES[name])
    for delete in (False, True):
        with pytest.raises(IntegrityError):
            store.pull("data", tmp_path / "out", delete=delete, links="all")
    assert os.listdir(tmp_path) in (["out"], [])
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.read_bytes() == CONTENT


def test_a_good_forgery_is_taken(tmp_path: Path) -> None:
    """The forger's version without a lie is restored: what is refused is refused for its lie."""
    good = Forged([[file("a"), link("b", "a")], [folder("c/"), file("d/e")]])
    deep = file("z", depth=1, ids=chunk_id(ChunkKind.LIST, GOOD_LIST), sizes=sizes(SIZE, width=8))
    good.pages = [*good.pages, [deep]]
    good.chunks = [(ChunkKind.LIST, GOOD_LIST)]
    forge(good).pull("data", tmp_path / "out")
    assert (tmp_path / "out" / "b").read_bytes() == (tmp_path / "out" / "z").read_bytes() == CONTENT
    assert (tmp_path / "out" / "c").is_dir()


def test_a_pack_that_lies_about_its_chunks_is_found_out(tmp_path: Path) -> None:
    """A directory may say what it likes: bytes that do not have the id are never written."""
    lies = Forged([[file("a")]], chunks=[(ChunkKind.DATA, b"x")])
    store = forge(lies, ids=[b"o" * 32, data_id()])
    with pytest.raises(CorruptObjectError, match="packs/"):
        store.pull("data", tmp_path / "out")
    with pytest.raises(CorruptObjectError, match="packs/"), store.open_file("data:a") as opened:
        opened.read()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_lying_hash_leaves_no_part_behind(tmp_path: Path) -> None:
    """A file whose chunks do not make its hash is not restored, in whatever order they come."""
    pieces = [bytes([number]) * 1000 for number in range(50)]
    whole = b"".join(pieces)
    for right in (True, False):
        entry = file(
            "a",
            hash=blake3(whole if right else whole + b"!").digest(),
            size=len(whole),
            ids=b"".join(data_id(piece) for piece in pieces),
            sizes=sizes(*[1000] * 50),
        )
        shuffled = [(ChunkKind.DATA, pieces[number * 7 % 50]) for number in range(50)]
        store = forge(Forged([[entry]], chunks=shuffled))
        out = tmp_path / f"out-{right}"
        if right:
            store.pull("data", out)
            assert (out / "a").read_bytes() == whole
            continue
        with pytest.raises(CorruptObjectError, match="hash"):
            store.pull("data", out)
        assert os.listdir(out) == []


@pytest.mark.parametrize("name", [part_name("f"), f"{part_name('f')}/x", f"d/{part_name('f')}"])
def test_names_of_unfinished_files_are_left_out(tmp_path: Path, name: str) -> None:
    """A version cannot put its bytes where another file of it is being written."""
    other = b"other"
    entry = file(name, ids=data_id(other), sizes=sizes(5), size=5, hash=blake3(other).digest())
    entries = sorted([entry, file("f")], key=lambda e: e[0])
    store = forge(Forged([entries], chunks=[(ChunkKind.DATA, other)]))
    result = store.pull("data", tmp_path / "out")
    assert [path for path, _ in result.left_out] == [name]
    assert (tmp_path / "out" / "f").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "out") == ["f"]
