"""Everything that the two doors show of a registry, as one value that can be compared."""

from __future__ import annotations

from typing import Any

from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, OciapprError
from ociappr.metadata import scan_all
from ociappr.names import PackageName, Reference, RepositoryName, Tag
from ociappr.registry import Registry, keys
from tests.core.world import World

_ALL = 10_000


async def picture(world: World) -> dict[str, Any]:
    """Return what a fresh registry over these stores shows, the bytes of every blob included."""
    registry = await world.registry()
    catalog = await registry.tags.repositories(limit=_ALL)
    shown: dict[str, Any] = {"catalog": catalog.items}
    for text in catalog.items:
        name = RepositoryName(text)
        shown[text] = {
            "tags": await _tags(registry, name),
            "manifests": await _manifests(world, registry, name),
            "blobs": await _blobs(world, registry, name),
            "package": await _package(registry, name),
        }
    listed = await registry.packages.list(readable=lambda _: True)
    shown["packages"] = [
        (one.package, one.created, [(each.release, each.formats) for each in one.releases])
        for one in listed
    ]
    return shown


async def _tags(registry: Registry, name: RepositoryName) -> dict[str, Any]:
    found = {}
    for tag in (await registry.tags.list(name, limit=_ALL)).items:
        stored = await registry.manifests.get(Reference(name, Tag(tag)))
        single = await registry.manifests.get(Reference(name, Tag(tag)), single=True)
        found[tag] = (stored, single, await registry.tags.read(name, Tag(tag)))
    return found


async def _manifests(world: World, registry: Registry, name: RepositoryName) -> dict[str, Any]:
    found = {}
    async for entry in scan_all(world.metadata, keys.manifests(name)):
        digest = Digest.parse(keys.parts(entry.key)[2])
        page = await registry.referrers.list(name, digest, limit=_ALL)
        referrers = [(one, one.artifact_type, dict(one.annotations)) for one in page.items]
        try:
            stored: object = await registry.manifests.get(Reference(name, digest))
        except OciapprError as error:
            stored = type(error).__name__
        found[str(digest)] = (stored, await registry.manifests.record(name, digest), referrers)
    return found


async def _blobs(world: World, registry: Registry, name: RepositoryName) -> dict[str, bytes | None]:
    """Return the blobs that the repository links, None for one that it does not show."""
    found: dict[str, bytes | None] = {}
    async for entry in scan_all(world.metadata, keys.kind("l")):
        _, text, repository = keys.parts(entry.key)
        if repository != str(name):
            continue
        try:
            blob = await registry.blobs.find(name, Digest.parse(text))
            async with registry.blobs.read(blob) as blocks:
                found[text] = b"".join([block async for block in blocks])
        except BlobUnknown:
            found[text] = None
    return found


async def _package(registry: Registry, name: RepositoryName) -> list[Any]:
    package = PackageName.of(name)
    if package is None:
        return []
    found: list[Any] = list(await registry.packages.releases(package))
    for one in list(found):
        archive = await registry.packages.archive(one)
        by_content = await registry.packages.archive_by_digest(
            package, str(one.record.content_digest)
        )
        found += [archive.digest, by_content.digest]
    return [*found, *(await registry.packages.channels(package))]
