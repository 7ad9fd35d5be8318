"""Holdings: what keeps a tag, a manifest or a blob, and how much is kept by no tag at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, ManifestUnknown, NameUnknown
from ociappr.metadata import MetadataStore, prefix_end, scan_all
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.registry import keys
from ociappr.registry.records import BlobRecord, BlobState, decode, moment
from ociappr.registry.retention import Decision, unnamed
from ociappr.registry.retiring import Retention
from ociappr.registry.settings import Settings
from ociappr.registry.tags import Tags

_PINS_SHOWN = 20
_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why *item* is kept or goes; *fate* says which."""

    item: str
    fate: str
    reason: str

    @classmethod
    def of(cls, repository: RepositoryName, decision: Decision) -> Reason:
        """Return what retention decided about something in *repository*."""
        reference = Reference(repository, decision.item)
        return cls(str(reference), "kept" if decision.kept else "deleted", decision.reason)


@dataclass(frozen=True, slots=True)
class Untagged:
    """How many manifests no tag reaches, and how many bytes only they hold."""

    manifests: int
    size: int


class Holdings:
    """Explains what is held by what; reads only."""

    def __init__(
        self,
        metadata: MetadataStore,
        tags: Tags,
        retention: Retention,
        settings: Settings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._tags = tags
        self._retention = retention
        self._grace = settings.grace
        self._now = now

    # -- how much --------------------------------------------------------------------------------

    async def untagged(self) -> Untagged:
        """Return what all manifests without a tag hold that no other manifest does."""
        loose: set[tuple[str, str]] = set()
        async for entry in scan_all(self._metadata, keys.kind("r")):
            repository = RepositoryName(keys.parts(entry.key)[1])
            found = unnamed(await self._retention.read(repository))
            loose |= {(str(repository), str(digest)) for digest in found}
        if not loose:
            return Untagged(0, 0)
        size = 0
        waiting: list[bytes] = []
        async for blob in self._held_by(loose):
            waiting.append(blob)
            if len(waiting) == _TOGETHER:
                size += await self._size(waiting)
                waiting = []
        return Untagged(len(loose), size + await self._size(waiting))

    async def _held_by(self, loose: set[tuple[str, str]]) -> AsyncIterator[bytes]:
        """Yield the keys of the blobs that are pinned by *loose* manifests alone."""
        current, is_loose = "", False
        async for entry in scan_all(self._metadata, keys.kind("p")):
            _, child, repository, parent = keys.parts(entry.key)
            if child != current:
                if is_loose:
                    yield keys.blob(Digest.parse(current))
                current, is_loose = child, True
            is_loose = is_loose and (repository, parent) in loose
        if is_loose:
            yield keys.blob(Digest.parse(current))

    async def _size(self, blobs: list[bytes]) -> int:
        found = await self._metadata.get(blobs)
        return sum(decode(BlobRecord, entry.value).size for entry in found.values())

    # -- why -------------------------------------------------------------------------------------

    async def of_repository(self, repository: RepositoryName) -> list[Reason]:
        """Return a reason for each tag and manifest of *repository*; raise `NameUnknown`."""
        if not await self._metadata.get([keys.repository(repository)]):
            raise NameUnknown(f"there is no repository {repository}")
        decisions = await self._retention.decisions(repository)
        return [Reason.of(repository, decision) for decision in decisions]

    async def of(self, reference: Reference) -> list[Reason]:
        """Return every reason why a tag, manifest or blob is kept, or the one why it goes.

        Raises `ManifestUnknown` for an unknown tag, `BlobUnknown` for a digest that is nowhere.
        """
        repository, target = reference.repository, reference.target
        decisions = {one.item: one for one in await self._retention.decisions(repository)}
        decision = decisions.get(target)
        if isinstance(target, Tag):
            if decision is None:
                raise ManifestUnknown(f"{repository} has no tag {target}")
            return [Reason.of(repository, decision)]
        if decision is None:
            return await self._of_blob(reference, target)
        names = await self._names(repository, target) if decision.kept else []
        told = [Reason(str(reference), "kept", name) for name in names]
        return told or [Reason.of(repository, decision)]

    async def _names(self, repository: RepositoryName, digest: Digest) -> list[str]:
        """Return all that names a manifest: tags and indexes."""
        tags = await self._tags.of_manifest(repository, digest)
        parents = await self._retention.parents(repository, digest)
        return [f"tagged {tag}" for tag in tags] + [f"{parent} names it" for parent in parents]

    async def _of_blob(self, reference: Reference, digest: Digest) -> list[Reason]:
        key = keys.blob(digest)
        entry = (await self._metadata.get([key])).get(key)
        if entry is None:
            raise BlobUnknown(f"there is no {digest}, neither as a manifest nor as a blob")
        prefix = keys.pins(digest)
        pins = await self._metadata.scan(prefix, prefix_end(prefix), limit=_PINS_SHOWN)
        holders = ["{}@{}".format(*keys.parts(pin.key)[2:]) for pin in pins]
        if holders:
            return [Reason(str(reference), "kept", f"{holder} names it") for holder in holders]
        return [Reason(str(reference), *self._without_pins(decode(BlobRecord, entry.value)))]

    def _without_pins(self, record: BlobRecord) -> tuple[str, str]:
        """Return what becomes of a blob that no manifest names, and why."""
        due = moment(record.since) + self._grace
        step = "condemned" if record.state is BlobState.LIVE else "forgotten"
        if due <= self._now():
            return step, f"no manifest names it since {record.since[:16]}"
        return "kept", f"no manifest names it: {step} after {due.isoformat()[:16]}"
