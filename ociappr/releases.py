"""Releases: semantic versions, the tags that carry them, and the queries that choose among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from semantic_version import SimpleSpec, Version  # type: ignore[import-untyped]

from ociappr.errors import QueryInvalid, ReleaseInvalid
from ociappr.names import Tag, is_tag, shown

DEFAULT = "default"
"""The query for the highest release of all."""

_QUERY_LIMIT = 256


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A release: a strict semantic version that fits into a tag. Raises `ReleaseInvalid`.

    The order is total: precedence (semver.org, 11), then build metadata, which the standard leaves
    open: a build is above the release without one.
    """

    _rank: tuple[object, ...] = field(init=False, repr=False, hash=False)
    text: str
    _version: Version = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        version = _version(self.text)
        if version is None:
            message = f"Invalid version string: {shown(self.text)}"
            hint = "MAJOR.MINOR.PATCH, then perhaps -PRERELEASE and +BUILD, 128 characters at most"
            raise ReleaseInvalid(message, detail={"version": self.text}, hint=hint)
        object.__setattr__(self, "_rank", version.precedence_key)
        object.__setattr__(self, "_version", version)

    @classmethod
    def of(cls, tag: Tag) -> Release | None:
        """Return the release that *tag* carries, or None if it does not read as one."""
        try:
            return cls(tag.text.replace("_", "+", 1))
        except ReleaseInvalid:
            return None

    @property
    def tag(self) -> Tag:
        """The tag of the release: ``+`` is no tag's character and ``_`` no version's, so they swap.

        Helm does the same (helm, pkg/registry, the reference type).
        """
        return Tag(self.text.replace("+", "_"))

    @property
    def is_stable(self) -> bool:
        """Whether this is no pre-release."""
        return not self._version.prerelease

    def fits(self, spec: SimpleSpec) -> bool:
        """Tell whether *spec* matches."""
        return bool(spec.match(self._version))

    def __str__(self) -> str:
        """Return the version as it was given."""
        return self.text


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for: a version, a range such as ``>=1.2,<2``, or ``default``.

    All clauses between the commas must match. Pre-releases are admitted by a ``-`` anywhere in the
    text, and by `DEFAULT`. Raises `QueryInvalid`.
    """

    text: str
    _spec: SimpleSpec | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spec", None if self.text == DEFAULT else _spec(self.text))

    def admits(self, release: Release) -> bool:
        """Tell whether *release* is among those asked for."""
        if self._spec is None:
            return True
        if not release.is_stable and "-" not in self.text:
            return False
        return release.fits(self._spec)


def select(releases: Iterable[Release], query: Query) -> Release | None:
    """Return the release that *query* spells, else the highest one that it admits, else None."""
    candidates = list(releases)
    for release in candidates:
        if release.text == query.text:
            return release
    descending = sorted(candidates, reverse=True)  # most queries mean one of the first
    return next((release for release in descending if query.admits(release)), None)


def _version(text: str) -> Version | None:
    """Return the parsed version, or None unless *text* is exactly its canonical spelling."""
    if not is_tag(text.replace("+", "_")):
        return None
    try:
        version = Version(text)
    except ValueError:
        return None
    return version if str(version) == text else None


def _spec(text: str) -> SimpleSpec:
    bare = "".join(text.split())
    readable = bare if len(bare) <= _QUERY_LIMIT and bare.isascii() else ""
    try:
        return SimpleSpec(readable)
    except ValueError:
        message = f"Invalid requirement specification: {shown(text)}"
        hint = "use a version, a range such as >=1.2,<2.0, or default"
        raise QueryInvalid(message, detail={"release": text}, hint=hint) from None
