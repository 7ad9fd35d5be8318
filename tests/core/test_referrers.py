"""Referrers: listed by subject, in pages, by type, with annotations of any size."""

from __future__ import annotations

from ociappr.descriptor import EMPTY, Descriptor
from ociappr.digest import Digest
from ociappr.manifest import build_index, encode
from ociappr.media import OCI_CONFIG, OCI_MANIFEST
from ociappr.registry import Registry
from tests.core.world import SMALL, A, B, World, push_all, push_index, push_manifest
from tests.http.client import image

SUBJECT = Digest.of(b"a manifest that need not be here")


def referring(number: int, artifact_type: str = "", **annotations: str) -> bytes:
    """Return a manifest that refers to the subject."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": EMPTY.document(),
        "layers": [],
        "subject": Descriptor(OCI_MANIFEST, SUBJECT, SMALL).document(),
        "annotations": {"number": f"{number}", **annotations},
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    return encode(document)


async def test_an_unknown_subject_has_none(registry: Registry) -> None:
    page = await registry.referrers.list(A, SUBJECT, limit=10)
    assert (page.items, page.more) == ((), False)


async def test_pages(registry: Registry) -> None:
    await push_all(registry, [])
    pushed = sorted([str(await push_manifest(registry, referring(n))) for n in range(7)])
    seen: list[str] = []
    more = True
    while more:
        after = seen[-1] if seen else ""
        page = await registry.referrers.list(A, SUBJECT, after=after, limit=3)
        seen += [str(found.digest) for found in page.items]
        more = page.more
    assert seen == pushed
    assert (await registry.referrers.list(B, SUBJECT, limit=10)).items == ()


async def test_by_type(registry: Registry) -> None:
    await push_all(registry, [])
    for number, kind in enumerate(("text/a", "text/b", "text/a", "")):
        await push_manifest(registry, referring(number, kind))
    for kinds, count in ((("text/a",), 2), (("text/a", "text/b"), 3), (("text/c",), 0), ((), 4)):
        page = await registry.referrers.list(A, SUBJECT, artifact_types=kinds, limit=10)
        assert len(page.items) == count
    page = await registry.referrers.list(A, SUBJECT, artifact_types=["text/a"], limit=1)
    assert page.more
    effective = EMPTY.media_type
    page = await registry.referrers.list(A, SUBJECT, artifact_types=[effective], limit=10)
    assert len(page.items) == 1


async def test_the_type_is_that_of_the_config_where_there_is_no_other(registry: Registry) -> None:
    await push_all(registry, [])
    await push_manifest(registry, image(subject=SUBJECT))
    (found,) = (await registry.referrers.list(A, SUBJECT, limit=10)).items
    assert (found.artifact_type, found.media_type) == (OCI_CONFIG, OCI_MANIFEST)


async def test_large_annotations_are_read_from_the_manifest(
    world: World, registry: Registry
) -> None:
    await push_all(registry, [])
    raw = referring(1, large="x" * 20_000)
    await push_manifest(registry, raw)
    (entry,) = await world.entries("f")
    assert len(entry.value) < SMALL
    (found,) = (await (await world.registry()).referrers.list(A, SUBJECT, limit=10)).items
    assert found.annotations == {"number": "1", "large": "x" * 20_000}
    assert found.size == len(raw)


async def test_small_annotations_come_with_the_list(registry: Registry) -> None:
    await push_all(registry, [])
    await push_manifest(registry, referring(1, small="x"))
    (found,) = (await registry.referrers.list(A, SUBJECT, limit=10)).items
    assert found.annotations == {"number": "1", "small": "x"}


async def test_an_index_refers_too(registry: Registry) -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": build_index([], {}).media_type,
        "manifests": [],
        "subject": Descriptor(OCI_MANIFEST, SUBJECT, SMALL).document(),
    }
    digest = await push_index(registry, encode(document))
    (found,) = (await registry.referrers.list(A, SUBJECT, limit=10)).items
    assert found.digest == digest
    await registry.manifests.delete(A, digest)
    assert (await registry.referrers.list(A, SUBJECT, limit=10)).items == ()
