"""Store addresses: what they may say, and what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from chunkstore.backends.credentials import Credentials
from chunkstore.backends.local import LocalBackend
from chunkstore.backends.location import (
    LocalLocation,
    S3Location,
    S3Options,
    open_backend,
    parse_location,
)
from chunkstore.backends.retry import RetryBackend
from chunkstore.errors import InvalidInputError

CREDENTIALS = Credentials("AKID", "very-secret", "token-secret")


def s3(url: str, **options: object) -> S3Location:
    location = parse_location(url, S3Options(**options))  # type: ignore[arg-type]  # as given
    assert isinstance(location, S3Location)
    return location


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("store", "store"),
        ("./store", "./store"),
        ("/data/store", "/data/store"),
        ("../a b/ü#1?x=2", "../a b/ü#1?x=2"),
        ("c:/odd", "c:/odd"),
        ("a:b@c", "a:b@c"),
        ("file:///data/store", "/data/store"),
        ("FILE:///data/store", "/data/store"),
        ("file://localhost/data", "/data"),
        ("file:///a%20b%23%3F", "/a b#?"),
    ],
)
def test_folders(url: str, path: str) -> None:
    """What has no scheme is a path, to the letter; a file URL is decoded."""
    assert parse_location(url) == LocalLocation(path)


def test_a_bucket_and_its_settings() -> None:
    """Bucket, prefix and all four parameters are read, and printed so that they read the same."""
    url = "s3://data-1/team/a?endpoint=https://s3.example:9000&region=eu-x&style=virtual&ca=/c.pem"
    location = s3(url)
    assert (location.bucket, location.prefix) == ("data-1", "team/a/")
    assert location.options == S3Options(
        endpoint="https://s3.example:9000", region="eu-x", style="virtual", ca_file="/c.pem"
    )
    assert str(location) == url
    assert parse_location(str(location)) == location


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("s3://bucket", ""),
        ("s3://bucket/", ""),
        ("s3://bucket//", ""),
        ("s3://bucket/a", "a/"),
        ("s3://bucket/a/b/", "a/b/"),
        ("s3://bucket/a%2Db", "a-b/"),
    ],
)
def test_prefixes(url: str, prefix: str) -> None:
    """A prefix is empty or ends in one slash, however it was written."""
    assert s3(url).prefix == prefix


def test_the_address_goes_before_the_options() -> None:
    """What the URL says wins; what it leaves open the options fill in."""
    location = s3(
        "s3://bucket?region=mine",
        region="theirs",
        endpoint="http://localhost:1/",
        style="path",
        credentials=CREDENTIALS,
        anonymous=True,
    )
    assert location.options == S3Options(
        region="mine",
        endpoint="http://localhost:1",
        style="path",
        credentials=CREDENTIALS,
        anonymous=True,
    )


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKID:very-secret@bucket/x",
        "s3://AKID@bucket",
        "s3://bucket?endpoint=http://AKID:very-secret@host",
        "https://AKID:very-secret@host/",
        "file://AKID:very-secret@/x",
    ],
)
def test_credentials_in_an_address_are_refused(url: str) -> None:
    """They are not taken, and the refusal does not repeat them."""
    with pytest.raises(InvalidInputError, match="must not hold credentials") as caught:
        parse_location(url)
    assert "very-secret" not in f"{caught.value!r} {caught.value} {caught.value.hint}"


@pytest.mark.parametrize("name", ["access_key", "secret_key", "AWS_SECRET_ACCESS_KEY", "token"])
def test_credentials_as_parameters_are_refused(name: str) -> None:
    """No parameter takes a key, and the refusal does not repeat its value."""
    with pytest.raises(InvalidInputError) as caught:
        parse_location(f"s3://bucket?{name}=very-secret")
    assert "very-secret" not in f"{caught.value!r} {caught.value} {caught.value.hint}"


def test_an_address_never_prints_credentials() -> None:
    """Neither `str` nor `repr` of a location or of options shows a secret."""
    location = s3("s3://bucket/x", credentials=CREDENTIALS)
    for text in (str(location), repr(location), repr(location.options), str(location.options)):
        assert "secret" not in text.replace("secret_key", "")


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("", "empty", None),
        ("gs://bucket", "unknown kind of store 'gs'", "known: a folder, file://, s3:// and"),
        ("s3://", "not a bucket name", "s3://bucket/prefix"),
        ("s3://B", "not a bucket name", "s3://bucket/prefix"),
        ("s3://UPPER", "not a bucket name", None),
        ("s3://under_score", "not a bucket name", None),
        ("s3://b:80/x", "not a bucket name", None),
        ("s3://" + "b" * 64, "not a bucket name", None),
        ("s3://bucket/a//b", "not a valid key", None),
        ("s3://bucket/../b", "not a valid key", None),
        ("s3://bucket/a%20b", "not a valid key", None),
        ("s3://bucket?regoin=x", "unknown parameter 'regoin'", "did you mean 'region'?"),
        ("s3://bucket?zzz=x", "unknown parameter 'zzz'", "known: endpoint, region, style, ca"),
        ("s3://bucket?region=a&region=b", "twice", None),
        ("s3://bucket?style=host", "unknown style 'host'", "'path' or 'virtual'"),
        ("s3://bucket?endpoint=host:9000", "not an endpoint", "http://host:port"),
        ("s3://bucket?endpoint=", "not an endpoint", None),
        ("s3://bucket?endpoint=ftp://host", "not an endpoint", None),
        ("s3://bucket?endpoint=http://host/path", "not an endpoint", None),
        ("s3://bucket?endpoint=http://host:99999", "not an endpoint", None),
        ("s3://bucket?endpoint=http://", "not an endpoint", None),
        ("s3://[bucket", "not an address", None),
        ("s3://bucket?endpoint=http://[host", "not an endpoint", None),
        ("s3://bucket#part", "# means nothing", "%23"),
        ("file:///a?b", "? means nothing", "%3F"),
        ("file://host/a", "not a file URL", "file:///path"),
        ("file://", "not a file URL", None),
    ],
)
def test_addresses_that_are_none(url: str, message: str, hint: str | None) -> None:
    """Each is refused with what is wrong and, where there is one, what to write instead."""
    with pytest.raises(InvalidInputError) as caught:
        parse_location(url)
    assert message in str(caught.value)
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_opening_asks_nothing(tmp_path: Path) -> None:
    """A backend is made without a look at the storage: nothing need be there, or answer."""
    folder = open_backend(str(tmp_path / "absent"))
    assert isinstance(folder, LocalBackend)
    assert not (tmp_path / "absent").exists()
    with open_backend(
        "s3://bucket/x?endpoint=http://127.0.0.1:9", s3=S3Options(credentials=CREDENTIALS)
    ) as bucket:
        assert isinstance(bucket, RetryBackend)
        assert bucket.url == "s3://bucket/x?endpoint=http://127.0.0.1:9"


def test_authorities_are_of_https_only() -> None:
    """A general setting of authorities to trust does not show in an address without encryption."""
    given = S3Options(ca_file="/c.pem")
    assert "ca=" not in str(parse_location("s3://abc/d?endpoint=http://h:1", given))
    assert "ca=/c.pem" in str(parse_location("s3://abc/d?endpoint=https://h:1", given))
    assert "ca=/c.pem" in str(parse_location("s3://abc/d", given))
