"""What the registry's errors look like on this door: one table, one body.

The body is the one form that every known client reads: operator-courier takes ``error.message``, Go
clients stop at a top-level ``code`` that is a text. Codes are the original's where it had one.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from ociappr import errors
from ociappr.appr_api.answers import JSON
from ociappr.appr_api.views import encode
from ociappr.errors import OciapprError

TABLE: Mapping[type[OciapprError], tuple[HTTPStatus, str]] = {
    errors.NameInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.TagInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.DigestInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.SizeInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.ManifestInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.RangeInvalid: (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "invalid-usage"),
    errors.UploadInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.PageInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.ReleaseInvalid: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-release"),
    errors.QueryInvalid: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-release"),
    errors.MediaTypeInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.PackageInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.RequestInvalid: (HTTPStatus.BAD_REQUEST, "invalid-usage"),
    errors.NameUnknown: (HTTPStatus.NOT_FOUND, "package-not-found"),
    errors.BlobUnknown: (HTTPStatus.NOT_FOUND, "package-not-found"),
    errors.UploadUnknown: (HTTPStatus.NOT_FOUND, "package-not-found"),
    errors.ManifestUnknown: (HTTPStatus.NOT_FOUND, "package-not-found"),
    errors.ManifestBlobUnknown: (HTTPStatus.CONFLICT, "resource-in-use"),
    errors.PackageUnknown: (HTTPStatus.NOT_FOUND, "package-not-found"),
    errors.ReleaseUnknown: (HTTPStatus.NOT_FOUND, "package-release-not-found"),
    errors.ChannelUnknown: (HTTPStatus.NOT_FOUND, "channel-not-found"),
    errors.RouteUnknown: (HTTPStatus.NOT_FOUND, "route-not-found"),
    errors.Unauthorized: (HTTPStatus.UNAUTHORIZED, "unauthorized-access"),
    errors.Denied: (HTTPStatus.FORBIDDEN, "forbidden"),
    errors.ReleaseExists: (HTTPStatus.CONFLICT, "package-exists"),
    errors.TagImmutable: (HTTPStatus.CONFLICT, "package-exists"),
    errors.MethodRefused: (HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed"),
    errors.Unsupported: (HTTPStatus.METHOD_NOT_ALLOWED, "read-only"),
    errors.TooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large"),
    errors.ManifestTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large"),
    errors.TooManyTags: (HTTPStatus.REQUEST_URI_TOO_LONG, "too-large"),
    errors.TooManyRequests: (HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests"),
    errors.StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    errors.StoreFull: (HTTPStatus.INSUFFICIENT_STORAGE, "unavailable"),
    errors.Contended: (HTTPStatus.SERVICE_UNAVAILABLE, "resource-in-use"),
}
UNKNOWN = (HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error")
"""Of an exception that is none of ours: a defect."""

_RETRY_AFTER = "1"


def respond(error: OciapprError) -> web.Response:
    """Return the answer to a request that met *error*."""
    status, code = TABLE[type(error)]
    text = body(code, error.message, detail=error.detail, hint=error.hint)
    return web.Response(status=status, body=text, headers={**JSON, **_headers(error)})


def failed(request_id: str) -> web.Response:
    """Return the answer to a request that met a defect; *request_id* finds it in the log."""
    status, code = UNKNOWN
    text = body(code, f"the server failed; its log tells more of request {request_id}")
    return web.Response(status=status, body=text, headers=JSON)


def body(
    code: str, message: str, *, detail: Mapping[str, object] | None = None, hint: str = ""
) -> bytes:
    """Return the JSON of one error."""
    details = dict(detail or {})
    error: dict[str, object] = {"code": code, "message": message, "details": details}
    if hint:
        error["hint"] = hint
    return encode({"error": error, "message": message, "details": details})


def _headers(error: OciapprError) -> Mapping[str, str]:
    match error:
        case errors.MethodRefused(allowed=allowed):
            return {"Allow": ", ".join(allowed)}
        case errors.TooManyRequests(retry_after=seconds):
            return {"Retry-After": str(seconds)}
        case errors.RangeInvalid(size=int(size)):
            return {"Content-Range": f"bytes */{size}"}
        case errors.StoreFull():
            return {}
        case errors.Unavailable():
            return {"Retry-After": _RETRY_AFTER}
    return {}
