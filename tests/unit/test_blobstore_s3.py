"""The contract of a blob store, kept in S3: here on moto, which knows the plain path only.

What moto cannot tell (checksums, broken connections, faults) is tested on real servers, in
``conformance/stores``.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from aiobotocore.session import AioSession
from botocore.session import Session
from moto.server import ThreadedMotoServer

from ociappr.blobstore.s3 import S3Access, S3Blobs
from tests.contracts.blobstore import BlobStoreContract, SegmentContract
from tests.contracts.multipart import MultipartContract

BUCKET = "blobs"


@pytest.fixture(scope="module")
def access() -> Iterator[S3Access]:
    """An S3 server in this process, with a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    access = S3Access(endpoint=f"http://{host}:{port}", access_key="key", secret_key="secret")
    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=access.endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield access
    server.stop()


@pytest.fixture(scope="module")
def session() -> AioSession:
    """A session that all tests share: it reads botocore's descriptions of services once."""
    return AioSession()


_numbers = itertools.count()


class TestS3Blobs(BlobStoreContract, MultipartContract, SegmentContract):
    @pytest.fixture
    async def store(self, access: S3Access, session: AioSession) -> AsyncIterator[S3Blobs]:
        prefix = f"{next(_numbers)}/"
        store = await S3Blobs.open(BUCKET, prefix, access=access, session=session)
        yield store
        await store.close()
