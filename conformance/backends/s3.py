"""What the S3 servers have in common: a bucket, and a look at what a driver left in it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from botocore.session import Session

from conformance.backends.daemon import Daemon, running

KEY, SECRET = "testkey", "testsecret"
BUCKET = "registry"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that runs, with the bucket `BUCKET` in it."""

    daemon: Daemon
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a registry must be told beside ``--storage s3://registry``."""
        return {
            "OCIAPPR_STORAGE__S3__ENDPOINT": self.endpoint,
            "OCIAPPR_STORAGE__S3__ACCESS_KEY": KEY,
            "OCIAPPR_STORAGE__S3__SECRET_KEY": SECRET,
        }

    def call(self, operation: str, **parameters: object) -> dict[str, Any]:
        """Make one request with botocore's own client; raise its errors."""
        client = Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        with closing(client):
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
            return answer

    def open_uploads(self, key: str) -> int:
        """Return how many multipart uploads of *key* are open; MinIO finds them by key only."""
        return len(
            self.call("list_multipart_uploads", Bucket=BUCKET, Prefix=key).get("Uploads", [])
        )


@contextmanager
def with_bucket(daemon: Daemon, endpoint: str) -> Iterator[S3Server]:
    """Have *daemon* run within the block, with a bucket."""
    with running(daemon):
        server = S3Server(daemon, endpoint)
        server.call("create_bucket", Bucket=BUCKET)
        yield server


def answers(url: str) -> bool:
    """Tell whether a GET of *url* is 200; raise `OSError`."""
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - loopback, always http
        return bool(response.status == HTTPStatus.OK)
