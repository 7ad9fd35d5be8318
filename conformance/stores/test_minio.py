"""The blob store contract and what S3 adds to it, on MinIO."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.backends.minio import minio
from conformance.backends.s3 import S3Server
from conformance.stores.conftest import require
from conformance.stores.s3 import S3Contract, halt

__all__ = ["halt"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require("minio")
    with minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


class TestMinio(S3Contract):
    pass
