"""Patterns: which repositories, tags and versions a rule is about, as people write them.

All of them raise `ValueError` with what is wrong when they cannot be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ociappr.errors import QueryInvalid
from ociappr.names import RepositoryName, Tag, is_tag
from ociappr.releases import Query, Release

_WILDCARDS = re.compile(r"\*\*|\*|\?")


@dataclass(frozen=True, slots=True)
class RepositoryPattern:
    """A glob over repository names: ``*`` and ``?`` stay within a segment, ``**`` crosses them."""

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        regex = _compile(self.text, {"**": ".*", "*": "[^/]*", "?": "[^/]"})
        object.__setattr__(self, "_regex", regex)

    def matches(self, repository: RepositoryName) -> bool:
        """Tell whether *repository* is one of those meant."""
        return self._regex.fullmatch(repository.text) is not None

    def __str__(self) -> str:
        """Return the pattern as it was written."""
        return self.text


@dataclass(frozen=True, slots=True)
class TagPattern:
    """A glob over tags, or a regular expression over a whole tag between two slashes."""

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.text.startswith("/"):
            regex = _expression(self.text)
        else:
            regex = _compile(self.text, {"**": ".*", "*": ".*", "?": "."})
        object.__setattr__(self, "_regex", regex)

    def matches(self, tag: Tag) -> bool:
        """Tell whether *tag* is one of those meant."""
        return self._regex.fullmatch(tag.text) is not None

    def __str__(self) -> str:
        """Return the pattern as it was written."""
        return self.text


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A range of semantic versions, as in a release query; `version` tells what counts as one."""

    text: str
    _query: Query = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            query = Query(self.text)
        except QueryInvalid:
            raise ValueError(f"{self.text!r} is no range of versions, like >=1.2,<2.0") from None
        object.__setattr__(self, "_query", query)

    def admits(self, tag: Tag) -> bool:
        """Tell whether *tag* is a version in this range."""
        found = version(tag)
        return found is not None and self._query.admits(found)

    def __str__(self) -> str:
        """Return the range as it was written."""
        return self.text


def version(tag: Tag) -> Release | None:
    """Return the semantic version that *tag* spells, with or without a ``v`` before it."""
    bare = tag.text.removeprefix("v")
    return Release.of(Tag(bare)) if is_tag(bare) else None


def _compile(text: str, wildcards: dict[str, str]) -> re.Pattern[str]:
    if not text:
        raise ValueError("an empty pattern matches nothing")
    parts, end = [], 0
    for found in _WILDCARDS.finditer(text):
        parts += [re.escape(text[end : found.start()]), wildcards[found[0]]]
        end = found.end()
    return re.compile("".join(parts) + re.escape(text[end:]))


def _expression(text: str) -> re.Pattern[str]:
    inner = text[1:-1]
    if not inner or not text.endswith("/"):
        raise ValueError(f"{text!r} does not read /REGULAR EXPRESSION/")
    try:
        return re.compile(inner)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
