"""From a request line to the operation that it asks for; `construct` is the way back.

A path is split before it is decoded: an escaped slash never moves a border.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote

from ociappr.digest import Digest, new_hash
from ociappr.distribution.operations import (
    BeginUpload,
    CancelUpload,
    DeleteBlob,
    DeleteManifest,
    FinishUpload,
    GetBlob,
    GetManifest,
    GetUpload,
    HeadBlob,
    HeadManifest,
    ListReferrers,
    ListRepositories,
    ListTags,
    MountBlob,
    Operation,
    Ping,
    PutBlob,
    PutManifest,
    UploadChunk,
)
from ociappr.errors import (
    DigestInvalid,
    ManifestUnknown,
    MethodRefused,
    PageInvalid,
    RangeInvalid,
    RequestInvalid,
    RouteUnknown,
    TagInvalid,
    TooManyTags,
    UploadInvalid,
    UploadUnknown,
)
from ociappr.media import declared
from ociappr.names import Reference, RepositoryName, Tag, parse_target, shown
from ociappr.registry.uploads import Span

PAGE_LIMIT = 10_000
"""How many entries a page of a list holds at most, and without ``n``."""

TAG_LIMIT = 46
"""How many ``tag`` parameters one push may have: as many longest ones as fit a request line."""

_DIGITS = 18
_FIELDS = 1_000
_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_UPLOAD = re.compile(r"[A-Za-z0-9._]{1,256}")
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def parse(
    method: str, path: str, query: str = "", headers: Mapping[str, str] = _NO_HEADERS
) -> Operation:
    """Return what a request asks for; *path* and *query* as they came, still escaped.

    Raises `RouteUnknown`, `MethodRefused`, and what a malformed part calls for: `NameInvalid`,
    `TagInvalid`, `DigestInvalid`, `PageInvalid`, `RangeInvalid`, `UploadInvalid`, `UploadUnknown`,
    `ManifestUnknown`, `ManifestInvalid`, `TooManyTags`, `RequestInvalid`.
    """
    segments = path.split("/")
    if "%" in path:
        # what still holds an escape after this is no name, tag, digest or upload
        segments = [unquote(segment).replace("/", "%2F") for segment in segments]
    route, name, last = _locate(segments)
    try:
        read = route[method]
    except KeyError:
        message = f"{shown(method)} is not a method of {shown(path)}"
        raise MethodRefused(message, allowed=tuple(route)) from None
    return read(_Parts(name, last, query, headers))


@lru_cache(maxsize=4096)  # what is pulled once is pulled often
def _reference(name: str, last: str) -> Reference:
    return Reference(RepositoryName(name), parse_target(last))


class _Parts:
    """The pieces of a request line, each read when it is asked for."""

    __slots__ = ("_pairs", "_query", "headers", "last", "name")

    def __init__(self, name: str, last: str, query: str, headers: Mapping[str, str]) -> None:
        self.name = name
        self.last = last
        self.headers = headers
        self._query = query
        self._pairs: list[tuple[str, str]] | None = None

    @property
    def repository(self) -> RepositoryName:
        return RepositoryName(self.name)

    @property
    def digest(self) -> Digest:
        return Digest.parse(self.last)

    @property
    def upload(self) -> str:
        if not _UPLOAD.fullmatch(self.last):
            raise UploadUnknown(f"{shown(self.last)} is no upload")
        return self.last

    @property
    def reference(self) -> Reference:
        """What exists under a name that can be no tag: nothing."""
        try:
            return self.new_reference
        except TagInvalid as error:
            raise ManifestUnknown(error.message, hint=error.hint) from None

    @property
    def new_reference(self) -> Reference:
        return _reference(self.name, self.last)

    @property
    def span(self) -> Span | None:
        text = self.headers.get("Content-Range")
        if text is None:
            return None
        found = _CONTENT_RANGE.fullmatch(text)
        if found is None:
            message = f"{shown(text)} is not a range of an upload"
            raise UploadInvalid(message, hint="Content-Range reads first-last, both included")
        start, stop = int(found[1]), int(found[2])
        if stop < start:
            raise RangeInvalid(f"the range {text} ends before it begins")
        return Span(start, stop)

    @property
    def count(self) -> int | None:
        text = self.value("n")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise PageInvalid(f"n={shown(text)} is not a number of entries")
        return min(int(text), PAGE_LIMIT) if len(text) <= _DIGITS else PAGE_LIMIT

    def value(self, name: str) -> str | None:
        """Return the first value of a query parameter, or None if there is none."""
        return next(iter(self.values(name)), None)

    def values(self, name: str) -> list[str]:
        """Return all values of a query parameter."""
        if not self._query:
            return []
        if self._pairs is None:
            self._pairs = _fields(self._query)
        return [value for key, value in self._pairs if key == name]


def _fields(query: str) -> list[tuple[str, str]]:
    if not query.isascii():
        raise RequestInvalid("the query is not ASCII", hint="escape other characters with %")
    try:
        # a plus means itself (RFC 3986), as people write it in media types; no value has spaces
        literal = query.replace("+", "%2B")
        return parse_qsl(literal, keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError:
        raise RequestInvalid(f"the query has more than {_FIELDS} fields") from None


def _locate(  # noqa: PLR0911 - one per case
    segments: list[str],
) -> tuple[_Route, str, str]:
    """Return the methods of a path, the repository in it and its last segment, all unchecked.

    Names hold slashes and may hold the API's own words, so a path is matched from its end.
    """
    match segments:
        case ["", "v2"] | ["", "v2", ""]:
            return _PING, "", ""
        case ["", "v2", "_catalog"]:
            return _CATALOG, "", ""
        case ["", "v2", _, *_, "manifests", last]:
            return _MANIFEST, "/".join(segments[2:-2]), last
        case ["", "v2", _, *_, "blobs", "uploads"]:
            return _UPLOADS, "/".join(segments[2:-2]), ""
        case ["", "v2", _, *_, "blobs", "uploads", last]:
            route = _SESSION if last else _UPLOADS
            return route, "/".join(segments[2:-3]), last
        case ["", "v2", _, *_, "blobs", last]:
            return _BLOB, "/".join(segments[2:-2]), last
        case ["", "v2", _, *_, "tags", "list"]:
            return _TAGS, "/".join(segments[2:-2]), ""
        case ["", "v2", _, *_, "referrers", last]:
            return _REFERRERS, "/".join(segments[2:-2]), last
    message = f"there is no {shown('/'.join(segments))}"
    raise RouteUnknown(message, hint="see distribution-spec, spec.md, Endpoints")


def _ping(_: _Parts) -> Ping:
    return Ping()


def _list_repositories(parts: _Parts) -> ListRepositories:
    return ListRepositories(parts.count, parts.value("last") or "")


def _list_tags(parts: _Parts) -> ListTags:
    return ListTags(parts.repository, parts.count, parts.value("last") or "")


def _list_referrers(parts: _Parts) -> ListReferrers:
    types = tuple(text for text in parts.values("artifactType") if text)
    last = parts.value("last") or ""
    return ListReferrers(parts.repository, parts.digest, types, parts.count, last)


def _get_manifest(parts: _Parts) -> GetManifest:
    return GetManifest(parts.reference)


def _head_manifest(parts: _Parts) -> HeadManifest:
    return HeadManifest(parts.reference)


def _put_manifest(parts: _Parts) -> PutManifest:
    reference, texts = parts.new_reference, parts.values("tag")
    if texts and isinstance(reference.target, Tag):
        hint = "push by digest and name every tag in the query"
        raise TagInvalid("tag parameters beside a tag in the path", hint=hint)
    if len(texts) > TAG_LIMIT:
        raise TooManyTags(f"{len(texts)} tags at once: at most {TAG_LIMIT}")
    tags = tuple(Tag(text) for text in dict.fromkeys(texts))
    return PutManifest(reference, declared(parts.headers.get("Content-Type", "")), tags)


def _delete_manifest(parts: _Parts) -> DeleteManifest:
    return DeleteManifest(parts.reference)


def _get_blob(parts: _Parts) -> GetBlob:
    return GetBlob(parts.repository, parts.digest)


def _head_blob(parts: _Parts) -> HeadBlob:
    return HeadBlob(parts.repository, parts.digest)


def _delete_blob(parts: _Parts) -> DeleteBlob:
    return DeleteBlob(parts.repository, parts.digest)


def _post_upload(parts: _Parts) -> BeginUpload | PutBlob | MountBlob:
    repository = parts.repository
    mount, digest = parts.value("mount"), parts.value("digest")
    if mount is not None:
        origin = parts.value("from")
        source = RepositoryName(origin) if origin else None
        return MountBlob(repository, Digest.parse(mount), source)
    if digest is not None:
        return PutBlob(repository, Digest.parse(digest))
    algorithm = parts.value("digest-algorithm") or "sha256"
    new_hash(algorithm)
    return BeginUpload(repository, algorithm)


def _get_upload(parts: _Parts) -> GetUpload:
    return GetUpload(parts.repository, parts.upload)


def _upload_chunk(parts: _Parts) -> UploadChunk:
    return UploadChunk(parts.repository, parts.upload, parts.span)


def _finish_upload(parts: _Parts) -> FinishUpload:
    repository, upload, digest = parts.repository, parts.upload, parts.value("digest")
    if digest is None:
        hint = "close an upload with ?digest="
        raise DigestInvalid("the digest of the blob is missing", hint=hint)
    return FinishUpload(repository, upload, Digest.parse(digest), parts.span)


def _cancel_upload(parts: _Parts) -> CancelUpload:
    return CancelUpload(parts.repository, parts.upload)


_Route: TypeAlias = Mapping[str, Callable[[_Parts], Operation]]
_PING: _Route = {"GET": _ping, "HEAD": _ping}
_CATALOG: _Route = {"GET": _list_repositories, "HEAD": _list_repositories}
_TAGS: _Route = {"GET": _list_tags, "HEAD": _list_tags}
_REFERRERS: _Route = {"GET": _list_referrers, "HEAD": _list_referrers}
_MANIFEST: _Route = {
    "GET": _get_manifest,
    "HEAD": _head_manifest,
    "PUT": _put_manifest,
    "DELETE": _delete_manifest,
}
_BLOB: _Route = {"GET": _get_blob, "HEAD": _head_blob, "DELETE": _delete_blob}
_UPLOADS: _Route = {"POST": _post_upload}
_SESSION: _Route = {
    "GET": _get_upload,
    "HEAD": _get_upload,
    "PATCH": _upload_chunk,
    "PUT": _finish_upload,
    "DELETE": _cancel_upload,
}
