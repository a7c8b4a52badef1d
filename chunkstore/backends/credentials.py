"""Credentials: for S3 given, from variables or an AWS profile file; for a server its token.

They never come from a URL and are never printed.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chunkstore.errors import FilesystemError, InvalidInputError, NotFoundError, RefusedError

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
_OTHERS: Final = 0o007


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key and what proves it; printed without the secrets."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def find_credentials(environ: Mapping[str, str], home: str) -> Credentials | None:
    """Return the first credentials found: AWS variables, MINIO variables, the profile file.

    Raises:
        InvalidInputError: `AWS_PROFILE` names a profile that the file does not have.
    """
    for access, secret in (
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
        ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
    ):
        if environ.get(access) and environ.get(secret):
            token = environ.get("AWS_SESSION_TOKEN") if access.startswith("AWS") else None
            return Credentials(environ[access], environ[secret], token or None)
    default = os.path.join(home, ".aws", "credentials")
    path = environ.get("AWS_SHARED_CREDENTIALS_FILE", default)
    profile = environ.get("AWS_PROFILE", "default")
    return read_profile(path, profile, required="AWS_PROFILE" in environ)


def read_profile(path: str, profile: str, *, required: bool) -> Credentials | None:
    """Return the credentials of a profile, or None where the file or the profile has none.

    Raises:
        InvalidInputError: the file is none, or the profile is `required` and not there.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):  # which repeat lines of the file
        raise InvalidInputError(
            f"cannot read the AWS profile file {path}",
            hint="mend it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from None
    if not parser.has_section(profile):
        if required:
            raise InvalidInputError(
                f"there is no AWS profile {profile!r} in {path}",
                hint="unset AWS_PROFILE or name one that is there",
            )
        return None
    section = parser[profile]
    access, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
    if not access or not secret:
        return None
    return Credentials(access, secret, section.get("aws_session_token"))


def read_token(path: str) -> str:
    """Return the token that a file holds and nothing else.

    Raises:
        NotFoundError: there is no such file.
        RefusedError: everybody may read it.
        InvalidInputError: it holds something else.
        FilesystemError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise RefusedError(
                    f"everybody may read the token in {path}", hint=f"chmod o= {shlex.quote(path)}"
                )
            data = file.read(5000)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no token file {path}", hint="write the token into it and nothing else"
        ) from None
    except OSError as error:
        raise FilesystemError(f"cannot read {path}: {error.strerror}") from error
    return check_token(data.decode("latin-1").strip(), f"what {path} holds")


def check_token(text: str, what: str) -> str:
    """Return `text` if it can be a token; `what` says where it is from.

    Raises:
        InvalidInputError: it cannot.
    """
    if not _TOKEN.fullmatch(text):
        raise InvalidInputError(
            f"{what} is no token", hint="a token is one word, such as cs_<12 digits>_<64 digits>"
        )
    return text
