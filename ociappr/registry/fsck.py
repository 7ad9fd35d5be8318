"""Checking a registry: every blob is read and hashed, every derived key is computed again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ociappr.blobstore import Locator
from ociappr.digest import Digest, new_hash
from ociappr.errors import BlobUnknown, OciapprError
from ociappr.manifest import Manifest
from ociappr.metadata import MetadataStore, scan_all
from ociappr.names import RepositoryName
from ociappr.registry import derived, keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.records import (
    BlobRecord,
    ManifestRecord,
    TagKind,
    TagRecord,
    decode,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: *what*, and which *key* or digest it is about."""

    what: str
    about: str


class Fsck:
    """Reports what is missing, damaged or not derived; changes nothing.

    On a registry in use a finding may be a change that was under way: look again.
    """

    def __init__(self, metadata: MetadataStore, blobs: Blobs) -> None:
        self._metadata = metadata
        self._blobs = blobs

    async def run(self) -> AsyncIterator[Finding]:
        """Yield the findings as they come up, tags that lead nowhere last."""
        async for finding in self._check_blobs():
            yield finding
        async for finding in self._check_manifests():
            yield finding
        for letter in "pfa":
            async for finding in self._check_derived(letter):
                yield finding
        async for finding in self._check_owners():
            yield finding
        async for finding in self._check_tags():
            yield finding

    async def _check_blobs(self) -> AsyncIterator[Finding]:
        async for entry in scan_all(self._metadata, keys.kind("b")):
            digest = Digest.parse(keys.parts(entry.key)[1])
            record = decode(BlobRecord, entry.value)
            problem = await self._hash(digest, record)
            if problem:
                yield Finding(problem, str(digest))
            for key in await self._absent(derived.of_blob(digest, record)):
                yield Finding("a blob's locator does not lead back to it", _shown(key))

    async def _check_manifests(self) -> AsyncIterator[Finding]:
        async for entry in scan_all(self._metadata, keys.kind("m")):
            _, name, text = keys.parts(entry.key)
            record = decode(ManifestRecord, entry.value)
            try:
                raw = await self._read(Digest.parse(text))
                manifest = Manifest.parse(raw, record.media_type, digest=Digest.parse(text))
            except OciapprError as error:
                yield Finding(f"a manifest of {name} cannot be read: {error.message}", text)
                continue
            for key in await self._absent(derived.of_manifest(RepositoryName(name), manifest)):
                yield Finding("a derived key of a manifest is missing", _shown(key))

    async def _check_derived(self, letter: str) -> AsyncIterator[Finding]:
        """Find derived keys whose manifest is gone: a pin of nothing keeps its blob for ever."""
        async for entry in scan_all(self._metadata, keys.kind(letter)):
            _, first, second, digest = keys.parts(entry.key)
            name = RepositoryName(second if letter == "p" else first)
            if not await self._metadata.get([keys.manifest(name, Digest.parse(digest))]):
                yield Finding("a derived key belongs to no manifest", _shown(entry.key))

    async def _check_owners(self) -> AsyncIterator[Finding]:
        async for entry in scan_all(self._metadata, keys.kind("o")):
            locator = Locator(keys.parts(entry.key)[1])
            key = keys.blob(Digest.parse(entry.value.decode()))
            found = (await self._metadata.get([key])).get(key)
            parts = decode(BlobRecord, found.value).parts if found is not None else ()
            if all(place != locator for place, _ in parts):
                yield Finding("a locator belongs to a blob that does not name it", str(locator))

    async def _check_tags(self) -> AsyncIterator[Finding]:
        async for entry in scan_all(self._metadata, keys.kind("t")):
            _, name, tag = keys.parts(entry.key)
            repository, record = RepositoryName(name), decode(TagRecord, entry.value)
            if record.kind is TagKind.CHANNEL:
                continue  # one whose release was deleted waits for it to be pushed again
            target = keys.manifest(repository, Digest.parse(record.digest))
            if not await self._metadata.get([target]):
                what = f"a tag names manifest {record.digest}, which is gone"
                yield Finding(what, f"{name}:{tag}")

    async def _hash(self, digest: Digest, record: BlobRecord) -> str:
        """Return what is wrong with the bytes of a blob, or nothing."""
        running, size = new_hash(digest.algorithm), 0
        try:
            async with self._blobs.read(await self._blobs.load(digest, record)) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(running.update, block)
                    size += len(block)
        except BlobUnknown:
            return "the bytes of a blob are gone"
        if size != record.size or running.hexdigest() != digest.hex:
            return "the bytes of a blob are damaged"
        return ""

    async def _read(self, digest: Digest) -> bytes:
        key = keys.blob(digest)
        entry = (await self._metadata.get([key])).get(key)
        if entry is None:
            raise BlobUnknown(f"there is no blob {digest}")
        blob = await self._blobs.load(digest, decode(BlobRecord, entry.value))
        async with self._blobs.read(blob) as blocks:
            return b"".join([block async for block in blocks])

    async def _absent(self, wanted: dict[bytes, bytes]) -> list[bytes]:
        """Return those of the *wanted* keys that are absent or have another value."""
        found = await self._metadata.get(list(wanted))
        return [
            key for key, value in wanted.items() if key not in found or found[key].value != value
        ]


def _shown(key: bytes) -> str:
    return " ".join(keys.parts(key))
