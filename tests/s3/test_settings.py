"""Credentials, certificates, regions and host names: right ones work, wrong ones are explained."""

from __future__ import annotations

import itertools
import logging
import shutil
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chunkstore import BackendError, Credentials, S3Options, Store
from chunkstore.backends.base import CreateOnly
from chunkstore.backends.location import S3Location, parse_location
from chunkstore.backends.minio import MinioBackend
from chunkstore.errors import (
    BucketAbsentError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
)
from chunkstore.testing import servers
from tests.conftest import NO_MINIO

_numbers = itertools.count()
VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SHARED_CREDENTIALS_FILE"),
    *("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
)


def opened(options: S3Options, bucket: str = "tests") -> MinioBackend:
    """Return a backend on an empty prefix, without retries."""
    location = parse_location(f"s3://{bucket}/settings-{next(_numbers)}", options)
    assert isinstance(location, S3Location)
    return MinioBackend(location)


def works(options: S3Options) -> None:
    """Write, read and list with these settings."""
    with opened(options) as backend:
        version = backend.put("folder/key", [b"bytes"], CreateOnly())
        assert backend.get("folder/key").version == version
        assert [info.key for info in backend.list("")] == ["folder/key"]
        backend.delete(["folder/key"])


@pytest.fixture(params=["seaweedfs", "minio"])
def server(request: pytest.FixtureRequest) -> servers.Server:
    """Each real server in turn."""
    found: servers.Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that knows of no credentials; its home is returned."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# credentials


@pytest.mark.parametrize("kind", ["AWS", "MINIO", "file", "named profile"])
def test_the_library_finds_credentials_where_aws_tools_do(
    minio: servers.Server, no_credentials: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Without credentials in the options, variables and the profile file are looked at."""
    if kind == "AWS":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    elif kind == "MINIO":
        monkeypatch.setenv("MINIO_ACCESS_KEY", servers.ACCESS_KEY)
        monkeypatch.setenv("MINIO_SECRET_KEY", servers.SECRET_KEY)
    else:
        profile = "default" if kind == "file" else "team"
        monkeypatch.setenv("AWS_PROFILE", profile)
        (no_credentials / ".aws").mkdir()
        (no_credentials / ".aws" / "credentials").write_text(
            f"[{profile}]\naws_access_key_id = {servers.ACCESS_KEY}\n"
            f"aws_secret_access_key = {servers.SECRET_KEY}\n"
        )
    works(replace(minio.options, credentials=None))


@pytest.mark.usefixtures("no_credentials")
def test_no_credentials_anywhere() -> None:
    """Where none are found, no request is made, and the remedy names the variables."""
    with pytest.raises(InvalidInputError, match="no credentials") as caught:
        opened(S3Options(endpoint="http://127.0.0.1:9"))
    assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")


def test_a_profile_file_that_cannot_be_read(no_credentials: Path) -> None:
    """A broken file is an error with a remedy; what stands in it is not repeated, nor as cause."""
    (no_credentials / ".aws").mkdir()
    (no_credentials / ".aws" / "credentials").write_text("very-secret\n")
    with pytest.raises(InvalidInputError, match="cannot read the AWS profile") as caught:
        opened(S3Options(endpoint="http://127.0.0.1:9"))
    shown = "".join(traceback.format_exception(caught.value))
    assert "very-secret" not in shown
    assert caught.value.hint is not None


def test_a_secret_may_have_any_character(no_credentials: Path) -> None:
    """A per cent sign in the profile file is a per cent sign."""
    (no_credentials / ".aws").mkdir()
    text = "[default]\naws_access_key_id = a\naws_secret_access_key = 100%s/=+\n"
    (no_credentials / ".aws" / "credentials").write_text(text)
    with opened(S3Options(endpoint="http://127.0.0.1:9")) as backend:
        assert backend._client._provider.retrieve().secret_key == "100%s/=+"


def test_empty_credentials() -> None:
    """An empty key is refused before any request."""
    with pytest.raises(InvalidInputError, match="empty") as caught:
        opened(S3Options(endpoint="http://127.0.0.1:9", credentials=Credentials("", "")))
    assert caught.value.hint is not None


@pytest.mark.usefixtures("no_credentials")
def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that was named and is absent is not passed over."""
    monkeypatch.setenv("AWS_PROFILE", "taem")
    with pytest.raises(InvalidInputError, match="taem"):
        opened(S3Options(endpoint="http://127.0.0.1:9"))


WRONG = {
    "unknown key": Credentials("NOBODY0123456789", "very-secret-0"),
    "wrong secret": Credentials(servers.ACCESS_KEY, "very-secret-0"),
    "wrong token": Credentials(servers.ACCESS_KEY, servers.SECRET_KEY, "very-secret-token"),
}


@pytest.mark.parametrize("wrong", ["unknown key", "wrong secret", "anonymous"])
def test_wrong_credentials(server: servers.Server, wrong: str) -> None:
    """Each method is refused with PermissionDeniedError, the address and a remedy."""
    options = replace(server.options, credentials=WRONG.get(wrong), anonymous=wrong == "anonymous")
    with opened(options) as backend:
        calls: tuple[Callable[[], object], ...] = (
            lambda: backend.get("key"),
            lambda: backend.head("key"),
            lambda: backend.put("key", [b"x"], CreateOnly()),
            lambda: list(backend.list("")),
            lambda: backend.delete(["key"]),
            backend.probe,
        )
        for call in calls:
            with pytest.raises(PermissionDeniedError, match=server.endpoint) as caught:
                call()
            assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")
            assert not caught.value.retryable


def test_a_wrong_session_token(minio: servers.Server) -> None:
    """A token that the server did not give out, or that is over, is refused as a wrong key is."""
    with (
        opened(replace(minio.options, credentials=WRONG["wrong token"])) as backend,
        pytest.raises(PermissionDeniedError) as caught,
    ):
        backend.get("key")
    assert caught.value.hint is not None


@pytest.mark.parametrize("wrong", ["unknown key", "wrong secret"])
def test_the_store_says_so_too(server: servers.Server, tmp_path: Path, wrong: str) -> None:
    """Neither opening nor creating a store takes a refusal for an empty place."""
    options = replace(server.options, credentials=WRONG[wrong])
    for make in (Store.open, Store.create):
        with pytest.raises(PermissionDeniedError):
            make("s3://tests/x", s3=options, cache_folder=tmp_path, deadline=5)


def test_secrets_are_never_shown(server: servers.Server, caplog: pytest.LogCaptureFixture) -> None:
    """No error, cause, repr or log line at any level has a secret or a token in it."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    for credentials in WRONG.values():
        options = replace(server.options, credentials=credentials)
        backend = opened(options)
        texts += [repr(options), str(options), repr(backend), backend.url, repr(vars(backend))]
        for call in (lambda b=backend: b.get("key"), lambda b=backend: list(b.list(""))):
            with pytest.raises(BackendError) as caught:
                call()
            error: BaseException | None = caught.value
            while error is not None:
                texts += [str(error), repr(error)]
                error = error.__cause__
    texts += [record.getMessage() for record in caplog.records]
    assert not [text for text in texts if "very-secret" in text or servers.SECRET_KEY in text]


# buckets


def test_a_missing_bucket(server: servers.Server, tmp_path: Path) -> None:
    """It is an error with the remedy for each method, and never "no object" or "no store".

    Only a put may succeed: SeaweedFS then makes the bucket.
    """
    with opened(server.options, bucket="no-such-bucket") as backend:
        calls: tuple[Callable[[], object], ...] = (
            lambda: backend.get("key"),
            lambda: backend.head("key"),
            lambda: list(backend.list("")),
            lambda: backend.delete(["key"]),
        )
        for call in calls:
            with pytest.raises(BackendError) as caught:
                call()
            assert type(caught.value) is BucketAbsentError
            assert "mb" in (caught.value.hint or "")
            assert "no-such-bucket" in str(caught.value)
    for make in (Store.open, Store.create):
        with pytest.raises(BackendError) as caught:
            make("s3://no-such-bucket/x", s3=server.options, cache_folder=tmp_path, deadline=5)
        assert "mb" in (caught.value.hint or "")


def test_an_empty_bucket_has_no_store(server: servers.Server, tmp_path: Path) -> None:
    """A bucket that is there and holds no store is something else than one that is missing."""
    with pytest.raises(NotFoundError, match="no store at"):
        Store.open("s3://tests/nothing", s3=server.options, cache_folder=tmp_path, deadline=5)


# region and host names


@pytest.mark.parametrize("region", [None, "us-east-1"])
def test_a_region_is_found_or_given(server: servers.Server, region: str | None) -> None:
    """Without a region the server is asked for it; the right one works."""
    works(replace(server.options, region=region))


def test_path_style(server: servers.Server) -> None:
    """The bucket may stand in the path."""
    works(replace(server.options, style="path"))


def test_virtual_host_style(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket may stand in the host name, and the server sees it there."""
    if servers.minio_program() is None:
        pytest.skip(NO_MINIO)
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, *others: Any, **more: Any) -> Any:
        asked.append(str(host))  # many systems do not know the names below localhost
        return real("127.0.0.1" if str(host).endswith(".localhost") else host, *others, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with servers.minio(domain="localhost") as server:
        server.make_bucket("tests")
        endpoint = f"http://localhost:{server.port}"
        works(replace(server.options, endpoint=endpoint, style="virtual"))
        assert "tests.localhost" in asked
        with (
            opened(
                replace(server.options, endpoint=endpoint, style="virtual"), bucket="not-there"
            ) as backend,
            pytest.raises(BackendError) as caught,
        ):
            backend.head("key")
        assert "mb" in (caught.value.hint or "")


# certificates


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """The real MinIO with a certificate of its own."""
    if servers.minio_program() is None:
        pytest.skip(NO_MINIO)
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    folder = tmp_path_factory.mktemp("certificates")
    servers.make_certificate(folder)
    with servers.minio(certificates=folder) as server:
        server.make_bucket("tests")
        yield server


def test_a_certificate_of_ones_own(secure: servers.Server) -> None:
    """With the authority named, https works, the store too."""
    assert secure.endpoint.startswith("https://")
    works(secure.options)
    url = f"s3://tests/tls?endpoint={secure.endpoint}&ca={secure.ca_file}"
    options = S3Options(region="us-east-1", credentials=secure.options.credentials)
    Store.create(url, s3=options, deadline=5).close()
    assert "ca=" in Store.open(url, s3=options, deadline=5).url


@pytest.mark.parametrize("authority", ["missing", "another"])
def test_a_certificate_that_is_not_trusted(
    secure: servers.Server, tmp_path: Path, authority: str
) -> None:
    """It ends the call at once, with the remedy; nothing is sent."""
    ca_file = str(servers.make_certificate(tmp_path)) if authority == "another" else None
    with (
        opened(replace(secure.options, ca_file=ca_file)) as backend,
        pytest.raises(BackendError, match="CERTIFICATE_VERIFY_FAILED") as caught,
    ):
        backend.get("key")
    assert not caught.value.retryable
    assert "?ca=" in (caught.value.hint or "")


def test_a_certificate_of_another_host(secure: servers.Server) -> None:
    """A trusted certificate that names another host is not taken."""
    endpoint = f"https://127.0.0.2:{secure.port}"
    with (
        opened(replace(secure.options, endpoint=endpoint)) as backend,
        pytest.raises(BackendError) as caught,
    ):
        backend.get("key")
    assert caught.value.hint is not None or caught.value.retryable


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_is_none(
    secure: servers.Server, tmp_path: Path, content: str | None
) -> None:
    """A file that is absent or holds no certificate is refused before any request."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInputError, match=r"ca\.pem"):
        opened(replace(secure.options, ca_file=str(path)))


def test_http_to_a_server_that_speaks_https(secure: servers.Server) -> None:
    """It is an error that waiting does not mend, with a remedy."""
    with (
        opened(replace(secure.options, endpoint=f"http://127.0.0.1:{secure.port}")) as backend,
        pytest.raises(BackendError) as caught,
    ):
        backend.get("key")
    assert not caught.value.retryable
    assert caught.value.hint is not None


def test_https_to_a_server_that_speaks_http(server: servers.Server) -> None:
    """It is an error that waiting does not mend, with a remedy."""
    with (
        opened(replace(server.options, endpoint=f"https://127.0.0.1:{server.port}")) as backend,
        pytest.raises(BackendError) as caught,
    ):
        backend.get("key")
    assert not caught.value.retryable
    assert "http://" in (caught.value.hint or "")
