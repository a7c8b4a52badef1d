"""URLs that let whoever has them do one thing with one object: AWS Signature 4 in the query. Pure.

The SDK signs the host only. Here every header that says what the request does is signed too: a
range that is read, the length, hash and condition of what is written. Changed, the URL opens
nothing. Neighbour: `minio`, which knows bucket, region and credentials.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from chunkstore.backends.credentials import Credentials

UNSIGNED: Final = "UNSIGNED-PAYLOAD"

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


def presigned(
    method: str,
    url: urllib.parse.SplitResult,
    headers: Mapping[str, str],
    *,
    credentials: Credentials,
    region: str,
    now: datetime,
    seconds: int,
    payload: str = UNSIGNED,
) -> str:
    """Return a URL that allows one request, which must have these very headers.

    Args:
        method: of the request.
        url: of the object, its path encoded, without a query.
        headers: names in lower case, with the values that the request must have.
        credentials: whose right it is.
        region: of the bucket.
        now: when it begins to hold, in UTC.
        seconds: how long it holds.
        payload: SHA-256 of the body in hex; of one that is not signed UNSIGNED.
    """
    date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    scope = f"{day}/{region}/s3/aws4_request"
    signed = {**headers, "host": url.netloc}
    names = ";".join(sorted(signed))
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": names,
    }
    if payload != UNSIGNED:
        query["X-Amz-Content-Sha256"] = payload
    if credentials.session_token:
        query["X-Amz-Security-Token"] = credentials.session_token
    encoded = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in sorted(query.items()))
    lines = (f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    canonical = "\n".join((method, url.path, encoded, "".join(lines), names, payload))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\n".join((_ALGORITHM, date, scope, digest))
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    query_with = f"{encoded}&X-Amz-Signature={signature}"
    return urllib.parse.urlunsplit((url.scheme, url.netloc, url.path, query_with, ""))


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")
