"""From an operation to its request, and the paths that answers tell.

``parse(*construct(operation)) == operation`` for every operation: a server and a client share this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, urlencode

from ociappr.digest import Digest
from ociappr.distribution.operations import (
    BeginUpload,
    BlobOperation,
    CancelUpload,
    DeleteBlob,
    DeleteManifest,
    FinishUpload,
    GetBlob,
    GetManifest,
    GetUpload,
    HeadBlob,
    HeadManifest,
    ListOperation,
    ListReferrers,
    ListRepositories,
    ListTags,
    ManifestOperation,
    MountBlob,
    Operation,
    Ping,
    PutBlob,
    PutManifest,
    UploadChunk,
    UploadOperation,
)
from ociappr.names import RepositoryName, Tag
from ociappr.registry.uploads import Span

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Request(NamedTuple):
    """What an operation looks like on the wire, its body aside."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = _NO_HEADERS

    @property
    def target(self) -> str:
        """Path and query, as the request line and ``Location`` have them."""
        return f"{self.path}?{self.query}" if self.query else self.path


def blob_path(repository: RepositoryName, digest: Digest) -> str:
    """Return where a blob is pulled from."""
    return f"/v2/{repository.text}/blobs/{digest}"


def manifest_path(repository: RepositoryName, target: Tag | Digest) -> str:
    """Return where a manifest is pulled from."""
    return f"/v2/{repository.text}/manifests/{target}"


def upload_path(repository: RepositoryName, upload: str) -> str:
    """Return where an upload goes on; its whole state is in the path, clients may drop a query."""
    return f"/v2/{repository.text}/blobs/uploads/{upload}"


def upload_range(offset: int) -> str:
    """Return the ``Range`` of an upload of which *offset* bytes are stored: ``0-0`` if none."""
    return f"0-{max(offset - 1, 0)}"


def construct(operation: Operation) -> Request:
    """Return the request that asks for *operation*."""
    match operation:
        case Ping() | ListRepositories() | ListTags() | ListReferrers():
            return _construct_list(operation)
        case GetManifest() | HeadManifest() | PutManifest() | DeleteManifest():
            return _construct_manifest(operation)
        case GetUpload() | UploadChunk() | FinishUpload() | CancelUpload():
            return _construct_upload(operation)
        case _:
            return _construct_blob(operation)


def _construct_list(operation: ListOperation) -> Request:
    match operation:
        case Ping():
            return Request("GET", "/v2/")
        case ListRepositories(count, last):
            return Request("GET", "/v2/_catalog", _page(count, last))
        case ListTags(repository, count, last):
            return Request("GET", f"/v2/{repository.text}/tags/list", _page(count, last))
        case ListReferrers(repository, subject, types, count, last):
            path = f"/v2/{repository.text}/referrers/{subject}"
            filters = [("artifactType", artifact_type) for artifact_type in types]
            return Request("GET", path, _page(count, last, filters))


def _construct_manifest(operation: ManifestOperation) -> Request:
    path = manifest_path(operation.reference.repository, operation.reference.target)
    match operation:
        case GetManifest():
            return Request("GET", path)
        case HeadManifest():
            return Request("HEAD", path)
        case DeleteManifest():
            return Request("DELETE", path)
        case PutManifest(_, media_type, tags):
            headers = {"Content-Type": media_type} if media_type else _NO_HEADERS
            return Request("PUT", path, urlencode([("tag", tag.text) for tag in tags]), headers)


def _construct_blob(operation: BlobOperation) -> Request:  # noqa: PLR0911 - one per case
    uploads = upload_path(operation.repository, "")
    match operation:
        case GetBlob(repository, digest):
            return Request("GET", blob_path(repository, digest))
        case HeadBlob(repository, digest):
            return Request("HEAD", blob_path(repository, digest))
        case DeleteBlob(repository, digest):
            return Request("DELETE", blob_path(repository, digest))
        case BeginUpload(_, "sha256"):
            return Request("POST", uploads)
        case BeginUpload(_, algorithm):
            return Request("POST", uploads, urlencode({"digest-algorithm": algorithm}))
        case PutBlob(_, digest):
            return Request("POST", uploads, _encode([("digest", str(digest))]))
        case MountBlob(_, digest, origin):
            pairs = [("mount", str(digest)), ("from", origin.text if origin else "")]
            return Request("POST", uploads, _encode(pairs))


def _construct_upload(operation: UploadOperation) -> Request:
    path = upload_path(operation.repository, operation.upload)
    match operation:
        case GetUpload():
            return Request("GET", path)
        case UploadChunk(_, _, span):
            return Request("PATCH", path, headers=_content_range(span))
        case FinishUpload(_, _, digest, span):
            return Request("PUT", path, _encode([("digest", str(digest))]), _content_range(span))
        case CancelUpload():
            return Request("DELETE", path)


def _content_range(span: Span | None) -> Mapping[str, str]:
    return {"Content-Range": f"{span.start}-{span.stop}"} if span else _NO_HEADERS


def _page(count: int | None, last: str, filters: Iterable[tuple[str, str]] = ()) -> str:
    number = "" if count is None else str(count)
    return _encode([*filters, ("n", number), ("last", last)])


def _encode(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a query of *pairs* without the empty ones; colons and slashes stay readable."""
    present = [(key, value) for key, value in pairs if value]
    return urlencode(present, quote_via=quote, safe="/:")
