"""A registry with some of everything, for those who move it."""

from __future__ import annotations

from ociappr.digest import Digest
from ociappr.media import OCI_MANIFEST
from ociappr.names import PackageName, Reference, RepositoryName, Tag
from ociappr.registry import Registry
from ociappr.registry.submissions import examine
from ociappr.releases import Release
from tests.core.world import (
    LARGE,
    MIDDLE,
    SMALL,
    A,
    B,
    World,
    chunks,
    content,
    finish,
    push_all,
    push_blob,
    push_index,
    push_manifest,
    upload,
)
from tests.http.appr import tgz
from tests.http.client import image, index

PACKAGE = PackageName("library", "package")
LAYERS = (content(SMALL), content(MIDDLE), content(LARGE))
CHUNKED = content(LARGE, "chunked")
NESTED = RepositoryName("deep/er/repository")


async def furnish(world: World) -> Registry:
    """Push some of everything through the registry of *world* and return it."""
    registry = await world.registry()
    await push_all(registry, LAYERS)
    subject = await push_manifest(registry, image(), "subject")
    raw = image(*LAYERS, subject=subject, annotations={"note": "x" * 20_000})
    await push_manifest(registry, raw, "image", "again")
    await push_index(registry, index(raw), "index")
    await finish(registry, await upload(registry, CHUNKED[:MIDDLE], CHUNKED[MIDDLE:]), CHUNKED)
    await push_manifest(registry, image(CHUNKED))
    sha512 = content(MIDDLE, "sha512")
    digest = Digest.of(sha512, algorithm="sha512")
    await registry.uploads.put(B, digest, chunks(sha512), size=len(sha512))
    await registry.blobs.mount(B, Digest.of(LAYERS[1]), A, lambda _: True)
    await push_all(registry, [LAYERS[1]], NESTED)
    await push_manifest(registry, image(LAYERS[1]), "deep", repository=NESTED)
    for release, format_ in (("1.0.0", "kpm"), ("1.0.0", "docker-compose"), ("1.1.0+b1", "kpm")):
        archive = tgz({"file": f"{release} {format_}".encode()})
        submission = examine(archive, format_, limit=LARGE)
        await registry.publishing.push(PACKAGE, Release(release), submission)
    await registry.channels.set(PACKAGE, "stable", "1.0.0")
    await registry.channels.set(PACKAGE, "beta", "1.1.0+b1")
    await push_blob(registry, content(MIDDLE, "without a manifest"))
    await registry.tags.delete(A, Tag("again"))
    return registry


async def push_more(registry: Registry, number: int, repository: RepositoryName = A) -> Digest:
    """Push an image of a layer of its own, under a tag of that number."""
    layer = content(MIDDLE, f"more {number}")
    await push_all(registry, [layer], repository)
    raw = image(layer)
    reference = Reference(repository, Tag(f"more-{number}"))
    return (await registry.manifests.put(reference, OCI_MANIFEST, raw)).digest
