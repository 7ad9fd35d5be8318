"""What housekeeping must not leave behind, once every session expired and every grace passed."""

from __future__ import annotations

from ociappr.blobstore import BlobStore
from ociappr.metadata import Entry, MetadataStore, scan_all
from ociappr.registry import keys
from ociappr.registry.records import BlobRecord, decode


async def entries(metadata: MetadataStore, letters: str) -> list[Entry]:
    """Return all entries of these kinds."""
    return [entry for letter in letters async for entry in scan_all(metadata, keys.kind(letter))]


async def leftovers(metadata: MetadataStore, store: BlobStore) -> list[str]:
    """Return a line for each key and each object that has no more reason to be."""
    found = [f"left over: {keys.parts(entry.key)}" for entry in await entries(metadata, "ux")]
    blobs = {
        keys.parts(entry.key)[1]: decode(BlobRecord, entry.value)
        for entry in await entries(metadata, "b")
    }
    named = {place for record in blobs.values() for place, _ in record.parts}
    found += [
        f"object of nobody: {stored.locator}"
        async for stored in store.walk()
        if stored.locator not in named
    ]
    owned = {keys.parts(entry.key)[1] for entry in await entries(metadata, "o")}
    found += [f"owner of nothing: {locator}" for locator in owned - named]
    for entry in await entries(metadata, "il"):
        letter, digest, rest = keys.parts(entry.key)
        birth = entry.value.decode() if letter == "l" else rest
        if digest not in blobs or blobs[digest].birth != birth:
            found.append(f"of a birth that is gone: {keys.parts(entry.key)}")
    return found + await _vain(metadata, blobs)


async def _vain(metadata: MetadataStore, blobs: dict[str, BlobRecord]) -> list[str]:
    """Return the pins, aliases and referrers without a manifest, and the blobs without a pin."""
    members = {tuple(keys.parts(entry.key)[1:]) for entry in await entries(metadata, "m")}
    pinned, found = set(), []
    for entry in await entries(metadata, "pfa"):
        letter, first, second, parent = keys.parts(entry.key)
        repository = first
        if letter == "p":
            repository = second
            pinned.add(first)
        if (repository, parent) not in members:
            found.append(f"derived from nothing: {keys.parts(entry.key)}")
    return found + [f"kept for nothing: {digest}" for digest in blobs.keys() - pinned]
