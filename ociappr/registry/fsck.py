"""Checking a registry: every derived key is computed again, every blob is read and hashed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from ociappr.blobstore import Locator
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, OciapprError
from ociappr.manifest import Manifest
from ociappr.metadata import Entry, MetadataStore, scan_all
from ociappr.names import RepositoryName
from ociappr.registry import derived, keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.breakage import broken_tags
from ociappr.registry.records import (
    BlobRecord,
    BlobState,
    ManifestRecord,
    TagKind,
    TagRecord,
    decode,
)
from ociappr.registry.repair import Remedy, Repair
from ociappr.registry.settings import Sparse

_WHAT = {
    "blob-gone": "the bytes of a blob are gone",
    "blob-damaged": "the bytes of a blob are damaged",
    "blob-missing": "a blob that a manifest names is not here: push it again",
    "derived-missing": "a derived key of a manifest is missing",
    "derived-stray": "a derived key belongs to no manifest",
    "owner-missing": "a blob's locator does not lead back to it",
    "owner-stray": "a locator belongs to a blob that does not name it",
    "link-void": "a blob that came back is not shown where manifests need it",
}
_FOREIGN = ", as are most: nothing was set aside; see that storage.url is the registry's own"
_SET_ASIDE = "; it was set aside: push it again, then check again"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    *code* is for programs, *what* for people, *about* the key or digest; *breaks* are the tags, as
    ``repository:tag``, that cannot be pulled whole because of it, the first hundred of them.
    """

    code: str
    what: str
    about: str
    breaks: tuple[str, ...] = ()
    repaired: bool = False


Found = tuple[Finding, Remedy | None]


class Fsck:
    """Reports what is missing, damaged or not derived; changes nothing unless asked to repair.

    On a registry in use a finding may be a change that was under way: look again. A repair checks
    in its commit that what was found is still so.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: Blobs,
        *,
        sparse: Sparse,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._sparse = sparse
        self._repair = Repair(metadata, blobs, now=now)

    async def run(self, *, repair: bool = False) -> AsyncIterator[Finding]:
        """Yield the findings as they come up; with *repair* those that can be are mended first.

        A blob without its bytes is set aside, so that it can be pushed again: that stays a finding.
        """
        for check in (
            self._check_manifests,
            self._check_derived,
            self._check_owners,
            self._check_links,
            self._check_blobs,
            self._check_tags,
        ):
            async for finding, remedy in check():
                if not repair or remedy is None:
                    yield finding
                elif await remedy():
                    yield replace(finding, repaired=True)
                elif finding.code.startswith("blob-"):
                    yield replace(finding, what=finding.what + _SET_ASIDE)
                else:
                    yield finding

    async def _check_manifests(self) -> AsyncIterator[Found]:
        told: set[Digest] = set()
        async for entry in scan_all(self._metadata, keys.kind("m")):
            _, text, digest = keys.parts(entry.key)
            name = RepositoryName(text)
            try:
                manifest = await self._manifest(entry)
            except OciapprError as error:
                what = f"a manifest of {name} cannot be read: {error.message}"
                breaks = await broken_tags(self._metadata, Digest.parse(digest))
                yield Finding("manifest-unreadable", what, digest, breaks), None
                continue
            wanted = derived.of_manifest(name, manifest)
            for key in await self._absent(wanted):
                remedy = self._repair.put(entry.key, entry.value, key, wanted[key])
                yield _finding("derived-missing", _shown(key)), remedy
            for child in await self._missing(manifest) - told:
                told.add(child)
                breaks = await broken_tags(self._metadata, child)
                yield _finding("blob-missing", str(child), breaks), None

    async def _check_derived(self) -> AsyncIterator[Found]:
        """Find derived keys whose manifest is gone: a pin of nothing keeps its blob for ever."""
        for letter in "pfa":
            async for entry in scan_all(self._metadata, keys.kind(letter)):
                _, first, second, digest = keys.parts(entry.key)
                name = RepositoryName(second if letter == "p" else first)
                source = keys.manifest(name, Digest.parse(digest))
                if not await self._metadata.get([source]):
                    remedy = self._repair.delete(entry.key, source)
                    yield _finding("derived-stray", _shown(entry.key)), remedy

    async def _check_owners(self) -> AsyncIterator[Found]:
        async for entry in scan_all(self._metadata, keys.kind("b")):
            digest = Digest.parse(keys.parts(entry.key)[1])
            wanted = derived.of_blob(digest, decode(BlobRecord, entry.value))
            for key in await self._absent(wanted):
                remedy = self._repair.put(entry.key, entry.value, key, wanted[key])
                yield _finding("owner-missing", _shown(key)), remedy
        async for entry in scan_all(self._metadata, keys.kind("o")):
            locator = Locator(keys.parts(entry.key)[1])
            digest = Digest.parse(entry.value.decode())
            record = await self._record(digest)
            if record is None or all(place != locator for place, _ in record.parts):
                remedy = self._repair.disown(entry.key, digest)
                yield _finding("owner-stray", str(locator)), remedy

    async def _check_links(self) -> AsyncIterator[Found]:
        """Find links to an earlier birth of a blob that manifests of their repository need."""
        async for entry in scan_all(self._metadata, keys.kind("l")):
            _, text, name = keys.parts(entry.key)
            digest = Digest.parse(text)
            record = await self._record(digest)
            if record is None or record.birth.encode() == entry.value:
                continue
            if await self._repair.is_needed(digest, name):
                yield _finding("link-void", _shown(entry.key)), self._repair.link(entry.key, digest)

    async def _check_blobs(self) -> AsyncIterator[Found]:
        """Find damaged blobs, then those that are gone.

        Where most stored bytes are gone this is more likely the storage of another registry: then
        nothing is set aside, for the collector would delete the bytes where they truly lie.
        """
        stored, gone = 0, list[Digest]()
        async for entry in scan_all(self._metadata, keys.kind("b")):
            digest, record = Digest.parse(keys.parts(entry.key)[1]), decode(BlobRecord, entry.value)
            stored += bool(record.parts)
            code = await self._repair.damage(digest, record)
            if code == "blob-gone" and record.parts:
                gone.append(digest)
            elif code:
                breaks = await broken_tags(self._metadata, digest)
                yield _finding(code, str(digest), breaks), self._repair.set_aside(digest)
        is_foreign = 2 * len(gone) > stored
        for digest in gone:
            finding = _finding("blob-gone", str(digest), await broken_tags(self._metadata, digest))
            if is_foreign:
                yield replace(finding, what=finding.what + _FOREIGN), None
            else:
                yield finding, self._repair.set_aside(digest)

    async def _check_tags(self) -> AsyncIterator[Found]:
        """Find tags that lead nowhere; they are told, never removed."""
        async for entry in scan_all(self._metadata, keys.kind("t")):
            _, name, tag = keys.parts(entry.key)
            repository, record = RepositoryName(name), decode(TagRecord, entry.value)
            if record.kind is TagKind.CHANNEL:
                continue  # one whose release was deleted waits for it to be pushed again
            target = keys.manifest(repository, Digest.parse(record.digest))
            if not await self._metadata.get([target]):
                what = f"a tag names manifest {record.digest}, which is gone"
                about = f"{name}:{tag}"
                yield Finding("tag-dangling", what, about, (about,)), None

    async def _manifest(self, entry: Entry) -> Manifest:
        """Return the manifest that a membership is of; raise `OciapprError`."""
        digest = Digest.parse(keys.parts(entry.key)[2])
        record = await self._record(digest)
        if record is None:
            raise BlobUnknown(f"there is no blob {digest}")
        async with self._blobs.read(await self._blobs.load(digest, record)) as blocks:
            raw = b"".join([block async for block in blocks])
        media_type = decode(ManifestRecord, entry.value).media_type
        return Manifest.parse(raw, media_type, digest=digest)

    async def _missing(self, manifest: Manifest) -> set[Digest]:
        """Return the children that are not here, or not live, though they may not be absent."""
        if self._sparse is Sparse.ALL or (manifest.is_index and self._sparse is Sparse.INDEXES):
            return set()
        wanted = {child.digest for child in manifest.children} - manifest.foreign
        found = await self._metadata.get([keys.blob(digest) for digest in wanted])
        here = {
            Digest.parse(keys.parts(key)[1])
            for key, entry in found.items()
            if decode(BlobRecord, entry.value).state is BlobState.LIVE
        }
        return wanted - here

    async def _record(self, digest: Digest) -> BlobRecord | None:
        key = keys.blob(digest)
        entry = (await self._metadata.get([key])).get(key)
        return decode(BlobRecord, entry.value) if entry is not None else None

    async def _absent(self, wanted: dict[bytes, bytes]) -> list[bytes]:
        """Return those of the *wanted* keys that are absent or have another value."""
        found = await self._metadata.get(list(wanted))
        return [
            key for key, value in wanted.items() if key not in found or found[key].value != value
        ]


def _finding(code: str, about: str, breaks: tuple[str, ...] = ()) -> Finding:
    return Finding(code, _WHAT[code], about, breaks)


def _shown(key: bytes) -> str:
    return " ".join(keys.parts(key))
