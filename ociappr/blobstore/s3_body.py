"""Bytes on their way to S3: gathered into bodies of a fixed size, which can be sent again."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator

from ociappr.digest import Digest, check, new_hash


class Verifier:
    """Sees bytes go by and tells at the end whether they are the *expected*, if any are."""

    def __init__(self, expected: Digest | None) -> None:
        self._expected = expected
        self._running = new_hash(expected.algorithm) if expected is not None else None

    def update(self, block: bytes) -> None:
        """See the next bytes."""
        if self._running is not None:
            self._running.update(block)

    def verify(self) -> None:
        """Raise `DigestInvalid` unless what was seen is what was expected."""
        if self._running is not None and self._expected is not None:
            check(self._running, self._expected)


class Body:
    """The blocks of one request's body, sent as they came: joining them would be a copy more."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self.size = 0

    def append(self, block: bytes) -> None:
        """Add *block*."""
        self._blocks.append(block)
        self.size += len(block)

    def clear(self) -> None:
        """Let go of the bytes, which nobody will send again."""
        self._blocks.clear()

    async def crc32(self, verifier: Verifier) -> int:
        """Return the checksum; *verifier* sees the bytes in the same thread."""
        return await asyncio.to_thread(self._crc32, verifier)

    async def sha256(self, verifier: Verifier) -> bytes:
        """Return the checksum; *verifier* sees the bytes in the same thread."""
        return await asyncio.to_thread(self._sha256, verifier)

    def _crc32(self, verifier: Verifier) -> int:
        found = 0
        for block in self._blocks:
            found = zlib.crc32(block, found)
            verifier.update(block)
        return found

    def _sha256(self, verifier: Verifier) -> bytes:
        found = hashlib.sha256()
        for block in self._blocks:
            found.update(block)
            verifier.update(block)
        return found.digest()

    # -- the file that botocore takes it for, and the stream that aiohttp sends --------------------

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self._blocks:
            yield block

    async def read(self) -> bytes:
        """Return everything; botocore only looks whether it could."""
        return b"".join(self._blocks)

    def tell(self) -> int:
        """Return where a reader stands: always at the beginning."""
        return 0

    def seek(self, _: int) -> None:
        """Do nothing: each iteration begins at the beginning."""


async def gather(blocks: AsyncIterator[bytes], body: Body, size: int) -> bytes:
    """Fill *body* up to exactly *size* bytes; return what is left of the last block."""
    while body.size < size:
        block = await anext(blocks, b"")
        if not block:
            break
        room = size - body.size
        body.append(block if len(block) <= room else block[:room])
        if len(block) > room:
            return block[room:]
    return b""
