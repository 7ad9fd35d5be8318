"""What the registry's errors look like on ``/v2``: one table, one body.

The codes are those of distribution-spec, spec.md, Error Codes; where it has none, CNCF
distribution's serve. ``detail`` is always a text: Go clients that decode through the spec's own
types expect one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from ociappr import errors
from ociappr.distribution.answers import API_VERSION
from ociappr.distribution.construct import upload_path, upload_range
from ociappr.distribution.operations import FinishUpload, Operation, UploadChunk
from ociappr.errors import OciapprError

TABLE: Mapping[type[OciapprError], tuple[HTTPStatus, str]] = {
    errors.NameInvalid: (HTTPStatus.BAD_REQUEST, "NAME_INVALID"),
    errors.TagInvalid: (HTTPStatus.BAD_REQUEST, "TAG_INVALID"),
    errors.DigestInvalid: (HTTPStatus.BAD_REQUEST, "DIGEST_INVALID"),
    errors.SizeInvalid: (HTTPStatus.BAD_REQUEST, "SIZE_INVALID"),
    errors.ManifestInvalid: (HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID"),
    errors.RangeInvalid: (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
    errors.UploadInvalid: (HTTPStatus.BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
    errors.PageInvalid: (HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
    errors.ReleaseInvalid: (HTTPStatus.BAD_REQUEST, "TAG_INVALID"),
    errors.QueryInvalid: (HTTPStatus.BAD_REQUEST, "TAG_INVALID"),
    errors.MediaTypeInvalid: (HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID"),
    errors.PackageInvalid: (HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID"),
    errors.RequestInvalid: (HTTPStatus.BAD_REQUEST, "UNKNOWN"),
    errors.NameUnknown: (HTTPStatus.NOT_FOUND, "NAME_UNKNOWN"),
    errors.BlobUnknown: (HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN"),
    errors.UploadUnknown: (HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
    errors.ManifestUnknown: (HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN"),
    errors.ManifestBlobUnknown: (HTTPStatus.BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
    errors.PackageUnknown: (HTTPStatus.NOT_FOUND, "NAME_UNKNOWN"),
    errors.ReleaseUnknown: (HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN"),
    errors.ChannelUnknown: (HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN"),
    errors.RouteUnknown: (HTTPStatus.NOT_FOUND, "UNSUPPORTED"),
    errors.Unauthorized: (HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED"),
    errors.Denied: (HTTPStatus.FORBIDDEN, "DENIED"),
    errors.ReleaseExists: (HTTPStatus.FORBIDDEN, "DENIED"),
    errors.TagImmutable: (HTTPStatus.FORBIDDEN, "DENIED"),
    errors.MethodRefused: (HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    errors.Unsupported: (HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    errors.TooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "SIZE_INVALID"),
    errors.ManifestTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "MANIFEST_INVALID"),
    errors.TooManyTags: (HTTPStatus.REQUEST_URI_TOO_LONG, "TAG_INVALID"),
    errors.TooManyRequests: (HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
    errors.StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    errors.StoreFull: (HTTPStatus.INSUFFICIENT_STORAGE, "UNAVAILABLE"),
    errors.Contended: (HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE"),
}
UNKNOWN = (HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN")
"""Of an exception that is none of ours: a defect."""

_RETRY_AFTER = "1"
_HEADERS = {"Content-Type": "application/json", **API_VERSION}


def respond(error: OciapprError, operation: Operation | None = None) -> web.Response:
    """Return the answer to a request, *operation* if it could be read, that met *error*."""
    status, code = TABLE[type(error)]
    text = body(code, error.message, _detail(error))
    headers = {**_HEADERS, **_headers(error, operation)}
    return web.Response(status=status, body=text, headers=headers)


def failed(request_id: str) -> web.Response:
    """Return the answer to a request that met a defect; *request_id* finds it in the log."""
    status, code = UNKNOWN
    text = body(code, "the server failed; its log tells more", f"request {request_id}")
    return web.Response(status=status, body=text, headers=_HEADERS)


def body(code: str, message: str, detail: str = "") -> bytes:
    """Return the JSON of one error; the text is plain ASCII whatever a client had sent."""
    entry = {"code": code, "message": message}
    if detail:
        entry["detail"] = detail
    return json.dumps({"errors": [entry]}).encode()


def _detail(error: OciapprError) -> str:
    facts = [f"{key}: {value}" for key, value in error.detail.items()]
    return "; ".join([*facts, error.hint] if error.hint else facts)


def _headers(  # noqa: PLR0911 - one per case
    error: OciapprError, operation: Operation | None
) -> Mapping[str, str]:
    """Return what an error tells in headers, so that a client knows how to go on."""
    match error:
        case errors.Unauthorized(challenge=challenge) if challenge:
            return {"WWW-Authenticate": challenge}
        case errors.MethodRefused(allowed=allowed):
            return {"Allow": ", ".join(allowed)}
        case errors.TooManyRequests(retry_after=seconds):
            return {"Retry-After": str(seconds)}
        case errors.StoreFull():
            return {}
        case errors.Unavailable():
            return {"Retry-After": _RETRY_AFTER}
        case errors.RangeInvalid(size=int(size)):
            return {"Content-Range": f"bytes */{size}"}
        case errors.RangeInvalid(offset=int(offset)):
            return _progress(operation, offset)
    return {}


def _progress(operation: Operation | None, offset: int) -> Mapping[str, str]:
    """Return where an upload goes on: clients resume when an error has Location and Range."""
    if not isinstance(operation, UploadChunk | FinishUpload):
        return {}
    return {
        "Location": upload_path(operation.repository, operation.upload),
        "Range": upload_range(offset),
        "Docker-Upload-UUID": operation.upload,
    }
