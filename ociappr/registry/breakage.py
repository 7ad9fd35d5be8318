"""From a blob to the tags that need it, for those who have to tell what a loss means."""

from __future__ import annotations

from ociappr.digest import Digest
from ociappr.metadata import MetadataStore, scan_all
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.records import TagRecord, decode

SHOWN = 100
"""So many tags are told at most: a base layer may be below all there are."""


async def broken_tags(metadata: MetadataStore, digest: Digest) -> tuple[str, ...]:
    """Return the tags, as ``repository:tag``, that need the blob *digest* at any depth."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [digest]
    while todo and len(found) < SHOWN:
        child = todo.pop()
        async for entry in scan_all(metadata, keys.pins(child)):
            _, _, name, parent = keys.parts(entry.key)
            if (name, parent) in seen:
                continue
            seen.add((name, parent))
            found |= await _tags_of(metadata, RepositoryName(name), Digest.parse(parent))
            if parent != str(child):
                todo.append(Digest.parse(parent))
    return tuple(sorted(found)[:SHOWN])


async def _tags_of(metadata: MetadataStore, name: RepositoryName, digest: Digest) -> set[str]:
    """Return the tags that name a manifest; its hints are checked."""
    found = set()
    async for entry in scan_all(metadata, keys.hints(name, digest)):
        tag = keys.parts(entry.key)[3]
        key = keys.tag(name, tag)
        stored = (await metadata.get([key])).get(key)
        if stored is not None and decode(TagRecord, stored.value).digest == str(digest):
            found.add(f"{name}:{tag}")
    return found
