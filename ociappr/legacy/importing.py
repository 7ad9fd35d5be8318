"""Import: what an old store holds, published as pushes through the appr door would have done.

Manifests are pure functions of what is old, so a second run finds all of it there, and a run after
a crash completes the first. What is here and different is never overwritten unasked.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from ociappr.errors import (
    Invalid,
    PackageInvalid,
    PackageUnknown,
    Refused,
    ReleaseExists,
    ReleaseInvalid,
    TagImmutable,
)
from ociappr.legacy import Item, Loss, Lost, OldChannel, OldFormat, OldPackage, Source, reason
from ociappr.names import PackageName
from ociappr.package import parse_format
from ociappr.registry import Registry
from ociappr.registry.records import FormatRecord, stamp
from ociappr.registry.submissions import Submission, examine
from ociappr.releases import Release


class Result(Enum):
    """What became of an item."""

    IMPORTED = "imported"
    NEW = "to import"
    PRESENT = "already there"
    LEFT = "left behind"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of *item*; *reason* says why, or what is remarkable."""

    item: Item
    result: Result
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What was taken of a package, or was here already."""

    releases: set[str] = field(default_factory=set)
    archives: set[str] = field(default_factory=set)


class Importer:
    """Imports into *registry*; archives may unpack to *unpacked* bytes.

    With *force* what is different here is replaced; if *dry*, nothing is written.
    """

    def __init__(
        self, registry: Registry, *, unpacked: int, force: bool = False, dry: bool = False
    ) -> None:
        self._registry = registry
        self._unpacked = unpacked
        self._force = force
        self._dry = dry
        self._new = Result.NEW if dry else Result.IMPORTED

    async def run(self, source: Source) -> AsyncIterator[Outcome]:
        """Import everything and yield what became of each item; raise `StoreUnavailable`."""
        async for found in source.packages():
            if isinstance(found, Loss):
                yield _refused(found.item, found.reason)
                continue
            for loss in found.losses:
                yield _refused(loss.item, loss.reason)
            async for outcome in self._package(found):
                yield outcome

    async def _package(self, old: OldPackage) -> AsyncIterator[Outcome]:
        taken = _Taken(archives={one.digest for one in old.formats})
        for format_ in old.formats:
            yield await self._format(old.name, format_, taken)
        if taken.releases and not self._dry:
            await self._registry.publishing.begin(old.name, _began(old))
        if not old.formats and not old.losses:
            yield await self._emptied(old)
        for channel in old.channels:
            yield await self._channel(old.name, channel, taken)
        for digest in old.archives:
            if digest not in taken.archives:
                yield Outcome(
                    Item(str(old.name), archive=digest), Result.LEFT, "no release names it"
                )

    # -- archives --------------------------------------------------------------------------------

    async def _format(self, package: PackageName, old: OldFormat, taken: _Taken) -> Outcome:
        item = Item(str(package), old.release, old.format)
        try:
            release, format_ = Release(old.release), parse_format(old.format)
            encoded = await old.load()
            submission = await asyncio.to_thread(_examine, encoded, format_, self._unpacked)
            outcome = await self._publish(package, release, submission, old, item)
        except (Invalid, Refused) as error:
            return _refused(item, reason(error))
        except Lost as loss:
            return _refused(item, str(loss))
        taken.releases.add(old.release)
        taken.archives.add(str(submission.content_digest))
        return outcome

    async def _publish(
        self,
        package: PackageName,
        release: Release,
        submission: Submission,
        old: OldFormat,
        item: Item,
    ) -> Outcome:
        """Publish an archive, unless that was done before; raise `ReleaseExists` and `Lost`."""
        created = stamp(old.created)
        ours = submission.manifest(package, release, metadata=old.metadata, created=created)
        digest = str(ours.digest)
        standing = await self._standing(package, release, submission.format)
        if standing is None or (self._force and standing.manifest != digest):
            try:
                await self._push(package, release, submission, old)
            except ReleaseExists:
                standing = await self._standing(package, release, submission.format)
                if standing is None:
                    raise
            else:
                is_true = old.digest == str(submission.content_digest)
                note = f"the old server called its content {old.digest}"
                return Outcome(item, self._new, "" if is_true else note)
        if standing.manifest == digest:
            return Outcome(item, Result.PRESENT)
        same = standing.layer == str(submission.digest)
        what = "the same archive with another time or metadata" if same else "another archive"
        raise Lost(f"the release has {what} here; --force replaces it")

    async def _push(
        self, package: PackageName, release: Release, submission: Submission, old: OldFormat
    ) -> None:
        """Publish an archive as it was; if dry, only raise `ReleaseExists` if that would."""
        publishing = self._registry.publishing
        if not self._dry:
            await publishing.push(
                package,
                release,
                submission,
                metadata=old.metadata,
                created=old.created,
                force=self._force,
            )
        elif not self._force:
            await publishing.require_free(package, release, submission.format)

    async def _standing(
        self, package: PackageName, release: Release, format_: str
    ) -> FormatRecord | None:
        """Return what is published here in the place of an archive."""
        record = await self._registry.tags.read(package.repository, release.tag)
        formats = record.formats if record is not None else ()
        return next((found for found in formats if found.format == format_), None)

    # -- the rest --------------------------------------------------------------------------------

    async def _emptied(self, old: OldPackage) -> Outcome:
        """Keep a package that lost its last release: it answers, as an unknown one does not."""
        item, note = Item(str(old.name)), "it has no release"
        try:
            await self._registry.packages.require_repository(old.name)
        except PackageUnknown:
            if not self._dry:
                await self._registry.publishing.begin(old.name, _began(old))
            return Outcome(item, self._new, note)
        return Outcome(item, Result.PRESENT, note)

    async def _channel(self, package: PackageName, old: OldChannel, taken: _Taken) -> Outcome:
        item = Item(str(package), channel=old.name)
        try:
            is_new = await self._registry.channels.restore(
                package,
                old.name,
                Release(old.current),
                members=list(_releases(old.members)),
                force=self._force,
                dry=self._dry,
            )
        except TagImmutable as error:
            return _refused(item, f"{error.message}; --force replaces it")
        except (Invalid, Refused) as error:
            return _refused(item, reason(error))
        dangles = old.current not in taken.releases
        note = f"its current release, {old.current}, is not there" if dangles else ""
        return Outcome(item, self._new if is_new else Result.PRESENT, note)


def _examine(encoded: bytes, format_: str, limit: int) -> Submission:
    """Return the archive that the old server kept as text; raise `PackageInvalid`, `TooLarge`."""
    try:
        data = binascii.a2b_base64(encoded)  # foreign characters are skipped, as by the original
    except binascii.Error as error:
        raise PackageInvalid(f"its archive is no base64, or cut off: {error}") from None
    return examine(data, format_, limit=limit)


def _began(old: OldPackage) -> datetime:
    """Return when a package began: as told, or with its first release, or with the import."""
    told = [old.created] if old.created is not None else [one.created for one in old.formats]
    return min(told, default=datetime.now(UTC))


def _releases(texts: Iterable[str]) -> Iterator[Release]:
    """Yield those of *texts* that are releases: others cannot be here."""
    for text in texts:
        with suppress(ReleaseInvalid):
            yield Release(text)


def _refused(item: Item, why: str) -> Outcome:
    return Outcome(item, Result.REFUSED, why)
