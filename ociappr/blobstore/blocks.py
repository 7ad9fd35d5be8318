"""Streams cut into blocks: what every driver stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

from ociappr.blobstore import BLOCK
from ociappr.digest import Digest, verified


async def in_blocks(
    chunks: AsyncIterable[bytes], expected: Digest | None
) -> AsyncGenerator[bytes, None]:
    """Yield *chunks* in blocks of at most `BLOCK`; raise `DigestInvalid` unless as *expected*."""
    async with aclosing(_cut(chunks)) as blocks:
        async for block in blocks if expected is None else verified(blocks, expected):
            yield block


async def _cut(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Cut *chunks*, and give the loop a turn before more than a block has moved since the last."""
    moved = 0
    async for chunk in chunks:
        for start in range(0, len(chunk), BLOCK):
            block = chunk if len(chunk) <= BLOCK else chunk[start : start + BLOCK]
            moved += len(block)
            if moved > BLOCK:
                await asyncio.sleep(0)
                moved = len(block)
            yield block
