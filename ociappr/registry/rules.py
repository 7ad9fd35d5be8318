"""Rules that people write: what retention keeps, and which tags are immutable.

A rule is a value; what it means is in `ociappr.registry.retention` and
`ociappr.registry.immutability`. Making one that cannot be raises `ValueError`.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

import msgspec

from ociappr.names import RepositoryName, Tag
from ociappr.registry.patterns import RepositoryPattern, TagPattern, VersionRange, version

EVERYWHERE = (RepositoryPattern("**"),)
EVERYTHING = (TagPattern("*"),)


class Order(Enum):
    """What "newest" means."""

    PUSHED = "pushed"
    SEMVER = "semver"


class RetentionRule(msgspec.Struct, frozen=True):
    """What to keep of the *tags* of these *repositories*; the first rule about a tag governs it.

    A tag goes when the rule keeps something and none of what it keeps is this tag. With the order
    of semver a rule is about versions only. *delete_untagged_after* is about manifests that nothing
    names: the first rule of their repository that has it governs them.
    """

    repositories: tuple[RepositoryPattern, ...] = EVERYWHERE
    tags: tuple[TagPattern, ...] = EVERYTHING
    order: Order = Order.PUSHED
    keep_newest: int | None = None
    keep_tags: tuple[TagPattern, ...] = ()
    keep_versions: VersionRange | None = None
    keep_pushed_within: timedelta | None = None
    keep_pulled_within: timedelta | None = None
    delete_untagged_after: timedelta | None = None

    def __post_init__(self) -> None:
        if self.keep_newest is not None and self.keep_newest < 1:
            raise ValueError("keep_newest is 1 at least")

    @property
    def keeps_something(self) -> bool:
        """Whether tags go by this rule: those that it does not keep."""
        conditions = (
            self.keep_newest,
            self.keep_versions,
            self.keep_pushed_within,
            self.keep_pulled_within,
        )
        return bool(self.keep_tags) or any(one is not None for one in conditions)

    def is_about(self, repository: RepositoryName, tag: Tag | None = None) -> bool:
        """Tell whether the rule is about *repository*, and about *tag* if one is given."""
        if not any(pattern.matches(repository) for pattern in self.repositories):
            return False
        if tag is None:
            return True
        is_meant = any(pattern.matches(tag) for pattern in self.tags)
        return is_meant and (self.order is Order.PUSHED or version(tag) is not None)


class ImmutableRule(msgspec.Struct, frozen=True):
    """Tags that, once they are there, neither move nor go: by pattern, by version, or by both."""

    repositories: tuple[RepositoryPattern, ...] = EVERYWHERE
    tags: tuple[TagPattern, ...] = ()
    versions: VersionRange | None = None

    def __post_init__(self) -> None:
        if not self.tags and self.versions is None:
            raise ValueError("says neither tags nor versions, so it is about nothing")

    def is_about(self, repository: RepositoryName, tag: Tag) -> bool:
        """Tell whether *tag* in *repository* is immutable once it is there."""
        if not any(pattern.matches(repository) for pattern in self.repositories):
            return False
        by_pattern = any(pattern.matches(tag) for pattern in self.tags)
        return by_pattern or (self.versions is not None and self.versions.admits(tag))
