"""The requests of the Distribution API as values: one frozen type per operation.

The numbers are those of distribution-spec, spec.md, Endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ociappr.digest import Digest
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.registry.uploads import Span


@dataclass(frozen=True, slots=True)
class Ping:
    """end-1: whether this speaks the Distribution API."""


@dataclass(frozen=True, slots=True)
class ListRepositories:
    """The catalog: *count* names after *last*; None leaves the number to the server."""

    count: int | None = None
    last: str = ""


@dataclass(frozen=True, slots=True)
class ListTags:
    """end-8: *count* tags after *last*; None leaves the number to the server."""

    repository: RepositoryName
    count: int | None = None
    last: str = ""


@dataclass(frozen=True, slots=True)
class ListReferrers:
    """end-12: who has *subject*, of any of *artifact_types* if there are some."""

    repository: RepositoryName
    subject: Digest
    artifact_types: tuple[str, ...] = ()
    count: int | None = None
    last: str = ""


@dataclass(frozen=True, slots=True)
class GetManifest:
    """end-3."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class HeadManifest:
    """end-3, without the body."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class PutManifest:
    """end-7; *media_type* is the declared one or "", *tags* are more names for it (end-7b)."""

    reference: Reference
    media_type: str = ""
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteManifest:
    """end-9: a digest and all its tags, or one tag."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class GetBlob:
    """end-2."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class HeadBlob:
    """end-2, without the body."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class DeleteBlob:
    """end-10."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class BeginUpload:
    """end-4a, and end-4c with another *algorithm* than sha256."""

    repository: RepositoryName
    algorithm: str = "sha256"


@dataclass(frozen=True, slots=True)
class PutBlob:
    """end-4b: the whole blob in one POST."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class MountBlob:
    """end-11: show a blob of *origin* here too; None: of any repository that may be read."""

    repository: RepositoryName
    digest: Digest
    origin: RepositoryName | None = None


@dataclass(frozen=True, slots=True)
class GetUpload:
    """end-13: where an upload stands."""

    repository: RepositoryName
    upload: str


@dataclass(frozen=True, slots=True)
class UploadChunk:
    """end-5; without *span* the body goes behind what is there."""

    repository: RepositoryName
    upload: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class FinishUpload:
    """end-6, the last bytes in its body perhaps."""

    repository: RepositoryName
    upload: str
    digest: Digest
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class CancelUpload:
    """end-14."""

    repository: RepositoryName
    upload: str


UploadOperation: TypeAlias = GetUpload | UploadChunk | FinishUpload | CancelUpload
BlobOperation: TypeAlias = GetBlob | HeadBlob | DeleteBlob | BeginUpload | PutBlob | MountBlob
ManifestOperation: TypeAlias = GetManifest | HeadManifest | PutManifest | DeleteManifest
ListOperation: TypeAlias = Ping | ListRepositories | ListTags | ListReferrers
Operation: TypeAlias = UploadOperation | BlobOperation | ManifestOperation | ListOperation
