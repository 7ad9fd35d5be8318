"""The blob store contract and what S3 adds to it, on versitygw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.backends.s3 import S3Server
from conformance.backends.versitygw import versitygw
from conformance.stores.conftest import require
from conformance.stores.s3 import Halt, S3Contract, halt
from ociappr.blobstore.s3 import S3Blobs

__all__ = ["halt"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require("versitygw")
    with versitygw(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


class TestVersitygw(S3Contract):
    async def test_without_its_checksum_a_broken_write_leaves_half_an_object(
        self, store: S3Blobs, halt: Halt, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = store._bucket._client.put_object

        async def unchecked(**parameters: object) -> object:
            del parameters["ChecksumSHA256"]
            return await put(**parameters)  # type: ignore[arg-type]  # what the driver gave

        monkeypatch.setattr(store._bucket._client, "put_object", unchecked)
        await self.die_inside_a_write(store, halt, monkeypatch, 4 * 1024**2)
        (torn,) = await self.left(store)
        assert torn.size < 4 * 1024**2
