"""A registry's whole world in a test: two stores, a clock, and ways to look at what they hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ociappr.blobstore import BlobStore, Locator
from ociappr.descriptor import EMPTY_BYTES
from ociappr.digest import Digest
from ociappr.media import OCI_INDEX, OCI_MANIFEST
from ociappr.metadata import Entry, MetadataStore
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.registry import Registry, Settings, keys
from ociappr.registry.collector import Collected
from ociappr.registry.records import BlobRecord, UploadRecord, decode
from tests.core.leftovers import entries, leftovers

A, B = RepositoryName("library/a"), RepositoryName("library/b")
CHECKPOINT = 300_000
"""Bytes between two checkpoints of the stores in a world: the first block is below, two above."""
SMALL, MIDDLE, LARGE = 1_000, 100_000, 400_000
"""Inline; read whole and then staged; streamed (`Settings.inline_limit`, `small_body`)."""


@dataclass(slots=True)
class Clock:
    """Time that passes when a test says so."""

    moment: datetime = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.moment

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.moment += by


@dataclass(slots=True)
class World:
    """Two stores and a clock; any number of registries may be opened over them."""

    metadata: MetadataStore
    store: BlobStore
    clock: Clock = field(default_factory=Clock)
    settings: Settings = field(default_factory=Settings)

    async def registry(self, settings: Settings | None = None) -> Registry:
        """Open a registry, as a process that has just started does."""
        return await Registry.open(
            self.metadata, self.store, settings or self.settings, now=self.clock
        )

    async def entries(self, letters: str) -> list[Entry]:
        """Return all entries of these kinds."""
        return await entries(self.metadata, letters)

    async def value(self, key: bytes) -> bytes | None:
        """Return the value of a key, if it is there."""
        entry = (await self.metadata.get([key])).get(key)
        return entry.value if entry else None

    async def blob(self, digest: Digest) -> BlobRecord | None:
        """Return the record of a blob, if there is one."""
        value = await self.value(keys.blob(digest))
        return decode(BlobRecord, value) if value is not None else None

    async def objects(self) -> list[Locator]:
        """Return the locators of all objects."""
        return [stored.locator async for stored in self.store.walk()]

    async def sessions(self) -> list[UploadRecord]:
        """Return the upload sessions that have a record."""
        return [decode(UploadRecord, entry.value) for entry in await self.entries("u")]

    async def collect(self, rounds: int = 1, *, aged: bool = True) -> Collected:
        """Run the collector of a fresh registry, a grace period after the last time if *aged*."""
        collector = (await self.registry()).collector
        done = Collected()
        for _ in range(rounds):
            if aged:
                self.clock.advance(self.settings.grace)
            done = await collector.run()
        return done

    async def settle(self) -> None:
        """Let all sessions expire and all garbage go."""
        self.clock.advance(self.settings.session_age + timedelta(seconds=2))
        await self.collect(5)

    async def faults(self) -> list[str]:
        """Return all that is wrong or left over in a settled world: nothing, one hopes."""
        found = [
            f"{finding.what}: {finding.about}"
            async for finding in (await self.registry()).fsck.run()
        ]
        return found + await leftovers(self.metadata, self.store)


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield *pieces* as a request body does."""
    for piece in pieces:
        yield piece


async def broken(*pieces: bytes, error: Exception) -> AsyncIterator[bytes]:
    """Yield *pieces*, then fail as a body does whose client goes away."""
    for piece in pieces:
        yield piece
    raise error


def content(size: int, seed: str = "") -> bytes:
    """Return bytes that are told by their seed."""
    return (seed.encode() + bytes(range(256)) * (size // 256 + 1))[:size]


async def push_blob(registry: Registry, data: bytes, repository: RepositoryName = A) -> Digest:
    """Push a blob in one request."""
    digest = Digest.of(data)
    await registry.uploads.put(repository, digest, chunks(data), size=len(data))
    return digest


async def upload(
    registry: Registry, *pieces: bytes, repository: RepositoryName = A, algorithm: str = "sha256"
) -> str:
    """Begin an upload, append *pieces*, each in a request of its own, and return its id."""
    id_ = (await registry.uploads.begin(repository, algorithm=algorithm)).id
    for piece in pieces:
        await registry.uploads.append(repository, id_, chunks(piece))
    return id_


async def finish(
    registry: Registry, id_: str, data: bytes, *pieces: bytes, repository: RepositoryName = A
) -> Digest:
    """Close an upload whose whole content is *data*, with *pieces* as its last body."""
    digest = Digest.of(data)
    size = sum(map(len, pieces))
    await registry.uploads.finish(repository, id_, digest, chunks(*pieces), size=size)
    return digest


async def push_manifest(
    registry: Registry,
    raw: bytes,
    *names: str,
    repository: RepositoryName = A,
    media_type: str = OCI_MANIFEST,
) -> Digest:
    """Push a manifest by its digest, under these tags too."""
    digest = Digest.of(raw)
    tags = [Tag(name) for name in names]
    await registry.manifests.put(Reference(repository, digest), media_type, raw, tags=tags)
    return digest


async def push_index(
    registry: Registry, raw: bytes, *names: str, repository: RepositoryName = A
) -> Digest:
    """Push an image index by its digest, under these tags too."""
    return await push_manifest(registry, raw, *names, repository=repository, media_type=OCI_INDEX)


async def push_all(
    registry: Registry, pieces: Iterable[bytes], repository: RepositoryName = A
) -> None:
    """Push blobs, and the empty config that the images of the tests have."""
    for piece in (EMPTY_BYTES, *pieces):
        await push_blob(registry, piece, repository)


async def read(registry: Registry, digest: Digest, repository: RepositoryName = A) -> bytes:
    """Return the bytes of a blob that *repository* shows."""
    blob = await registry.blobs.find(repository, digest)
    async with registry.blobs.read(blob) as blocks:
        return b"".join([block async for block in blocks])


async def tagged(registry: Registry, name: str, repository: RepositoryName = A) -> Digest:
    """Return the manifest that a tag names, having read it."""
    return (await registry.manifests.get(Reference(repository, Tag(name)))).digest
