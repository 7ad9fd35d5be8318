"""Immutability: which tags may not move, and which may not go either.

One law is built in: a release published through the appr door keeps its content; it may be deleted,
as the appr API can, and pushed again with force through that door. The laws that people configure
are final: the tag neither moves nor goes, through no door, and retention keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ociappr.errors import TagImmutable
from ociappr.names import RepositoryName, Tag
from ociappr.registry.records import TagKind, TagRecord
from ociappr.registry.rules import ImmutableRule

_Holds: TypeAlias = Callable[[RepositoryName, Tag, TagRecord], bool]


@dataclass(frozen=True, slots=True)
class Law:
    """Why a tag is immutable; a *final* law forbids its deletion, too."""

    name: str
    hint: str
    holds: _Holds
    final: bool

    def refusal(self, repository: RepositoryName, tag: Tag) -> TagImmutable:
        """Return the error for whoever wants to change *tag*."""
        message = f"{repository}:{tag} is {self.name}"
        return TagImmutable(message, detail={"tag": str(tag)}, hint=self.hint)


_PUBLISHED = Law(
    name="a published release and immutable",
    hint="delete the release first, or push it with force through the appr API",
    holds=lambda _, __, record: record.published,
    final=False,
)


class Immutability:
    """Tells which law, if any, holds for a tag."""

    def __init__(self, rules: Sequence[ImmutableRule]) -> None:
        self._rules = tuple(rules)
        self._laws = (*(_law(number, rule) for number, rule in enumerate(rules)), _PUBLISHED)

    def is_configured(self, repository: RepositoryName, tag: Tag) -> bool:
        """Tell whether a configured rule is about *tag*, so that who reads it must promise it."""
        return any(rule.is_about(repository, tag) for rule in self._rules)

    def law(self, repository: RepositoryName, tag: Tag, record: TagRecord) -> Law | None:
        """Return the law that keeps a stored *tag* as it is, a final one before others."""
        if record.kind is TagKind.CHANNEL:
            return None  # a link is there to be moved
        return next((law for law in self._laws if law.holds(repository, tag, record)), None)

    def refuse(
        self, repository: RepositoryName, tag: Tag, record: TagRecord, *, digest: str = ""
    ) -> None:
        """Raise `TagImmutable` if a final law forbids that *tag* goes, or moves to *digest*."""
        law = self.law(repository, tag, record)
        if law is not None and law.final and record.digest != digest:
            raise law.refusal(repository, tag)


def _law(number: int, rule: ImmutableRule) -> Law:
    name = f"immutable[{number}]"
    return Law(
        name=f"immutable by the rule {name}",
        hint=f"push under another tag, or change {name} in the configuration",
        holds=partial(_is_about, rule),
        final=True,
    )


def _is_about(rule: ImmutableRule, repository: RepositoryName, tag: Tag, _: TagRecord) -> bool:
    return rule.is_about(repository, tag)
