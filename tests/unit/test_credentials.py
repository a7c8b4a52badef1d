"""Where credentials are found, which go first, and that nothing shows them."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from chunkstore.backends.credentials import Credentials, find_credentials
from chunkstore.errors import InvalidInputError

AWS = {"AWS_ACCESS_KEY_ID": "aws", "AWS_SECRET_ACCESS_KEY": "aws-s"}
MINIO = {"MINIO_ACCESS_KEY": "minio", "MINIO_SECRET_KEY": "minio-s"}
ROOT = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": "root-s"}


def write_profiles(home: Path, text: str) -> Path:
    """Write the profile file of a home; return its path."""
    path = home / ".aws" / "credentials"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


PROFILES = """
[default]
aws_access_key_id = file
aws_secret_access_key = 100%of/it=+
[team]
aws_access_key_id=team
aws_secret_access_key=team-s
aws_session_token=team-t
[empty]
region = x
"""


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (AWS, Credentials("aws", "aws-s")),
        (AWS | {"AWS_SESSION_TOKEN": "t"}, Credentials("aws", "aws-s", "t")),
        (AWS | {"AWS_SESSION_TOKEN": ""}, Credentials("aws", "aws-s")),
        (MINIO, Credentials("minio", "minio-s")),
        (MINIO | {"AWS_SESSION_TOKEN": "t"}, Credentials("minio", "minio-s")),
        (ROOT, Credentials("root", "root-s")),
        (ROOT | MINIO, Credentials("minio", "minio-s")),
        (ROOT | MINIO | AWS, Credentials("aws", "aws-s")),
        ({"AWS_ACCESS_KEY_ID": "alone"} | MINIO, Credentials("minio", "minio-s")),
        (AWS | {"AWS_SECRET_ACCESS_KEY": ""} | ROOT, Credentials("root", "root-s")),
    ],
)
def test_variables_and_their_order(
    environ: dict[str, str], expected: Credentials, tmp_path: Path
) -> None:
    """AWS goes before MINIO, both before the file; half a pair is none."""
    write_profiles(tmp_path, PROFILES)
    assert find_credentials(environ, str(tmp_path)) == expected


def test_the_profile_file(tmp_path: Path) -> None:
    """Without variables the default profile counts, or the one that AWS_PROFILE names."""
    write_profiles(tmp_path, PROFILES)
    home = str(tmp_path)
    assert find_credentials({}, home) == Credentials("file", "100%of/it=+")
    assert find_credentials({"AWS_PROFILE": "team"}, home) == Credentials(
        "team", "team-s", "team-t"
    )
    assert find_credentials({"AWS_PROFILE": "empty"}, home) is None


def test_the_profile_file_of_a_variable(tmp_path: Path) -> None:
    """AWS_SHARED_CREDENTIALS_FILE says where the file is."""
    path = tmp_path / "elsewhere"
    path.write_text(PROFILES)
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(path)}
    assert find_credentials(environ, "/nowhere") == Credentials("file", "100%of/it=+")


def test_nothing_anywhere(tmp_path: Path) -> None:
    """Where nothing is found there is no error, and nothing."""
    assert find_credentials({}, str(tmp_path)) is None
    write_profiles(tmp_path, "[other]\naws_access_key_id = x\n")
    assert find_credentials({}, str(tmp_path)) is None


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    """A profile that was asked for by name and is absent is an error that says so."""
    path = write_profiles(tmp_path, PROFILES)
    with pytest.raises(InvalidInputError, match="no AWS profile 'taem'") as caught:
        find_credentials({"AWS_PROFILE": "taem"}, str(tmp_path))
    assert str(path) in str(caught.value)
    assert "AWS_PROFILE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "aws_secret_access_key = very-secret\n",
        "[default]\nvery-secret\n",
        "[default]\naws_secret_access_key = very-secret\naws_secret_access_key = very-secret\n",
    ],
)
def test_a_broken_profile_file(tmp_path: Path, text: str) -> None:
    """A file that is none is named; what stands in it is not repeated."""
    path = write_profiles(tmp_path, text)
    with pytest.raises(InvalidInputError, match="cannot read the AWS profile file") as caught:
        find_credentials({}, str(tmp_path))
    assert str(path) in str(caught.value)
    assert "very-secret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.hint is not None


def test_a_profile_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an error with the file's name, not a traceback."""
    write_profiles(tmp_path, "").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="cannot read the AWS profile file"):
        find_credentials({}, str(tmp_path))


def test_credentials_are_not_printed() -> None:
    """Neither `repr` nor `str` nor formatting shows what proves the access key."""
    given = Credentials("AKID", "very-secret", "token-secret")
    for text in (repr(given), str(given), f"{given}", f"{[given]!r}"):
        assert "AKID" in text
        assert "-secret" not in text
