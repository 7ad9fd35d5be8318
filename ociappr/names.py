"""Names: of repositories, tags, packages and channels; each parsed once, at the border."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ociappr.digest import Digest
from ociappr.errors import DigestInvalid, NameInvalid, TagInvalid

# distribution-spec, spec.md, Pulling manifests
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_REPOSITORY_LIMIT = 255
_PACKAGE_SEGMENTS = 2


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """A repository: lower-case path segments, 255 characters at most. Raises `NameInvalid`."""

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _REPOSITORY_LIMIT or not _REPOSITORY.fullmatch(self.text):
            message = f"{shown(self.text)} is not a repository name"
            hint = "lower-case letters and digits, parted by . _ __ - or /, 255 at most"
            raise NameInvalid(message, hint=hint)

    def __str__(self) -> str:
        """Return the name."""
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A tag: ``[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}``. Raises `TagInvalid`."""

    text: str

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.text):
            message = f"{shown(self.text)} is not a tag"
            hint = "a letter, digit or _, then at most 127 of letters, digits, . _ and -"
            raise TagInvalid(message, hint=hint)

    def __str__(self) -> str:
        """Return the tag."""
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class PackageName:
    """An appr package: a repository of exactly two segments. Raises `NameInvalid`."""

    namespace: str
    name: str

    def __post_init__(self) -> None:
        if "/" in self.namespace + self.name:
            raise NameInvalid(f"{shown(str(self))} is not a package name")
        RepositoryName(str(self))

    @classmethod
    def of(cls, repository: RepositoryName) -> PackageName | None:
        """Return the package that *repository* can be, or None unless it has two segments."""
        segments = repository.text.split("/")
        return cls(*segments) if len(segments) == _PACKAGE_SEGMENTS else None

    @property
    def repository(self) -> RepositoryName:
        """The repository that holds the package."""
        return RepositoryName(str(self))

    def __str__(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A manifest in a repository, by tag or by digest."""

    repository: RepositoryName
    target: Tag | Digest

    def __str__(self) -> str:
        """Return ``name:tag`` or ``name@digest``."""
        mark = "@" if isinstance(self.target, Digest) else ":"
        return f"{self.repository}{mark}{self.target}"


def parse_target(text: str) -> Tag | Digest:
    """Return what the last segment of a manifest path names; raise `DigestInvalid`, `TagInvalid`.

    A tag never holds a colon, a digest always does.
    """
    return Digest.parse(text) if ":" in text else Tag(text)


def parse_reference(text: str) -> Reference | RepositoryName:
    """Return what ``name``, ``name:tag`` or ``name@digest`` names.

    Raises `NameInvalid`, `TagInvalid`, `DigestInvalid`.
    """
    name, at, digest = text.partition("@")
    if at:
        return Reference(RepositoryName(name), Digest.parse(digest))
    name, colon, tag = text.partition(":")
    repository = RepositoryName(name)
    return Reference(repository, Tag(tag)) if colon else repository


def is_tag(text: str) -> bool:
    """Tell whether *text* has a tag's grammar."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Tell whether *text* spells a digest that this registry supports."""
    try:
        Digest.parse(text)
    except DigestInvalid:
        return False
    return True


def shown(text: str) -> str:
    """Return *text* quoted for a message: printable and short, whatever a client sent."""
    quoted = ascii(text)
    limit = 80
    return quoted if len(quoted) <= limit else f"{quoted[: limit - 2]}…'"
