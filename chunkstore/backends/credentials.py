"""Credentials for S3: given, from variables of the environment, or from an AWS profile file.

They never come from a URL and are never printed.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from chunkstore.errors import InvalidInputError


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
    return _from_profile(environ, home)


def _from_profile(environ: Mapping[str, str], home: str) -> Credentials | None:
    default = os.path.join(home, ".aws", "credentials")
    path = environ.get("AWS_SHARED_CREDENTIALS_FILE", default)
    profile = environ.get("AWS_PROFILE", "default")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read the AWS profile file {path}") from error
    if not parser.has_section(profile):
        if "AWS_PROFILE" in environ:
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
