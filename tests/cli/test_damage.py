"""Damaged and foreign stores: status 7 naming the object, no traceback, no wrong byte."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chunkstore.format.config import CONFIG, decode_config, encode_config
from chunkstore.format.document import encode_document
from tests.cli.conftest import Place


def _flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    """Lose everything."""
    os.truncate(path, 0)


def _swap(path: Path) -> None:
    """Become something else altogether."""
    path.write_bytes(b"\x00\xff" * (path.stat().st_size // 2))


DAMAGES = [_flip, _cut, _empty, _swap]


def _objects(place: Place, kind: str) -> list[Path]:
    store = place.folder / "store"
    if kind == "config":
        return [store / "config"]
    found = (path for path in (store / kind).rglob("*") if path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def _damaged(place: Place, *command: str) -> str:
    """Run a command that must meet the damage; return what it says."""
    ended = place.run(*command)
    assert ended.status == 7, ended
    assert "Traceback" not in ended.errors
    assert ended.errors.startswith("error: ")
    assert "hint: " in ended.errors
    return ended.errors


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("config", ["ls"]),
        ("refs", ["log", "pets"]),
        ("manifests", ["pull", "pets", "out"]),
        ("packs", ["pull", "pets", "out"]),
        ("packs", ["cat", "pets:cats/tom.bin"]),
        ("index", ["stat"]),
    ],
)
def test_damage_is_named(
    stocked: Place, kind: str, command: list[str], damage: Callable[[Path], None]
) -> None:
    """A damaged object of any kind ends the command with status 7 and its key."""
    objects = _objects(stocked, kind)
    for path in objects:
        damage(path)
    stocked.variable("CHUNKSTORE_CACHE", str(stocked.folder / "empty-cache"))
    errors = _damaged(stocked, *command)
    keys = [path.relative_to(stocked.folder / "store").as_posix() for path in objects]
    assert any(key in errors for key in keys), errors


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_wrong_byte_comes_out(stocked: Place, damage: Callable[[Path], None]) -> None:
    """Whatever a damaged pack gives back is right: what is not is not written, nor printed."""
    whole = (stocked.folder / "pets/cats/tom.bin").read_bytes()
    for path in _objects(stocked, "packs"):
        damage(path)
    ended = stocked.run("cat", "pets:cats/tom.bin")
    assert whole.startswith(ended.output)
    stocked.run("pull", "pets", "out")
    restored = stocked.folder / "out/cats/tom.bin"
    assert not restored.exists() or restored.read_bytes() == whole


@pytest.mark.parametrize("kind", ["manifests", "packs"])
def test_what_is_gone_is_damage(stocked: Place, kind: str) -> None:
    """An object that a ref leads to and that is gone is damage, not a typing mistake."""
    for path in _objects(stocked, kind):
        path.unlink()
    errors = _damaged(stocked, "pull", "pets", "out")
    assert f"missing object {kind}/" in errors


def test_json_names_the_code(stocked: Place) -> None:
    """With --json damage is an error document with a stable code."""
    for path in _objects(stocked, "manifests"):
        _flip(path)
    ended = stocked.run("pull", "pets", "out", "--json")
    document = ended.events[-1]
    assert (document["type"], document["code"], document["status"]) == (
        "error",
        "corrupt_object",
        7,
    )
    assert "manifests/" in document["message"]


@pytest.mark.parametrize("newer", ["version", "feature"])
def test_a_newer_store(stocked: Place, newer: str) -> None:
    """A store that needs a newer chunkstore says so, with status 1, and stays as it is."""
    path = stocked.folder / "store/config"
    config = decode_config(path.read_bytes())
    if newer == "feature":
        data = encode_config(dataclasses.replace(config, read_features=frozenset({"sealed"})))
    else:
        data = encode_document(dataclasses.replace(CONFIG, version=2), [b"whatever comes then"])
    path.write_bytes(data)
    for command in (["ls"], ["push", "pets", "pets"], ["pull", "pets", "out"]):
        assert "hint: use a " in stocked.failing(1, *command)
    assert "already a store" in stocked.failing(5, "init", "./store")
    assert path.read_bytes() == data
    assert not (stocked.folder / "out").exists()


def test_a_store_that_may_only_be_read(stocked: Place) -> None:
    """What needs a newer chunkstore only to be written can still be read."""
    path = stocked.folder / "store/config"
    config = decode_config(path.read_bytes())
    changed = dataclasses.replace(config, write_features=frozenset({"sealed"}))
    path.write_bytes(encode_config(changed))
    stocked.well("pull", "pets", "out")
    for command in (["push", "pets", "pets"], ["tag", "pets", "x"], ["rm", "pets@1", "--yes"]):
        assert "can only be written with features" in stocked.failing(1, *command)
    assert len(stocked.well("log", "pets", "-q").lines) == 2


def test_a_folder_that_is_no_store(stocked: Place) -> None:
    """A folder without a store is not found, whatever else lies in it."""
    errors = stocked.failing(4, "ls", "--store", "./pets")
    assert f"no store at {stocked.folder}/pets" in errors
    assert "create one there with init" in errors
    assert stocked.failing(4, "push", "pets", "pets", "--store", "./nowhere")
    assert not (stocked.folder / "nowhere").exists()
