"""One bucket: every request that the S3 driver makes, and its time limit.

botocore's own time-outs do not cover a write whose server stands still, so every request but the
reading of a body has one of ours. Nothing of botocore passes out of here.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Literal, Self, TypedDict, cast
from urllib.parse import urlsplit

from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from ociappr.blobstore import BLOCK
from ociappr.blobstore.s3_body import Body
from ociappr.blobstore.s3_client import (
    BROKEN,
    READERS,
    S3Access,
    code,
    connect,
    translated,
    unavailable,
)
from ociappr.blobstore.s3_joining import Range
from ociappr.errors import BlobUnknown, StoreUnavailable

if TYPE_CHECKING:  # its stubs are there in development only
    from types_aiobotocore_s3 import S3Client

_RESUMES = 3  # times that a stream which was cut is taken up again
_SLOWEST = 1024**2  # bytes a second that a write must make, beyond its patience
_JOINING = 32 * 1024**2  # bytes a second that the end of a multipart upload must make
_PAGE = 1000

_OVERRIDES: Mapping[str, str] = {
    "Content-Type": "ResponseContentType",
    "Content-Disposition": "ResponseContentDisposition",
    "Cache-Control": "ResponseCacheControl",
}


class _Place(TypedDict):
    Bucket: str
    Key: str


class _Encryption(TypedDict, total=False):
    ServerSideEncryption: Literal["AES256", "aws:kms"]
    SSEKMSKeyId: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as a listing shows it, without the prefix."""

    name: str
    size: int


class Bucket:
    """A bucket and the prefix of our keys in it; made by `open`."""

    def __init__(
        self,
        client: S3Client,
        public: S3Client,
        stack: AsyncExitStack,
        *,
        bucket: str,
        prefix: str,
        access: S3Access,
    ) -> None:
        self._client = client
        self._public = public
        self._stack = stack
        self._bucket = bucket
        self._prefix = prefix
        self._patience = access.patience
        self._encryption = _encryption(access)
        self._readers = asyncio.Semaphore(READERS)

    @classmethod
    async def open(
        cls, bucket: str, prefix: str, access: S3Access, *, session: AioSession | None = None
    ) -> Self:
        """Connect and look into the bucket; raise `StoreUnavailable`, with advice."""
        async with AsyncExitStack() as stack:
            with translated(), _usable():
                session = session or AioSession()
                client = await stack.enter_async_context(connect(session, access, access.endpoint))
                public = client
                if access.public_endpoint:
                    public = await stack.enter_async_context(
                        connect(session, access, access.public_endpoint)
                    )
            opened = cls(
                client, public, stack.pop_all(), bucket=bucket, prefix=prefix, access=access
            )
        try:
            await opened.page(after="", limit=1)
        except BaseException:
            await opened.close()
            raise
        return opened

    @property
    def is_public(self) -> bool:
        """Whether clients of ours may be expected to reach the server that URLs are signed for."""
        if self._public is not self._client:
            return True
        host = urlsplit(self._client.meta.endpoint_url).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._stack.aclose()

    # -- whole objects ---------------------------------------------------------------------------

    async def put(self, name: str, body: Body, *, sha256: bytes) -> None:
        """Store *body*, which the server compares with *sha256*."""
        async with self._asking(body.size / _SLOWEST):
            await self._client.put_object(
                **self._place(name),
                Body=cast("IO[bytes]", body),
                ContentLength=body.size,
                ChecksumSHA256=base64.b64encode(sha256).decode(),
                **self._encryption,
            )

    async def copy(self, source: str, name: str, size: int) -> None:
        """Copy an object of *size* bytes, at most 5 GiB, on the server."""
        async with self._asking(size / _JOINING):
            await self._client.copy_object(
                **self._place(name),
                CopySource=f"{self._bucket}/{self._prefix}{source}",
                **self._encryption,
            )

    async def delete(self, name: str) -> None:
        """Remove an object; absent is no error."""
        with suppress(BlobUnknown):  # versitygw says so when two requests delete it at once
            async with self._asking():
                await self._client.delete_object(**self._place(name))

    async def size(self, name: str) -> int:
        """Return the size of an object; raise `BlobUnknown`.

        Asked by GET, for the answer to a HEAD does not say what is absent: the key or the bucket.
        """
        async with self._asking():
            try:
                response = await self._client.get_object(**self._place(name), Range="bytes=0-0")
            except ClientError as error:
                if code(error) == "InvalidRange":  # as any range of an empty object is
                    return 0
                raise
            async with response["Body"] as body:
                await body.read()
            return int(response["ContentRange"].rpartition("/")[2])

    async def page(self, *, after: str, limit: int = _PAGE) -> list[Listed]:
        """Return what follows *after* in the order of the keys' bytes; nothing at the end."""
        async with self._asking():
            response = await self._client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._prefix,
                StartAfter=self._prefix + after,
                MaxKeys=limit,
            )
        found = response.get("Contents", [])
        return [Listed(one["Key"].removeprefix(self._prefix), one["Size"]) for one in found]

    async def read(self, name: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Yield a range in blocks, taking up a stream that was cut; raise `BlobUnknown`."""
        if stop is not None and stop <= start:
            return
        async with self._reader():
            offset, end, resumed = start, None, 0
            while end is None or offset < end:
                async with self._opened(name, offset, stop) as (blocks, length):
                    end = offset + length
                    try:
                        async for block in blocks:
                            offset += len(block)
                            yield block
                    except BROKEN as error:
                        resumed += 1
                        if resumed > _RESUMES:
                            raise unavailable(error) from error

    async def sign(self, name: str, expires: timedelta, headers: Mapping[str, str]) -> str:
        """Return a URL that anybody may GET for a while, and that answers *headers*."""
        known = {_OVERRIDES[key]: value for key, value in headers.items() if key in _OVERRIDES}
        with translated():
            return await self._public.generate_presigned_url(
                "get_object",
                Params={**self._place(name), **known},
                ExpiresIn=int(expires.total_seconds()),
            )

    # -- multipart uploads -----------------------------------------------------------------------

    async def begin(self, name: str) -> str:
        """Begin a multipart upload and return its id; nothing has *name* before `complete`."""
        async with self._asking():
            response = await self._client.create_multipart_upload(
                **self._place(name), **self._encryption
            )
        return response["UploadId"]

    async def send_part(
        self, name: str, upload: str, number: int, body: Body, *, crc32: int
    ) -> str:
        """Send a part, which the server compares with *crc32*; return its tag."""
        async with self._asking(body.size / _SLOWEST):
            response = await self._client.upload_part(
                **self._place(name),
                UploadId=upload,
                PartNumber=number,
                Body=cast("IO[bytes]", body),
                ContentLength=body.size,
                ChecksumCRC32=base64.b64encode(crc32.to_bytes(4, "big")).decode(),
            )
        return response["ETag"]

    async def copy_part(self, name: str, upload: str, number: int, source: Range) -> str:
        """Make a part of a range of another object; return its tag."""
        async with self._asking(source.size / _JOINING):
            response = await self._client.upload_part_copy(
                **self._place(name),
                UploadId=upload,
                PartNumber=number,
                CopySource=f"{self._bucket}/{self._prefix}{source.locator}",
                CopySourceRange=f"bytes={source.start}-{source.stop - 1}",
            )
        return response["CopyPartResult"]["ETag"]

    async def complete(self, name: str, upload: str, tags: Sequence[str], *, size: int) -> None:
        """End a multipart upload: from now on *name* has its *size* bytes."""
        async with self._asking(size / _JOINING):
            try:
                await self._client.complete_multipart_upload(
                    **self._place(name),
                    UploadId=upload,
                    MultipartUpload={
                        "Parts": [
                            {"PartNumber": number, "ETag": tag}
                            for number, tag in enumerate(tags, 1)
                        ]
                    },
                )
            except ClientError as error:
                # an answer was lost, and botocore asked again
                if code(error) != "NoSuchUpload" or await self.size(name) != size:
                    raise

    async def abort(self, name: str, upload: str) -> None:
        """Drop a multipart upload; absent is no error."""
        async with self._asking():
            try:
                await self._client.abort_multipart_upload(**self._place(name), UploadId=upload)
            except ClientError as error:
                if code(error) != "NoSuchUpload":
                    raise

    async def begun_before(self, moment: datetime) -> list[tuple[str, str]]:
        """Return multipart uploads that are open since, as far as the server lists them."""
        async with self._asking():
            response = await self._client.list_multipart_uploads(
                Bucket=self._bucket, Prefix=self._prefix
            )
        return [
            (one["Key"].removeprefix(self._prefix), one["UploadId"])
            for one in response.get("Uploads", [])
            if one["Initiated"] < moment
        ]

    # -- what they share -------------------------------------------------------------------------

    def _place(self, name: str) -> _Place:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    @asynccontextmanager
    async def _asking(self, more: float = 0) -> AsyncIterator[None]:
        """Give the block *more* seconds than the usual patience, and raise the port's errors."""
        with translated():
            async with asyncio.timeout(self._patience + more):
                yield

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[None]:
        """Hold a place among the readers: a full pool of connections would wait for ever."""
        async with self._asking():
            await self._readers.acquire()
        try:
            yield
        finally:
            self._readers.release()

    @asynccontextmanager
    async def _opened(
        self, name: str, start: int, stop: int | None
    ) -> AsyncIterator[tuple[AsyncIterator[bytes], int]]:
        """Open a range and tell its length; what lies behind the end is nothing."""
        last = "" if stop is None else stop - 1
        async with self._asking():
            try:
                response = await self._client.get_object(
                    **self._place(name), Range=f"bytes={start}-{last}"
                )
            except ClientError as error:
                if code(error) != "InvalidRange":
                    raise
                response = None
        if response is None:
            yield _nothing(), 0
            return
        async with response["Body"] as body:
            yield body.iter_chunks(BLOCK), response["ContentLength"]


@contextmanager
def _usable() -> Iterator[None]:
    """Raise `StoreUnavailable` where botocore cannot make anything of its environment."""
    try:
        yield
    except ValueError as error:
        hint = "correct it in botocore's environment, AWS_ENDPOINT_URL perhaps"
        raise StoreUnavailable(f"the S3 client cannot be made: {error}", hint=hint) from error


async def _nothing() -> AsyncIterator[bytes]:
    for block in list[bytes]():
        yield block


def _encryption(access: S3Access) -> _Encryption:
    if access.encryption == "none":
        return {}
    if access.kms_key:
        return {"ServerSideEncryption": access.encryption, "SSEKMSKeyId": access.kms_key}
    return {"ServerSideEncryption": access.encryption}
