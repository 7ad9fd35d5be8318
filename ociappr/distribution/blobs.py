"""The handlers of blobs and of their uploads (distribution-spec, Pulling and Pushing Blobs)."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from ociappr.access import Action
from ociappr.calls import Call, Handlers, Pulled
from ociappr.digest import Digest
from ociappr.distribution.answers import API_VERSION, empty
from ociappr.distribution.construct import blob_path, upload_path, upload_range
from ociappr.distribution.operations import (
    BeginUpload,
    CancelUpload,
    DeleteBlob,
    FinishUpload,
    GetBlob,
    GetUpload,
    HeadBlob,
    MountBlob,
    PutBlob,
    UploadChunk,
)
from ociappr.http import IMMUTABLE, body, send_blob
from ociappr.names import RepositoryName
from ociappr.registry import Registry
from ociappr.registry.uploads import UploadStatus

_WRITE = (Action.PULL, Action.PUSH)
_CONSTANT = {
    "Content-Type": "application/octet-stream",
    "Accept-Ranges": "bytes",
    "Cache-Control": IMMUTABLE,
    **API_VERSION,
}


class BlobHandlers:
    """Answers every `BlobOperation` and `UploadOperation`."""

    def __init__(
        self, registry: Registry, *, pulled: Pulled, chunk_minimum: int, stall: float
    ) -> None:
        self._blobs = registry.blobs
        self._uploads = registry.uploads
        self._pulled = pulled
        self._chunk_minimum = chunk_minimum
        self._stall = stall

    @property
    def handlers(self) -> Handlers:
        """The table of operations."""
        return {
            GetBlob: self._get,
            HeadBlob: self._head,
            DeleteBlob: self._delete,
            BeginUpload: self._begin,
            PutBlob: self._put,
            MountBlob: self._mount,
            GetUpload: self._status,
            UploadChunk: self._append,
            FinishUpload: self._finish,
            CancelUpload: self._cancel,
        }

    async def _get(self, operation: GetBlob, call: Call) -> web.StreamResponse:
        repository, digest = operation.repository, operation.digest
        call.require(repository, Action.PULL)
        blob = await self._blobs.find(repository, digest)
        self._pulled(repository, digest)
        return await send_blob(call.request, self._blobs, blob, headers=_headers(digest))

    async def _head(self, operation: HeadBlob, call: Call) -> web.StreamResponse:
        call.require(operation.repository, Action.PULL)
        blob = await self._blobs.find(operation.repository, operation.digest)
        headers = _headers(operation.digest)
        return await send_blob(call.request, self._blobs, blob, headers=headers)

    async def _delete(self, operation: DeleteBlob, call: Call) -> web.StreamResponse:
        call.require(operation.repository, Action.DELETE)
        await self._blobs.delete(operation.repository, operation.digest)
        return empty(HTTPStatus.ACCEPTED, {})

    async def _begin(self, operation: BeginUpload, call: Call) -> web.StreamResponse:
        repository = operation.repository
        call.require(repository, *_WRITE)
        status = await self._uploads.begin(repository, algorithm=operation.algorithm)
        return self._progress(HTTPStatus.ACCEPTED, repository, status)

    async def _put(self, operation: PutBlob, call: Call) -> web.StreamResponse:
        repository, digest = operation.repository, operation.digest
        call.require(repository, *_WRITE)
        chunks = body(call.request, stall=self._stall)
        await self._uploads.put(repository, digest, chunks, size=call.request.content_length)
        return _created(repository, digest)

    async def _mount(self, operation: MountBlob, call: Call) -> web.StreamResponse:
        repository, digest = operation.repository, operation.digest
        call.require(repository, *_WRITE)
        if await self._blobs.mount(repository, digest, operation.origin, call.may_pull):
            return _created(repository, digest)
        status = await self._uploads.begin(repository, algorithm=digest.algorithm)
        return self._progress(HTTPStatus.ACCEPTED, repository, status)

    async def _status(self, operation: GetUpload, call: Call) -> web.StreamResponse:
        call.require(operation.repository, *_WRITE)
        status = await self._uploads.status(operation.repository, operation.upload)
        return self._progress(HTTPStatus.NO_CONTENT, operation.repository, status)

    async def _append(self, operation: UploadChunk, call: Call) -> web.StreamResponse:
        call.require(operation.repository, *_WRITE)
        status = await self._uploads.append(
            operation.repository,
            operation.upload,
            body(call.request, stall=self._stall),
            span=operation.span,
            size=call.request.content_length,
        )
        return self._progress(HTTPStatus.ACCEPTED, operation.repository, status)

    async def _finish(self, operation: FinishUpload, call: Call) -> web.StreamResponse:
        call.require(operation.repository, *_WRITE)
        await self._uploads.finish(
            operation.repository,
            operation.upload,
            operation.digest,
            body(call.request, stall=self._stall),
            span=operation.span,
            size=call.request.content_length,
        )
        return _created(operation.repository, operation.digest)

    async def _cancel(self, operation: CancelUpload, call: Call) -> web.StreamResponse:
        call.require(operation.repository, *_WRITE)
        await self._uploads.cancel(operation.repository, operation.upload)
        return empty(HTTPStatus.NO_CONTENT, {"Docker-Upload-UUID": operation.upload})

    def _progress(
        self, code: HTTPStatus, repository: RepositoryName, status: UploadStatus
    ) -> web.Response:
        """Return where an upload stands; relative, so that it is right behind any proxy."""
        headers = {
            "Location": upload_path(repository, status.id),
            "Range": upload_range(status.offset),
            "Docker-Upload-UUID": status.id,
        }
        if self._chunk_minimum > 0:
            headers["OCI-Chunk-Min-Length"] = str(self._chunk_minimum)
        return empty(code, headers)


def _headers(digest: Digest) -> dict[str, str]:
    text = str(digest)
    return {**_CONSTANT, "Docker-Content-Digest": text, "ETag": f'"{text}"'}


def _created(repository: RepositoryName, digest: Digest) -> web.Response:
    headers = {"Location": blob_path(repository, digest), "Docker-Content-Digest": str(digest)}
    return empty(HTTPStatus.CREATED, headers)
