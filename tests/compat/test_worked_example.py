"""The worked example of docs/design/format.md is a store: it is read, and written, byte by byte.

Its bytes are taken from the document, so neither the document nor the code can drift.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chunkstore import Store, limits
from chunkstore.compression import decompress_frame
from chunkstore.errors import CorruptObjectError
from chunkstore.format import blob, config, gc, manifest, ref
from chunkstore.format.blob import decode_list
from chunkstore.format.config import decode_config
from chunkstore.format.document import DocumentKind
from chunkstore.format.gc import decode_condemned, decode_gc_state
from chunkstore.format.index import decode_segment
from chunkstore.format.manifest import decode_manifest, decode_page
from chunkstore.format.pack import PackClass, check_header, decode_directory, decode_trailer
from chunkstore.format.ref import decode_ref
from chunkstore.ids import ChunkKind, PackId, chunk_id, content_hash
from chunkstore.layout import manifest_of, pack_of, segment_of
from tests.compat import worked_example as example

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "design" / "format.md").read_text("utf-8")
_BLOCK = re.compile(r"^```text\n([^\n]+)\n(0000  .*?)\n```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} ){0,15}[0-9a-f]{2})(?:  +(\S.*))?")
TEXTS = {title: f"{title}\n{rows}" for title, rows in _BLOCK.findall(DOCUMENT)}


def bytes_of(block: str) -> bytes:
    """Return the bytes of a dump, whose offsets must be right."""
    data = b""
    for line in block.splitlines()[1:]:
        row = _ROW.fullmatch(line)
        assert row is not None, line
        assert int(row[1], 16) == len(data), line
        data += bytes.fromhex(row[2])
    return data


SHOWN = {title: bytes_of(text) for title, text in TEXTS.items()}
CONFIG, PACK, SEGMENT, MANIFEST, REF, STATE = example.OBJECTS
PAGE, LIST, CONDEMNED = example.OTHERS


def test_the_document_shows_what_the_formats_write() -> None:
    """Every encoder gives the document's bytes for the document's values."""
    assert {**example.OBJECTS, **example.OTHERS} == SHOWN


def test_the_document_explains_every_byte() -> None:
    """The dumps with their offsets and meanings are those of the values; none is without."""
    assert example.blocks() == TEXTS


def test_the_documents_bytes_are_decoded() -> None:
    """Every decoder gives the example's values for the document's bytes."""
    assert decode_config(SHOWN[CONFIG]) == example.CONFIG
    assert decode_manifest(SHOWN[MANIFEST], MANIFEST) == example.MANIFEST
    assert decode_page(SHOWN[PAGE], PAGE) == example.ENTRIES
    assert decode_ref(SHOWN[REF], REF) == example.REF
    assert decode_gc_state(SHOWN[STATE], STATE) == example.GC_STATE
    assert decode_list(SHOWN[LIST], LIST) == example.LIST
    assert decode_condemned(SHOWN[CONDEMNED], CONDEMNED) == example.CONDEMNED


def test_the_documents_pack_is_read() -> None:
    """Header, trailer, directory, and each frame to the chunks with their ids."""
    data = SHOWN[PACK]
    assert check_header(data, PACK) == PackClass.DATA
    offset, length, _ = decode_trailer(data[-44:], len(data), PACK)
    assert (offset, length) == (61, 108)
    directory = decode_directory(data[offset:], offset, PACK)
    found = []
    for row in range(2):
        start, stored = int(directory.frame_offsets[row]), int(directory.frame_lengths[row])
        size, codec = int(directory.frame_sizes[row]), int(directory.frame_codecs[row])
        found.append(decompress_frame(codec, data[start : start + stored], size, PACK))
    assert found == [example.HELLO, example.ZEROS]
    ids = directory.ids.tobytes()
    assert ids == b"".join(chunk_id(ChunkKind.DATA, raw) for raw in found)


def test_the_documents_segment_leads_to_the_pack() -> None:
    """Its two entries name the frames and the pack."""
    segment = decode_segment(SHOWN[SEGMENT], SEGMENT)
    assert segment.pack_ids.tobytes() == PackId(content_hash([SHOWN[PACK]]))
    assert segment.ids.tobytes() == b"".join(sorted([example.HELLO_ID, example.ZEROS_ID]))
    assert segment.frame_offsets.tolist() == [24, 42]


@pytest.mark.parametrize(
    "key",
    ["config", "../x", "gc/condemned/", "gc/condemned/a/b", "gc/condemned/..", "\0", "x" * 999],
)
def test_a_state_names_a_condemned_list_or_nothing(key: str) -> None:
    """Whatever else stands there is damage of the state; no such key is ever asked for."""
    data = gc.encode_gc_state(gc.GcState(1, "gc/condemned/1-0f"))
    assert decode_gc_state(data, STATE).condemned == "gc/condemned/1-0f"
    with pytest.raises(CorruptObjectError, match="gc/current"):
        decode_gc_state(gc.encode_gc_state(gc.GcState(1, key)), STATE)


def test_the_documents_keys_are_right() -> None:
    """Packs, segments and manifests are named by their bytes."""
    assert pack_of(PACK) == content_hash([SHOWN[PACK]])
    assert segment_of(SEGMENT) == content_hash([SHOWN[SEGMENT]])
    assert manifest_of(MANIFEST) == content_hash([SHOWN[MANIFEST]])
    assert example.MANIFEST.pages[0].inline == SHOWN[PAGE]


def test_the_documents_store_is_pulled(tmp_path: Path) -> None:
    """Written to a folder, the objects are a store that gives back its files."""
    for key in example.OBJECTS:
        where = tmp_path / "store" / key
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(SHOWN[key])
    with Store.open(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store:
        version = store.version("demo/first@good")
        assert (version.number, version.message) == (1, "a worked example")
        store.pull("demo/first", tmp_path / "out")
        (tmp_path / "out" / "more.txt").write_text("more\n")
        assert store.push(tmp_path / "out", "demo/first").stats.new_bytes == len("more\n")
        (tmp_path / "out" / "more.txt").unlink()
    assert (tmp_path / "out" / "hello.txt").read_bytes() == example.HELLO
    assert (tmp_path / "out" / "hello.txt").stat().st_mode & 0o100
    assert (tmp_path / "out" / "zeros.bin").read_bytes() == example.ZEROS
    assert (tmp_path / "out" / "link").readlink() == Path("hello.txt")
    assert list((tmp_path / "out" / "new").iterdir()) == []


KINDS = [
    config.CONFIG, ref.REF, manifest.MANIFEST, manifest.PAGE, blob.LIST, gc.GC_STATE, gc.CONDEMNED,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_table_of_documents_is_that_of_the_code(kind: DocumentKind) -> None:
    """Section 3 has the magic, version, limit and seal of each kind."""
    seal = "yes" if kind.sealed else "no"
    versions = f"{kind.version} or {kind.extended}" if kind.extended else f"{kind.version}"
    row = f"| {kind.name} | `{kind.magic.decode()}` | {versions} | {kind.limit:,} | {seal} |"
    assert row in DOCUMENT


NUMBERS = {
    name: value
    for name, value in vars(limits).items()
    if isinstance(value, int) and name not in ("KIB", "MIB")
}


def test_the_table_of_limits_is_that_of_the_code() -> None:
    """Section 12 has every constant of chunkstore/limits.py with its value, and no other."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([0-9,]+) \|", DOCUMENT, re.MULTILINE)
    assert {name: int(value.replace(",", "")) for name, value in rows} == NUMBERS
    assert f"`{limits.NAME.pattern}`" in DOCUMENT


def test_every_section_that_the_code_cites_is_there() -> None:
    """A module that says what it implements leads its reader to it."""
    headings = set(re.findall(r"^#{2,3} ([0-9.]+) (.+)$", DOCUMENT, re.MULTILINE))
    cited = set()
    for path in sorted((ROOT / "chunkstore").rglob("*.py")):
        text = " ".join(path.read_text("utf-8").split())
        for numbers, names in re.findall(
            r"sections? ([0-9. and]+), \"(.+?)\", of docs/design/format\.md", text
        ):
            cited |= set(
                zip(
                    [number.rstrip(".") for number in numbers.split(" and ")],
                    re.split(r"\" and \"", names),
                    strict=True,
                )
            )
    assert len(cited) >= 12
    assert cited <= {(number.rstrip("."), name) for number, name in headings}
