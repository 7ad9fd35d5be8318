"""Retiring: reads repositories, lets `ociappr.registry.retention` decide, and acts on it.

Nothing is locked. Manifests are read first, then tags, then who names what no tag names; whoever
gives a manifest a tag or a parent writes its record again (`Tags.point`, `Manifests.write`). So a
deletion that promises the record as it was read, and that those it relied on are gone, takes
nothing that got a name meanwhile: it fails, and the next round decides again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ociappr.digest import Digest
from ociappr.errors import ManifestUnknown
from ociappr.metadata import Check, Delete, MetadataStore, Put, Unchanged, prefix_end, scan_all
from ociappr.names import RepositoryName, Tag
from ociappr.registry import keys
from ociappr.registry.immutability import Immutability
from ociappr.registry.manifests import Manifests
from ociappr.registry.pulls import Pulls
from ociappr.registry.records import ManifestRecord, TagRecord, decode, encode, stamp
from ociappr.registry.retention import Decision, Member, State, StoredTag, decide
from ociappr.registry.settings import Settings
from ociappr.registry.steps import Pace, Step, Steps
from ociappr.registry.tags import removal

_PAGE = 250  # what is decoded at a time while others wait
_PROMISES = 500
_HINTS = 100
"""How many stale hints go with their manifest; a commit holds so many, and others do no harm."""


@dataclass(slots=True)
class Retained:
    """What one run did: repositories looked at, tags and manifests deleted, untagged ones noted.

    *contested* were pushed, tagged or pulled into an index meanwhile, and stay.
    """

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    noted: int = 0
    contested: int = 0

    def add(self, what: str) -> None:
        """Count one more of *what*."""
        setattr(self, what, getattr(self, what) + 1)


class Retention:
    """Deletes the tags and manifests that no rule keeps; without rules it does nothing."""

    def __init__(
        self,
        metadata: MetadataStore,
        manifests: Manifests,
        pulls: Pulls,
        settings: Settings,
        pace: Pace,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._manifests = manifests
        self._pulls = pulls
        self._rules = settings.retention
        self._immutability = Immutability(settings.immutable)
        self._pace = pace
        self._now = now

    async def run(self, done: Retained | None = None) -> Retained:
        """Do one round and return what it did, counted in *done* while it goes on."""
        done = done or Retained()
        async for repository in self._governed():
            await self._retire(repository, done)
            done.repositories += 1
        return done

    async def preview(self) -> AsyncIterator[tuple[RepositoryName, Decision]]:
        """Yield what a round would delete, and change nothing."""
        async for repository in self._governed():
            for decision in await self.decisions(repository):
                if not decision.kept:
                    yield repository, decision

    async def decisions(self, repository: RepositoryName) -> list[Decision]:
        """Return what becomes of each tag and manifest of *repository*, and why."""
        return decide(await self.read(repository), self._rules, self._now())

    async def read(self, repository: RepositoryName, *, with_parents: bool = True) -> State:
        """Return what decisions about *repository* are made of.

        Who names manifests that have no tag takes a read for each, and matters only to them.
        """
        members = {
            digest: Member(digest, entry.version, decode(ManifestRecord, entry.value))
            async for entry in scan_all(self._metadata, keys.manifests(repository), page=_PAGE)
            for digest in (Digest.parse(keys.parts(entry.key)[2]),)
        }
        tags = [
            self._stored(repository, Tag(keys.parts(entry.key)[2]), entry.version, record)
            async for entry in scan_all(self._metadata, keys.tags(repository), page=_PAGE)
            for record in (decode(TagRecord, entry.value),)
        ]
        named = {Digest.parse(one.record.digest) for one in tags if one.record.digest}
        for digest, member in members.items() if with_parents else ():
            if digest not in named:
                parents = await self.parents(repository, digest)
                members[digest] = Member(digest, member.version, member.record, parents)
        pulled = await self._pulls.of(repository)
        return State(repository, tags, members, pulled, await self._pulls.recorded())

    async def parents(self, repository: RepositoryName, digest: Digest) -> tuple[Digest, ...]:
        """Return the manifests of *repository* that name *digest*."""
        prefix = keys.pins_within(digest, repository)
        found = [
            Digest.parse(keys.parts(entry.key)[3])
            async for entry in scan_all(self._metadata, prefix)
        ]
        return tuple(parent for parent in found if parent != digest)

    def _stored(
        self, repository: RepositoryName, tag: Tag, version: int, record: TagRecord
    ) -> StoredTag:
        law = self._immutability.law(repository, tag, record)
        return StoredTag(tag, version, record, law.name if law is not None and law.final else "")

    async def _governed(self) -> AsyncIterator[RepositoryName]:
        """Yield the repositories that a rule is about."""
        if not self._rules:
            return
        async for entry in scan_all(self._metadata, keys.kind("r")):
            repository = RepositoryName(keys.parts(entry.key)[1])
            if any(rule.is_about(repository) for rule in self._rules):
                yield repository

    def _removes_untagged(self, repository: RepositoryName) -> bool:
        rules = (rule for rule in self._rules if rule.delete_untagged_after is not None)
        return any(rule.is_about(repository) for rule in rules)

    # -- acting ----------------------------------------------------------------------------------

    async def _retire(self, repository: RepositoryName, done: Retained) -> None:
        state = await self.read(repository, with_parents=self._removes_untagged(repository))
        decisions = await asyncio.to_thread(decide, state, self._rules, self._now())
        steps = Steps(self._metadata, self._pace, count=done.add)
        tags = {stored.tag: stored for stored in state.tags}
        pending: set[Digest] = set()
        for decision in decisions:
            if not pending.isdisjoint(decision.after):
                await steps.flush()
                pending.clear()
            match decision.item:
                case Tag() as tag if not decision.kept:
                    await steps.take(self._untag(repository, tags[tag], decision))
                case Digest() as digest if not decision.kept:
                    pending.add(digest)
                    await self._remove(steps, repository, state.manifests[digest], decision)
                case Digest() as digest:
                    await self._note(steps, repository, state.manifests[digest], decision)
        await steps.flush()
        done.contested += steps.contested

    def _untag(self, repository: RepositoryName, stored: StoredTag, decision: Decision) -> Step:
        """Return the step that deletes a tag, unless it was pushed or put into a channel."""
        key = keys.tag(repository, stored.tag)
        writes = removal(repository, stored.tag, stored.record, now=stamp(self._now()))
        return Step(
            "tags",
            f"{repository}:{stored.tag}",
            decision.reason,
            checks=(Unchanged(key, stored.version),),
            writes=tuple(writes),
        )

    async def _remove(
        self, steps: Steps, repository: RepositoryName, member: Member, decision: Decision
    ) -> None:
        """Delete a manifest, unless it, or what it relied on, got a name meanwhile.

        What relies on more than a commit can promise waits for the next round: by then they are
        gone, and it relies on none.
        """
        if len(decision.after) > _PROMISES:
            return
        try:
            writes = await self._manifests.removal(repository, member.digest, member.record)
        except ManifestUnknown:
            return  # its bytes are gone: `Fsck` tells of it
        checks: list[Check] = [
            Unchanged(keys.manifest(repository, member.digest), member.version),
            *(Unchanged(keys.manifest(repository, one), None) for one in decision.after),
        ]
        prefix = keys.hints(repository, member.digest)
        hints = await self._metadata.scan(prefix, prefix_end(prefix), limit=_HINTS)
        step = Step(
            "manifests",
            f"{repository}@{member.digest}",
            decision.reason,
            checks=tuple(checks),
            writes=(*writes, *(Delete(hint.key) for hint in hints)),
        )
        await steps.take(step)

    async def _note(
        self, steps: Steps, repository: RepositoryName, member: Member, decision: Decision
    ) -> None:
        """Note since when nothing names a manifest, or that something does again."""
        if member.record.untagged == decision.untagged:
            return
        key = keys.manifest(repository, member.digest)
        noted = msgspec.structs.replace(member.record, untagged=decision.untagged)
        step = Step(
            "noted",
            f"{repository}@{member.digest}",
            decision.reason,
            checks=(Unchanged(key, member.version),),
            writes=(Put(key, encode(noted)),),
        )
        await steps.take(step)
