"""Actors that push, tag, mount and delete all at once, and know what must be readable afterwards.

Layers come from a small pool, so that the same digests are born, pinned, deleted and born again all
the time. Every manifest is its actor's own, so that the actor knows whether it must be there.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import random
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ociappr.descriptor import EMPTY, EMPTY_BYTES, Descriptor
from ociappr.digest import Digest
from ociappr.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    OciapprError,
    RangeInvalid,
    UploadUnknown,
)
from ociappr.manifest import Manifest, build_image, build_index
from ociappr.media import OCI_INDEX, OCI_MANIFEST
from ociappr.names import PackageName, Reference, RepositoryName, Tag
from ociappr.registry import Registry
from ociappr.registry.submissions import examine
from ociappr.releases import Release

REPOSITORIES: Final = tuple(RepositoryName(f"soak/{name}") for name in ("a", "b", "c"))
LOOSE: Final = RepositoryName("soak/loose")
"""Where blobs are deleted by everybody, so that nobody knows what it shows."""
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_SIZES: Final = (300, 3_000, 20_000, 40_000, 300_000)
_POOL: Final = 40
_PATIENCE: Final = 50
_MOST: Final = 5
_SLOW: Final = 0.5  # seconds that a slow client takes between two requests


def layer(number: int) -> bytes:
    """Return a layer of the pool; its size tells by which way it goes in."""
    seed = hashlib.sha256(b"%d" % number).digest()
    return (seed * (_SIZES[number % len(_SIZES)] // len(seed) + 1))[: _SIZES[number % len(_SIZES)]]


POOL: Final = tuple(layer(number) for number in range(_POOL))


class LostError(Exception):
    """Something that was acknowledged, and not deleted since, cannot be read."""


@dataclass(slots=True)
class Ledger:
    """What all actors did: how often, and how often the collector was quicker than they."""

    events: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many operations were answered."""
        return self.events.total()


@dataclass(frozen=True, slots=True)
class Held:
    """A manifest that its actor pushed and did not delete."""

    repository: RepositoryName
    manifest: Manifest


class Actor:
    """One client; *held* and *tags* are what must be readable, and nothing else may be."""

    def __init__(self, name: str, registry: Registry, ledger: Ledger, *, seed: int) -> None:
        self.name = name
        self.held: dict[Digest, Held] = {}
        self.tags: dict[tuple[RepositoryName, str], Digest] = {}
        self._registry = registry
        self._ledger = ledger
        self._random = random.Random(seed)
        self._count = 0
        self._package = PackageName("soak", f"package-{name}")
        self._released: list[str] = []

    async def act(self) -> None:
        """Do one thing of many."""
        deeds: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (6, self._push),
            (2, self._push_index),
            (3, self._tag),
            (4, self._delete_manifest),
            (2, self._delete_tag),
            (2, self._mount),
            (2, self._loose),
            (2, self._shared),
            (2, self._cancel),
            (1, self._publish),
            (4, self._read),
        )
        weights = [weight for weight, _ in deeds]
        await self._random.choices([deed for _, deed in deeds], weights)[0]()

    async def verify(self) -> None:
        """Read all that must be there; raise `LostError`."""
        for held in list(self.held.values()):
            await self._verify(held)
        for (repository, tag), digest in self.tags.items():
            found = await self._registry.manifests.get(Reference(repository, Tag(tag)))
            if found.digest != digest:
                raise LostError(f"{repository}:{tag} names {found.digest}, not {digest}")

    async def clear(self) -> None:
        """Delete all that is held, tags first where there is no manifest of ours below them."""
        for digest in list(self.held):
            await self._forget(digest)
        if self._released:
            channel = "stable"
            await self._registry.channels.delete(self._package, channel)

    # -- deeds -----------------------------------------------------------------------------------

    async def _push(self) -> None:
        repository = self._random.choice(REPOSITORIES)
        layers = self._random.sample(POOL, self._random.randint(1, 3))
        manifest = self._image(layers)
        tags = [self._fresh_tag() for _ in range(self._random.randint(0, 2))]
        await self._put(repository, manifest, layers, tags)

    async def _push_index(self) -> None:
        repository = self._random.choice(REPOSITORIES)
        own = [one.manifest for one in self.held.values() if one.repository == repository]
        images = [manifest for manifest in own if not manifest.is_index][:3]
        if not images:
            return
        manifest = build_index((one.descriptor for one in images), {"by": self._fresh()})
        await self._put(repository, manifest, [], [self._fresh_tag()])

    async def _tag(self) -> None:
        held = self._any()
        if held is not None:
            tag = self._random.choice([name for _, name in self.tags] or [self._fresh_tag()])
            await self._put_manifest(held.repository, held.manifest, [tag])

    async def _delete_manifest(self) -> None:
        if len(self.held) > _MOST or (self.held and self._random.random() < 0.5):
            await self._forget(self._random.choice(list(self.held)))

    async def _delete_tag(self) -> None:
        if self.tags:
            repository, tag = self._random.choice(list(self.tags))
            del self.tags[repository, tag]
            await self._registry.tags.delete(repository, Tag(tag))
            self._did("delete tag")

    async def _mount(self) -> None:
        held = self._any()
        if held is None or held.manifest.is_index:
            return
        repository = self._random.choice(REPOSITORIES)
        for child in held.manifest.children:
            mounted = await self._registry.blobs.mount(
                repository, child.digest, held.repository, lambda _: True
            )
            if not mounted and repository != held.repository:
                raise LostError(f"{child.digest} of {held.repository} cannot be mounted")
            self._did("mount")
        layers = [data for data in POOL if Digest.of(data) in _digests(held.manifest)]
        await self._put(repository, self._image(layers), layers, [self._fresh_tag()])

    async def _loose(self) -> None:
        """Push a blob that nothing pins, and delete one that somebody may have deleted."""
        await self._upload(LOOSE, self._random.choice(POOL))
        digest = Digest.of(self._random.choice(POOL))
        try:
            await self._registry.blobs.delete(LOOSE, digest)
        except BlobUnknown:
            self._did("delete nothing")
        else:
            self._did("delete blob")

    async def _shared(self) -> None:
        """Push, tag and delete what others push, tag and delete just now."""
        number = self._random.randrange(3)
        layers = [POOL[number], POOL[number + 20]]
        manifest = _image(layers, f"shared {number}")
        tag = f"shared-{self._random.randrange(3)}"
        try:
            for data in (EMPTY_BYTES, *layers):
                await self._upload(LOOSE, data)
            await self._put_shared(manifest, tag)
        except ManifestBlobUnknown:
            self._ledger.retries["shared"] += 1
        if self._random.random() < 0.5:
            try:
                await self._registry.manifests.delete(LOOSE, manifest.digest)
            except ManifestUnknown:
                self._did("delete nothing")
            else:
                self._did("delete manifest")

    async def _cancel(self) -> None:
        repository = self._random.choice(REPOSITORIES)
        data = self._random.choice(POOL)
        id_ = (await self._registry.uploads.begin(repository)).id
        try:
            await self._registry.uploads.append(repository, id_, _once(data))
            if self._random.random() < 0.5:
                return  # abandoned: the collector's
            await self._registry.uploads.cancel(repository, id_)
        except UploadUnknown:
            self._ledger.retries["expired"] += 1
        self._did("cancel")

    async def _publish(self) -> None:
        """Publish a release, and let a channel lead to it."""
        self._count += 1
        release = Release(f"1.0.{self._count}")
        archive = _archive(f"{self.name} {self._count}")
        submission = examine(archive, "kpm", limit=1 << 20)
        for _ in range(_PATIENCE):
            try:
                await self._registry.publishing.push(self._package, release, submission)
                break
            except ManifestBlobUnknown:
                self._ledger.retries["publish"] += 1
        else:
            raise LostError(f"{self._package} {release} cannot be published")
        self._did("publish")
        await self._registry.channels.set(self._package, "stable", str(release))
        self._did("channel")
        old = self._released
        self._released = [str(release)]
        for text in old:
            await self._registry.publishing.delete(self._package, text, "kpm")
            self._did("delete release")
        await self._read_release()

    async def _read(self) -> None:
        held = self._any()
        if held is not None:
            await self._verify(held)
            self._did("read")

    # -- parts of deeds --------------------------------------------------------------------------

    async def _put(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        layers: list[bytes],
        tags: list[str],
    ) -> None:
        """Push what *manifest* needs and itself, again while the collector is quicker."""
        for _ in range(_PATIENCE):
            try:
                for data in (EMPTY_BYTES, *layers) if layers else ():
                    await self._upload(repository, data)
                if self._random.random() < 0.1:
                    await asyncio.sleep(_SLOW)
                await self._put_manifest(repository, manifest, tags)
            except ManifestBlobUnknown:
                self._ledger.retries["push"] += 1
            else:
                return
        raise LostError(f"{manifest.digest} cannot be pushed to {repository}")

    async def _put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tags: list[str]
    ) -> None:
        media_type = OCI_INDEX if manifest.is_index else OCI_MANIFEST
        reference = Reference(repository, manifest.digest)
        names = [Tag(tag) for tag in tags]
        await self._registry.manifests.put(reference, media_type, manifest.raw, tags=names)
        self.held[manifest.digest] = Held(repository, manifest)
        self.tags |= {(repository, tag): manifest.digest for tag in tags}
        self._did("put manifest")
        self._ledger.events["tag"] += len(tags)

    async def _put_shared(self, manifest: Manifest, tag: str) -> None:
        reference = Reference(LOOSE, Tag(tag))
        await self._registry.manifests.put(reference, OCI_MANIFEST, manifest.raw)
        self._did("put manifest")

    async def _forget(self, digest: Digest) -> None:
        held = self.held.pop(digest)
        for key in [key for key, target in self.tags.items() if target == digest]:
            del self.tags[key]
        await self._registry.manifests.delete(held.repository, digest)
        self._did("delete manifest")

    async def _upload(self, repository: RepositoryName, data: bytes) -> None:
        """Push a blob in one request or in chunks, sometimes with a break."""
        digest = Digest.of(data)
        if self._random.random() < 0.5:
            await self._registry.uploads.put(repository, digest, _once(data), size=len(data))
            self._did("push blob")
            return
        for _ in range(_PATIENCE):
            try:
                await self._in_chunks(repository, digest, data)
            except (UploadUnknown, RangeInvalid):
                self._ledger.retries["chunks"] += 1
            else:
                self._did("push chunks")
                return
        raise LostError(f"{digest} cannot be pushed in chunks to {repository}")

    async def _in_chunks(self, repository: RepositoryName, digest: Digest, data: bytes) -> None:
        uploads = self._registry.uploads
        id_ = (await uploads.begin(repository)).id
        middle = self._random.randint(0, len(data))
        if self._random.random() < 0.2:
            try:
                await uploads.append(repository, id_, _cut_off(data[:middle]))
            except ConnectionResetError:
                self._did("cut off")
        else:
            await uploads.append(repository, id_, _once(data[:middle]))
        if self._random.random() < 0.5:
            await uploads.append(repository, id_, _once(data[middle:]))
            middle = len(data)
        rest = data[middle:]
        await uploads.finish(repository, id_, digest, _once(rest), size=len(rest))

    async def _verify(self, held: Held) -> None:
        """Read a manifest and all its blobs; raise `LostError` unless it was deleted meanwhile."""
        try:
            reference = Reference(held.repository, held.manifest.digest)
            found = await self._registry.manifests.get(reference)
            if found.raw != held.manifest.raw:
                raise LostError(f"{held.manifest.digest} reads otherwise")
            if not held.manifest.is_index:
                for child in held.manifest.children:
                    await self._read_blob(held.repository, child.digest)
        except OciapprError as error:
            message = f"{held.manifest.digest} of {held.repository}: {error.message}"
            raise LostError(message) from error

    async def _read_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Read a blob; where its parts were joined and unlinked under the reader, read again."""
        for _ in range(_PATIENCE):
            blob = await self._registry.blobs.find(repository, digest)
            try:
                async with self._registry.blobs.read(blob) as blocks:
                    data = b"".join([block async for block in blocks])
            except BlobUnknown:
                self._ledger.retries["read"] += 1
                continue
            if Digest.of(data) != digest:
                raise LostError(f"{digest} of {repository} reads otherwise")
            return
        raise LostError(f"{digest} of {repository} cannot be read")

    async def _read_release(self) -> None:
        found = await self._registry.packages.find(self._package, self._released[0], "kpm")
        await self._read_blob(self._package.repository, Digest.parse(found.record.layer))

    def _image(self, layers: list[bytes]) -> Manifest:
        return _image(layers, self._fresh())

    def _any(self) -> Held | None:
        return self._random.choice(list(self.held.values())) if self.held else None

    def _fresh(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    def _fresh_tag(self) -> str:
        return f"{self.name}-{self._random.randrange(20)}"

    def _did(self, what: str) -> None:
        self._ledger.events[what] += 1


def _image(layers: list[bytes], note: str) -> Manifest:
    descriptors = [Descriptor(_LAYER, Digest.of(data), len(data)) for data in layers]
    return build_image(config=EMPTY, layers=descriptors, annotations={"note": note})


def _digests(manifest: Manifest) -> set[Digest]:
    return {child.digest for child in manifest.layers}


def _archive(text: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("text")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
    await asyncio.sleep(0)


async def _cut_off(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise ConnectionResetError("the client went away")
