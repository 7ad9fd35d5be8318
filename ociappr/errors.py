"""What can go wrong, in the registry's own words; each face has one table from these to its codes.

OciapprError
├─ Invalid      the request says something that cannot be
├─ Unknown      what the request names is not here
├─ Refused      it is possible, but not allowed
└─ Unavailable  the registry cannot do it now; nothing is the matter with the request
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class OciapprError(Exception):
    """The root: *message* is for people, *detail* for programs, *hint* says what to do next."""

    def __init__(
        self, message: str, *, detail: Mapping[str, object] | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail: Mapping[str, object] = detail or {}
        self.hint = hint


class Invalid(OciapprError):
    """The request says something that cannot be."""


class NameInvalid(Invalid):
    """A repository, package or channel name breaks its grammar."""


class TagInvalid(Invalid):
    """A tag breaks its grammar."""


class DigestInvalid(Invalid):
    """A digest is malformed, of an unsupported algorithm, or not that of the bytes."""


class SizeInvalid(Invalid):
    """A length is malformed or differs from the bytes that came."""


class ManifestInvalid(Invalid):
    """A manifest cannot be read, or says something false."""


class RangeInvalid(Invalid):
    """A range does not fit; *offset* is where an upload continues, *size* how long a blob is."""

    def __init__(
        self, message: str, *, offset: int | None = None, size: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset
        self.size = size


class UploadInvalid(Invalid):
    """An upload request contradicts itself."""


class PageInvalid(Invalid):
    """The number of entries asked for is not a number that can be."""


class ReleaseInvalid(Invalid):
    """A release is not a semantic version."""


class QueryInvalid(Invalid):
    """A release query cannot be read."""


class MediaTypeInvalid(Invalid):
    """A package's media type is malformed, or ``-`` does not name exactly one."""


class PackageInvalid(Invalid):
    """A pushed package is not a base64 tar.gz, or a field of the push is missing."""


class RequestInvalid(Invalid):
    """The request as a whole cannot be read."""


class Unknown(OciapprError):
    """What the request names is not here."""


class NameUnknown(Unknown):
    """No such repository."""


class BlobUnknown(Unknown):
    """The repository holds no such blob."""


class UploadUnknown(Unknown):
    """No such upload: never begun, finished, cancelled or expired."""


class ManifestUnknown(Unknown):
    """The repository holds no such manifest, or the tag names none."""


class ManifestBlobUnknown(Unknown):
    """A manifest names a child that the repository does not hold."""


class PackageUnknown(Unknown):
    """No such package, release of it or media type of that."""


class ReleaseUnknown(Unknown):
    """No release matches."""


class ChannelUnknown(Unknown):
    """No such channel."""


class RouteUnknown(Unknown):
    """No route has this path."""


class Refused(OciapprError):
    """It is possible, but not allowed."""


class Unauthorized(Refused):
    """Who asks has to say who they are; *challenge* is how."""

    def __init__(self, message: str, *, challenge: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.challenge = challenge


class Denied(Refused):
    """Who asks may not."""


class ReleaseExists(Refused):
    """A release already has a package of this media type, and releases are immutable."""


class TagImmutable(Refused):
    """The tag is a published release and may not move."""


class MethodRefused(Refused):
    """The path exists, the method does not; *allowed* are those that do."""

    def __init__(self, message: str, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class Unsupported(Refused):
    """The operation is switched off."""


class TooLarge(Refused):
    """A blob, body or manifest exceeds its limit."""


class ManifestTooLarge(TooLarge):
    """A manifest exceeds the size or the number of children that fit."""


class TooManyTags(TooLarge):
    """One push names more tags than one may."""


class TooManyRequests(Refused):
    """Later, perhaps; *retry_after* is in seconds."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(OciapprError):
    """The registry cannot do it now; nothing is the matter with the request."""


class StoreUnavailable(Unavailable):
    """A store did not answer, or not in time; a commit may or may not have landed."""


class StoreFull(StoreUnavailable):
    """The disk is full; nothing that was acknowledged is lost."""


class Contended(Unavailable):
    """A transaction met rivals too often and gave up."""


def leaves(root: type[OciapprError] = OciapprError) -> Iterator[type[OciapprError]]:
    """Yield every class below *root* that is raised, for tests that a table is total."""
    for child in root.__subclasses__():
        if child not in (Invalid, Unknown, Refused, Unavailable):
            yield child
        yield from leaves(child)
