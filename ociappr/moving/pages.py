"""Entries page by page: each page is one instant, and what is held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ociappr.digest import Digest
from ociappr.metadata import Entry, MetadataStore, prefix_end
from ociappr.registry import keys

PAGE = 500


async def pages(
    metadata: MetadataStore, prefix: bytes, *, start: bytes | None = None, limit: int = PAGE
) -> AsyncIterator[list[Entry]]:
    """Yield the entries below *prefix* in pages, each of which is one instant."""
    first, stop = start or prefix, prefix_end(prefix)
    while page := await metadata.scan(first, stop, limit=limit):
        yield page
        first = page[-1].key + b"\0"


def digest_of(entry: Entry) -> Digest:
    """Return the digest that is the second part of a key."""
    return Digest.parse(keys.parts(entry.key)[1])
