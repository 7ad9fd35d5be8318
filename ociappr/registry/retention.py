"""Retention: which tags and manifests of a repository go, and why each stays or goes.

Pure decisions over a state that was read; `ociappr.registry.retiring` reads it and acts. A decision
to delete names what it relies on, so that the commit can promise it.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter

from ociappr.digest import Digest
from ociappr.names import RepositoryName, Tag
from ociappr.registry.patterns import version
from ociappr.registry.records import ManifestRecord, TagKind, TagRecord, moment, stamp
from ociappr.registry.rules import Order, RetentionRule
from ociappr.releases import Release

_ATTACHED = re.compile(r"sha256-([0-9a-f]{64})(?:\..+)?")  # cosign's tags, the referrers tag schema
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)))


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag as it was read; *law* says why it may not go, if a configured rule keeps it."""

    tag: Tag
    version: int
    record: TagRecord
    law: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A manifest as it was read, and the manifests of the repository that named it afterwards."""

    digest: Digest
    version: int
    record: ManifestRecord
    parents: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """A repository as it was read: manifests first, then tags, then who names the manifests.

    *pulled* are last pulls of tags and digests by their texts, recorded without a gap since
    *recorded*, if they are at all.
    """

    repository: RepositoryName
    tags: Sequence[StoredTag]
    manifests: Mapping[Digest, Member]
    pulled: Mapping[str, datetime] = field(default_factory=dict)
    recorded: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a tag or manifest, and why.

    *untagged* is since when nothing names a kept manifest, or "". A manifest that goes does so only
    when all of *after* are gone: who named it, and whom it refers to.
    """

    item: Tag | Digest
    kept: bool
    reason: str
    untagged: str = ""
    after: tuple[Digest, ...] = ()


def decide(state: State, rules: Sequence[RetentionRule], now: datetime) -> list[Decision]:
    """Return a decision for each tag, then for each manifest; those that name others go first.

    A manifest whose tag goes now counts as tagged still.
    """
    return [*_Tags(state, rules, now).decide(), *_Manifests(state, rules, now).decide()]


def unnamed(state: State) -> set[Digest]:
    """Return the manifests that no tag reaches, neither by indexes nor as a subject of others."""
    return _Manifests(state, (), datetime.max.replace(tzinfo=UTC)).unnamed()


# -- tags ----------------------------------------------------------------------------------------


class _Tags:
    """Decides about the tags of a repository."""

    def __init__(self, state: State, rules: Sequence[RetentionRule], now: datetime) -> None:
        self._state = state
        self._rules = rules
        self._now = now
        self._channels = _channels(state.tags)

    def decide(self) -> Iterator[Decision]:
        """Yield a decision for each tag."""
        governed: dict[int, list[StoredTag]] = defaultdict(list)
        for stored in self._state.tags:
            held = self._held(stored)
            number = self._governing(stored.tag)
            if number is not None and self._counts(stored):
                governed[number].append(stored)
            elif not held:
                held = "no rule is about it"
            if held:
                yield Decision(stored.tag, kept=True, reason=held)
        for number, found in governed.items():
            yield from self._by_rule(number, found)

    def _governing(self, tag: Tag) -> int | None:
        about = (
            number
            for number, rule in enumerate(self._rules)
            if rule.is_about(self._state.repository, tag)
        )
        return next(about, None)

    def _counts(self, stored: StoredTag) -> bool:
        """Tell whether a tag is one of those among which there are newest ones."""
        is_channel = stored.record.kind is TagKind.CHANNEL
        return not is_channel and self._attached_to(stored.tag) is None

    def _held(self, stored: StoredTag) -> str:
        """Return what keeps a tag whatever the rules say, or ""."""
        if stored.record.kind is TagKind.CHANNEL:
            return "a channel"
        if (channel := self._channels.get(stored.tag)) is not None:
            return f"a release of the channel {channel}"
        if stored.law:
            return stored.law
        subject = self._attached_to(stored.tag)
        return f"attached to {subject}, which is here" if subject is not None else ""

    def _attached_to(self, tag: Tag) -> Digest | None:
        """Return the manifest to which a client attached *tag*, a signature say, if it is here."""
        found = _ATTACHED.fullmatch(tag.text)
        subject = Digest("sha256", found[1]) if found else None
        return subject if subject in self._state.manifests else None

    def _by_rule(self, number: int, found: list[StoredTag]) -> Iterator[Decision]:
        rule, name = self._rules[number], f"retention[{number}]"
        newest = {one.tag for one in _newest_first(found, rule.order)[: rule.keep_newest or 0]}
        for stored in found:
            if self._held(stored):
                continue  # counted among the newest, and told already
            reason = self._kept_by(rule, stored, newest)
            if not rule.keeps_something:
                yield Decision(stored.tag, kept=True, reason=f"{name} removes no tags")
            elif reason:
                yield Decision(stored.tag, kept=True, reason=f"{reason}: {name}")
            else:
                reason = f"{name} is about it and keeps others"
                yield Decision(stored.tag, kept=False, reason=reason)

    def _kept_by(self, rule: RetentionRule, stored: StoredTag, newest: set[Tag]) -> str:
        """Return why a rule keeps a tag, or ""."""
        tag, age = stored.tag, self._now - moment(stored.record.updated)
        if tag in newest:
            return f"one of the {rule.keep_newest} newest by {_BY[rule.order]}"
        for pattern in rule.keep_tags:
            if pattern.matches(tag):
                return f"matches {pattern}"
        if rule.keep_versions is not None and rule.keep_versions.admits(tag):
            return f"a version within {rule.keep_versions}"
        if rule.keep_pushed_within is not None and age <= rule.keep_pushed_within:
            return f"pushed {_spelled(age)} ago"
        return _pulled(self._state, rule, (str(tag), stored.record.digest), self._now)


_BY: Mapping[Order, str] = {Order.PUSHED: "time of push", Order.SEMVER: "version"}


def _channels(tags: Iterable[StoredTag]) -> dict[Tag, str]:
    """Return the releases that are in a channel, and a channel of each."""
    return {
        Release(text).tag: stored.tag.text
        for stored in tags
        if stored.record.kind is TagKind.CHANNEL
        for text in (*stored.record.members, stored.record.current)
        if text
    }


def _newest_first(found: list[StoredTag], order: Order) -> list[StoredTag]:
    if order is Order.PUSHED:
        return sorted(found, key=lambda one: (one.record.updated, one.tag), reverse=True)
    versions = [(read, one) for one in found if (read := version(one.tag)) is not None]
    return [one for _, one in sorted(versions, key=lambda pair: (pair[0], pair[1].tag))][::-1]


# -- manifests -----------------------------------------------------------------------------------


class _Manifests:
    """Decides about the manifests of a repository.

    Life comes from tags, and goes on from an index to its children and from a subject to its
    referrers. What it does not reach waits for its time, and is then as good as a tag to others.
    """

    def __init__(self, state: State, rules: Sequence[RetentionRule], now: datetime) -> None:
        self._state = state
        self._now = now
        self._rule, self._name = _untagged_rule(state.repository, rules)
        self._kept: dict[Digest, str] = {}
        self._children: dict[Digest, list[Digest]] = defaultdict(list)
        self._referrers: dict[Digest, list[Digest]] = defaultdict(list)
        for member in state.manifests.values():
            for parent in member.parents:
                self._children[parent].append(member.digest)
            if member.record.subject:
                self._referrers[Digest.parse(member.record.subject)].append(member.digest)

    def decide(self) -> Iterator[Decision]:
        """Yield a decision for each manifest."""
        self._spread(self._tagged())
        named = set(self._kept)
        self._spread(self._waiting())
        for digest, reason in self._kept.items():
            since = "" if digest in named else self._since(self._state.manifests[digest])
            yield Decision(digest, kept=True, reason=reason, untagged=since)
        yield from self._dead()

    def unnamed(self) -> set[Digest]:
        """Return what no tag reaches."""
        self._spread(self._tagged())
        return self._state.manifests.keys() - self._kept.keys()

    def _tagged(self) -> dict[Digest, str]:
        """Return what lives by itself: by a tag, or by a manifest that came after the reading."""
        found: dict[Digest, str] = {}
        for stored in self._state.tags:
            digest = Digest.parse(stored.record.digest) if stored.record.digest else None
            if digest is not None and digest in self._state.manifests:
                found.setdefault(digest, f"tagged {stored.tag}")
        for member in self._state.manifests.values():
            for parent in member.parents:
                if parent not in self._state.manifests:
                    found.setdefault(member.digest, f"{parent} names it")
        return found

    def _waiting(self) -> dict[Digest, str]:
        """Return what nothing names and what is not yet to go."""
        unnamed = (one for one in self._state.manifests.values() if one.digest not in self._kept)
        reasons = {member.digest: self._waits(member) for member in unnamed}
        return {digest: reason for digest, reason in reasons.items() if reason}

    def _waits(self, member: Member) -> str:
        """Return why an unnamed manifest is not yet to go, or ""."""
        if self._rule is None or self._rule.delete_untagged_after is None:
            return "nothing names it, and no rule removes such manifests"
        since, after = self._since(member), self._rule.delete_untagged_after
        if self._now - moment(since) < after:
            told = f"nothing names it since {since[:16]}"
            return f"{told}; {self._name} removes it {_spelled(after)} later"
        return _pulled(self._state, self._rule, (str(member.digest),), self._now)

    def _since(self, member: Member) -> str:
        """Return since when nothing names a manifest; that counts from when it was first seen."""
        if self._rule is None:
            return member.record.untagged
        return member.record.untagged or stamp(self._now)

    def _spread(self, living: Mapping[Digest, str]) -> None:
        """Keep *living*, and all that lives by them."""
        queue = deque(living)
        self._kept |= living
        while queue:
            digest = queue.popleft()
            by_parent = ((one, f"{digest} names it") for one in self._children[digest])
            by_subject = ((one, f"it refers to {digest}") for one in self._referrers[digest])
            for other, reason in (*by_parent, *by_subject):
                if other not in self._kept:
                    self._kept[other] = reason
                    queue.append(other)

    def _dead(self) -> Iterator[Decision]:
        """Yield what goes: whoever names another, or is referred to by it, before that other."""
        gone = [one for one in self._state.manifests.values() if one.digest not in self._kept]
        before = {one.digest: _relied_on(one) for one in gone}
        for digest in TopologicalSorter(before).static_order():
            if digest in before:
                member = self._state.manifests[digest]
                reason = f"nothing names it since {self._since(member)[:16]}: {self._name}"
                yield Decision(digest, kept=False, reason=reason, after=before[digest])


def _untagged_rule(
    repository: RepositoryName, rules: Sequence[RetentionRule]
) -> tuple[RetentionRule | None, str]:
    for number, rule in enumerate(rules):
        if rule.delete_untagged_after is not None and rule.is_about(repository):
            return rule, f"retention[{number}].delete_untagged_after"
    return None, ""


def _relied_on(member: Member) -> tuple[Digest, ...]:
    subject = (Digest.parse(member.record.subject),) if member.record.subject else ()
    return (*member.parents, *subject)


# -- what both share -----------------------------------------------------------------------------


def _pulled(state: State, rule: RetentionRule, names: Iterable[str], now: datetime) -> str:
    """Return why the last pull of one of *names* keeps it, or ""."""
    within = rule.keep_pulled_within
    if within is None:
        return ""
    pulls = [state.pulled[name] for name in names if name in state.pulled]
    if pulls and now - max(pulls) <= within:
        return f"pulled {_spelled(now - max(pulls))} ago"
    if state.recorded is None:
        return "no pulls were recorded yet"
    if now - state.recorded < within:
        return f"pulls are recorded since {stamp(state.recorded)[:16]} only"
    return ""


def _spelled(age: timedelta) -> str:
    """Return about how long *age* is."""
    for unit, length in _UNITS:
        if age >= length:
            return f"{age // length}{unit}"
    return f"{max(0, int(age.total_seconds()))}s"
