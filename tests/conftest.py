"""What tests of several kinds ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

    from ociappr.blobstore.s3 import S3Access


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Access]:
    """An S3 server in this process, with a bucket."""
    from tests.s3 import serving  # noqa: PLC0415 - it takes a second, and few tests need it

    with serving() as access:
        yield access


@pytest.fixture(scope="session")
def session() -> AioSession:
    """A session that all tests share: it reads botocore's descriptions of services once."""
    from aiobotocore.session import AioSession  # noqa: PLC0415 - as above

    return AioSession()
