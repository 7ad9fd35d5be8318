"""What appr sees in a repository: releases, their packages, channels; and what it tells of others.

The messages of the errors are those of the original server, word for word, since clients and people
know them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from ociappr.errors import ChannelUnknown, MediaTypeInvalid, PackageUnknown, ReleaseUnknown
from ociappr.names import PackageName
from ociappr.registry.records import FormatRecord, TagRecord
from ociappr.releases import Release

ONLY = "-"
"""Names the format of a release that has just one."""


@dataclass(frozen=True, slots=True)
class Published:
    """A release and its packages, one per format."""

    release: Release
    formats: tuple[FormatRecord, ...]

    def narrowed(self, format_: str | None) -> Published | None:
        """Return this with *format_* only, if one is given; None if there is no such."""
        if format_ is None:
            return self
        formats = tuple(found for found in self.formats if found.format == format_)
        return Published(self.release, formats) if formats else None

    def format(self, package: PackageName, name: str) -> FormatRecord:
        """Return the format *name*; raise `PackageUnknown`, or `MediaTypeInvalid` for `ONLY`."""
        if name == ONLY and len(self.formats) == 1:
            return self.formats[0]
        if name == ONLY:
            names = ",".join(found.format for found in self.formats)
            raise MediaTypeInvalid(f"media-type non specified: [{names}]")
        for found in self.formats:
            if found.format == name:
                return found
        raise package_unknown(package, str(self.release), name)


@dataclass(frozen=True, slots=True)
class Package:
    """One format of one release; *metadata* is the JSON text that was pushed with it, or "null"."""

    package: PackageName
    release: Release
    record: FormatRecord
    metadata: str = "null"
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel: its *current* release (perhaps deleted), and its *releases* that exist."""

    name: str
    current: str
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A package in a list: its releases, the highest first, and when it began."""

    package: PackageName
    created: str
    releases: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What the tags of one repository are to appr."""

    releases: dict[Release, Published]
    channels: dict[str, TagRecord]

    def channel(self, name: str) -> Channel:
        """Return the channel *name*; raise `ChannelUnknown`."""
        record = self.channels.get(name)
        if record is None:
            raise channel_unknown(name)
        members = set(record.members)
        live = (release for release in self.releases if release.text in members)
        return Channel(name, record.current, tuple(sorted(live, reverse=True)))

    def leading_to(self, release: Release) -> tuple[str, ...]:
        """Return the names of the channels whose current release this is."""
        found = self.channels.items()
        return tuple(name for name, record in found if record.current == release.text)


def archive_name(package: PackageName, version: str) -> str:
    """Return the file name that clients give the archive of a package."""
    return f"{package.namespace}_{package.name}_{version}.tar.gz"


def package_unknown(
    package: PackageName, release: str | None = None, format_: str | None = None
) -> PackageUnknown:
    """Return the original's error for whatever is missing below a package."""
    message = f"package {package} doesn't exist, v: {release}, type: {format_}"
    detail = {"package": str(package), "release": release, "media_type": format_}
    hint = f"the package, the release, its media type or the blob: see what {package} holds"
    return PackageUnknown(message, detail=detail, hint=hint)


def channel_unknown(name: str) -> ChannelUnknown:
    """Return the original's error for a channel that is missing; it calls the channel a package."""
    message = f"No channel found for package '{name}'"
    hint = f"there is no channel {name}; the words above are the original server's"
    return ChannelUnknown(message, detail={"package": name}, hint=hint)


def release_unknown(package: PackageName, text: str) -> ReleaseUnknown:
    """Return the original's error for a release that a channel cannot lead to."""
    message = f"Release {text} doesn't exist for package {package}"
    return ReleaseUnknown(message, detail={"package": str(package), "release": text})


def no_match(package: PackageName, query: str) -> ReleaseUnknown:
    """Return the original's error for a query that no release matches."""
    message = f"No release match '{query}' for package '{package}'"
    return ReleaseUnknown(message, detail={"package": str(package), "release_query": query})


def descending(published: Iterable[Published]) -> tuple[Published, ...]:
    """Return releases, the highest first."""
    return tuple(sorted(published, key=attrgetter("release"), reverse=True))
