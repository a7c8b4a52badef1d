"""Settings: which place goes first, credentials, and that no secret is told or written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from chunkstore_cli.environment import SETTINGS, Environment

from chunkstore.testing import servers
from tests.cli.conftest import Place

VALUES: dict[str, tuple[Any, Any, Any, Any]] = {
    "store": ("./one", "./two", "./three", "./four"),
    "endpoint": ("http://one:1", "http://two:2", "http://three:3", "http://four:4"),
    "region": ("one", "two", "three", "four"),
    "ca_file": ("/one", "/two", "/three", "/four"),
    "style": ("path", "virtual", "path", "virtual"),
    "anonymous": ("true", "0", True, False),
    "cache": ("/one", "/two", "/three", "/four"),
    "deadline": ("1", "2", 3, 4.5),
    "index_budget": ("1", "2", 3, 4),
    "token_file": ("/one", "/two", "/three", "/four"),
    "engine": ("one", "two", "three", "four"),
    "tokens": ("/one", "/two", "/three", "/four"),
}
"""For each setting values of its first variable, its last, the folder's and the user's file."""


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def _found(place: Place, name: str) -> Any:
    found = Environment.of(dict(os.environ), str(place.folder)).find(name)
    return found.value if found else None


def test_every_setting_is_tried() -> None:
    """The table of this test names every setting that there is."""
    assert VALUES.keys() == SETTINGS.keys()


@pytest.mark.parametrize("name", VALUES)
def test_precedence(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable goes before the folder's file, that before the user's, that before the default."""
    setting = SETTINGS[name]
    variable, other, local, user = VALUES[name]
    for known in setting.variables:
        monkeypatch.delenv(known, raising=False)
    assert _found(place, name) is None
    place.config.write_text(f"{name} = {_toml(user)}\n")
    assert _found(place, name) == setting.parse(user)
    place.file("chunkstore.toml", f"{name} = {_toml(local)}\n")
    assert _found(place, name) == setting.parse(local)
    place.variable(setting.variables[-1], other)
    assert _found(place, name) == setting.parse(other)
    place.variable(setting.variables[0], variable)
    assert _found(place, name) == setting.parse(variable)


@pytest.mark.parametrize("name", VALUES)
def test_an_empty_variable_says_nothing(place: Place, name: str) -> None:
    """A variable that is set to nothing is as one that is not set."""
    place.file("chunkstore.toml", f"{name} = {_toml(VALUES[name][2])}\n")
    for variable in SETTINGS[name].variables:
        place.variable(variable, "")
    assert _found(place, name) == SETTINGS[name].parse(VALUES[name][2])


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_has_its_own_variable(name: str) -> None:
    """The first variable of each setting is its name with the prefix."""
    assert SETTINGS[name].variables[0] == f"CHUNKSTORE_{name.upper()}"


def test_a_flag_goes_before_everything(place: Place) -> None:
    """--store and --endpoint go before variables, files and what an address says itself."""
    for folder in "abc":
        place.well("init", f"./{folder}")
    place.config.write_text('store = "./a"\n')
    place.file("chunkstore.toml", 'store = "./b"\n')
    place.variable("CHUNKSTORE_STORE", "./c")
    place.well("init", "./d")
    document = place.well("stat", "--store", "./d", "--json").document
    assert document["url"] == f"{place.folder}/d"
    place.variable("AWS_ACCESS_KEY_ID", "key")
    place.variable("AWS_SECRET_ACCESS_KEY", "secret")
    place.variable("CHUNKSTORE_DEADLINE", "0")
    place.variable("CHUNKSTORE_ENDPOINT", "http://127.0.0.1:1")
    url = "s3://bucket/x?endpoint=http://127.0.0.1:2"
    assert "127.0.0.1:3" in place.run("ls", "-s", url, "--endpoint", "http://127.0.0.1:3").errors
    assert "127.0.0.1:2" in place.run("ls", "-s", url).errors
    assert "127.0.0.1:1" in place.run("ls", "-s", "s3://bucket/x").errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline", "soon"),
        ("deadline", "-1"),
        ("deadline", "inf"),
        ("deadline", "nan"),
        ("index_budget", "-1"),
        ("index_budget", "1.5"),
        ("style", "both"),
        ("anonymous", "perhaps"),
    ],
)
def test_bad_values(place: Place, name: str, value: str) -> None:
    """A value that can be none is refused, naming the place that has it."""
    place.variable(f"CHUNKSTORE_{name.upper()}", value)
    ended = place.run("ls", "-s", "s3://bucket/x")
    assert ended.status == 2
    assert f"CHUNKSTORE_{name.upper()}" in ended.errors
    assert repr(value) in ended.errors


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("store = \n", "is not TOML"),
        ("stor = './a'\n", "did you mean 'store'?"),
        ("secret_key = 'x'\n", "unknown setting 'secret_key'"),
        ("store = 5\n", "text is needed"),
        ("[remotes]\nlab = 5\n", "each remote is a table"),
        ("[remotes.lab]\nurl = 5\n", "each remote is a table"),
        ("remotes = 5\n", "each remote is a table"),
    ],
)
def test_bad_files(place: Place, text: str, part: str) -> None:
    """A settings file that says nothing sensible is refused, naming it."""
    file = place.file("chunkstore.toml", text)
    ended = place.run("ls")
    assert ended.status == 2
    assert "chunkstore.toml" in ended.errors
    assert part in ended.errors
    assert file.read_text() == text


def test_files_that_are_not_text(place: Place) -> None:
    """A settings file that is not UTF-8, or is a folder, is named."""
    place.file("chunkstore.toml", b"\xff\xfe")
    assert "is not UTF-8" in place.run("ls").errors
    place.config.mkdir()
    (place.folder / "chunkstore.toml").unlink()
    ended = place.run("ls")
    assert ended.status == 1
    assert str(place.config) in ended.errors


def test_the_users_file_is_private(place: Place) -> None:
    """The user's settings file can be read by nobody else, also where it was made by hand."""
    place.config.write_text("# mine\n")
    place.config.chmod(0o644)
    place.well("remote", "add", "lab", "./store")
    assert place.config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in place.config.parent.iterdir() if path.name[0] == "."] == []


def test_the_usual_place_of_the_users_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CHUNKSTORE_CONFIG the file lies in the user's configuration folder."""
    monkeypatch.delenv("CHUNKSTORE_CONFIG")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    place.well("remote", "add", "lab", "./store")
    file = Path(os.environ["HOME"]) / ".config/chunkstore/config.toml"
    assert "lab" in file.read_text()


# credentials

PAIRS = [
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
    ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
]


@pytest.mark.parametrize(("access", "secret"), PAIRS)
def test_credentials_from_variables(
    place: Place, shared_url: str, access: str, secret: str
) -> None:
    """AWS_* and MINIO_* variables open a store on a real server."""
    place.variable(access, servers.ACCESS_KEY)
    place.variable(secret, servers.SECRET_KEY)
    place.well("ls", "-s", shared_url)


def test_credentials_from_a_profile(place: Place, shared_url: str) -> None:
    """The profile that AWS_PROFILE names is taken from the AWS file; one not there is refused."""
    lines = ["[lab]", f"aws_access_key_id = {servers.ACCESS_KEY}"]
    lines.append(f"aws_secret_access_key = {servers.SECRET_KEY}")
    file = place.file("profiles", "\n".join(lines))
    place.variable("AWS_SHARED_CREDENTIALS_FILE", str(file))
    place.variable("AWS_PROFILE", "lab")
    place.well("ls", "-s", shared_url)
    place.variable("AWS_PROFILE", "leb")
    errors = place.failing(2, "ls", "-s", shared_url)
    assert "no AWS profile 'leb'" in errors
    assert servers.SECRET_KEY not in errors


def test_the_endpoint_from_a_variable(
    place: Place, shared_url: str, seaweedfs: servers.Server
) -> None:
    """What AWS tools take from AWS_ENDPOINT_URL is taken from there too."""
    place.variable("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
    place.variable("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    place.variable("AWS_ENDPOINT_URL", seaweedfs.endpoint)
    place.well("ls", "-s", shared_url.partition("?")[0])


def test_no_credentials(place: Place) -> None:
    """Without credentials the variables to set are named."""
    errors = place.failing(2, "ls", "-s", "s3://bucket/x?endpoint=http://127.0.0.1:1")
    assert "no credentials" in errors
    assert "AWS_ACCESS_KEY_ID" in errors


def test_wrong_credentials(bucket: Place) -> None:
    """Credentials that the server refuses end with status 5, the remedy, and no secret."""
    bucket.variable("AWS_SECRET_ACCESS_KEY", "wrong-secret-of-mine")
    for command in (["init"], ["ls"], ["push", ".", "d"]):
        errors = bucket.failing(5, *command)
        assert "check AWS_ACCESS_KEY_ID" in errors
        assert "wrong-secret-of-mine" not in errors


def test_secrets_are_never_told_or_written(bucket: Place) -> None:
    """No secret stands in any output, JSON, debug log, settings file or cache."""
    secret = servers.SECRET_KEY
    bucket.file("data/a.txt", "a")
    url = os.environ["CHUNKSTORE_STORE"]
    bucket.well("remote", "add", "lab", url, "--default")
    for command in (
        ["init"],
        ["push", "data", "secrets"],
        ["pull", "secrets", "out"],
        ["stat", "--json"],
        ["ls", "nothing"],
        ["log", "nothing", "--json"],
        ["remote", "list"],
    ):
        ended = bucket.run("--debug", *command)
        assert secret not in ended.errors, command
        assert secret.encode() not in ended.output, command
    for path in bucket.folder.parent.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
