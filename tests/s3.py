"""An S3 server in the tests' own process: moto, which knows the plain path only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from botocore.session import Session
from moto.server import ThreadedMotoServer

from ociappr.blobstore.s3 import S3Access

BUCKET = "blobs"


@contextmanager
def serving() -> Iterator[S3Access]:
    """Have it run within the block, with the bucket `BUCKET`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    access = S3Access(endpoint=f"http://{host}:{port}", access_key="key", secret_key="secret")
    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
    )
    with closing(client):
        client.create_bucket(Bucket=BUCKET)
    try:
        yield access
    finally:
        server.stop()
