"""`chunkstore remote`: stores under names."""

from __future__ import annotations

import tomllib

import pytest

from tests.cli.conftest import Place

LAB = "s3://datasets/cs?endpoint=http://minio:9000"


def _add(place: Place, *more: str) -> None:
    place.well("remote", "add", "lab", "s3://datasets/cs", "--endpoint", "http://minio:9000", *more)


def test_add_and_list(place: Place) -> None:
    """What is added is listed with its address and file; the default has a star."""
    _add(place, "--default")
    place.well("remote", "add", "disk", "./store")
    header, disk, lab = place.well("remote", "list").lines
    assert header.split() == ["NAME", "URL", "FILE"]
    assert disk.split() == ["disk", f"{place.folder}/store", str(place.config)]
    assert lab.split() == ["*", "lab", LAB, str(place.config)]
    assert place.well("remote").lines == place.well("remote", "list").lines
    assert place.well("remote", "list", "-q").lines == ["disk", "lab"]


def test_list_as_json(place: Place) -> None:
    """The JSON of a list names each remote, its file, and whether it is the default."""
    _add(place, "--default")
    file = str(place.config)
    expected = [{"name": "lab", "url": LAB, "default": True, "file": file}]
    assert place.well("remote", "list", "--json").document == {"remotes": expected}
    assert place.well("remote", "--json").document == {"remotes": expected}


def test_the_file_is_toml_that_people_may_edit(place: Place) -> None:
    """Changes keep what people wrote, comments included."""
    place.config.write_text('# mine\nregion = "eu"  # here\n\n[remotes.old]\nurl = "/old"\n')
    _add(place, "--default")
    place.well("remote", "remove", "old")
    text = place.config.read_text()
    assert "# mine" in text
    assert "# here" in text
    assert tomllib.loads(text) == {
        "region": "eu",
        "store": "lab",
        "remotes": {"lab": {"url": LAB}},
    }


def test_s3_settings_are_kept_in_the_address(place: Place) -> None:
    """Region, style and CA file become part of the address."""
    ca = place.file("ca.pem", "x")
    _add(place, "--region", "eu-1", "--path-style", "--ca-file", "ca.pem")
    (found,) = place.well("remote", "--json").document["remotes"]
    assert found["url"] == f"{LAB}&region=eu-1&ca={ca}&style=path"


def test_a_remote_is_used(place: Place) -> None:
    """A remote is a store's name wherever an address may stand, from every folder."""
    place.well("remote", "add", "disk", "./store", "--default")
    place.well("init", "disk")
    place.file("data/a.txt", "a")
    place.well("push", "data", "d")
    (place.folder / "sub").mkdir()
    ended = place.start("ls", "--store", "disk", cwd=place.folder / "sub")
    assert ended.lines == ["d"]


def test_local_remotes(place: Place) -> None:
    """Remotes of a folder are kept beside the data, relative to it, and go before the user's."""
    place.well("remote", "add", "disk", "./elsewhere")
    place.well("remote", "add", "disk", "./store", "--local", "--default")
    assert (place.folder / "chunkstore.toml").read_text() == (
        'store = "disk"\n\n[remotes.disk]\nurl = "./store"\n'
    )
    place.well("init", "disk")
    assert (place.folder / "store/config").exists()
    assert place.well("remote", "default").text == "disk: ./store\n"
    place.well("remote", "remove", "disk")
    assert place.well("remote", "list", "-q").lines == ["disk"]
    assert not (place.folder / "elsewhere").exists()


def test_default(place: Place) -> None:
    """The default is changed and told; forgetting a remote makes it no default any more."""
    _add(place)
    assert "make one: chunkstore remote default NAME" in place.failing(4, "remote", "default")
    assert place.well("remote", "default", "lab").text.startswith("lab is the default store")
    assert place.well("remote", "default", "--json").document == {"name": "lab", "url": LAB}
    assert "forgot lab" in place.well("remote", "remove", "lab").text
    place.failing(4, "remote", "default")
    assert tomllib.loads(place.config.read_text()) == {}


def test_no_remotes(place: Place) -> None:
    """An empty list says how to fill it."""
    ended = place.well("remote")
    assert ended.output == b""
    assert "chunkstore remote add NAME URL --default" in ended.errors


def test_names_that_are_taken_or_none(place: Place) -> None:
    """A name is never given twice, and the nearest is offered for one that is not there."""
    _add(place)
    assert "remove it first" in place.failing(5, "remote", "add", "lab", "./other")
    assert "did you mean 'lab'?" in place.failing(4, "remote", "remove", "lob")
    assert "did you mean 'lab'?" in place.failing(4, "ls", "--store", "lob")
    assert "for a folder write ./store" in place.failing(4, "ls", "--store", "store")
    assert LAB in place.config.read_text()


@pytest.mark.parametrize("name", ["Lab", "la/b", "", ".", "-x", "a" * 64, "l b"])
def test_invalid_names(place: Place, name: str) -> None:
    """A name that could be taken for something else is refused."""
    assert place.run("remote", "add", "--", name, "./store").status == 2
    assert not place.config.exists()


@pytest.mark.parametrize(
    "url", ["store", "", "s3://key:secret@bucket/x", "ftp://x/y", "./a\nb", "s3://bucket/x?a=b"]
)
def test_invalid_addresses(place: Place, url: str) -> None:
    """An address that could never be opened is not kept."""
    ended = place.run("remote", "add", "lab", url)
    assert ended.status == 2
    assert "secret" not in ended.errors
    assert not place.config.exists()


def test_an_unknown_verb(place: Place) -> None:
    """A slip in the verb is answered with the nearest one."""
    assert "Did you mean 'remove'?" in place.failing(2, "remote", "remov", "lab")


def test_files_that_cannot_be_edited(place: Place) -> None:
    """A file laid out in a way that cannot be edited stays as it was."""
    text = 'remotes = { old = { url = "/old" } }\n'
    place.config.write_text(text)
    assert "by hand" in place.failing(5, "remote", "remove", "old")
    assert place.config.read_text() == text
