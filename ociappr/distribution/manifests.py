"""The handlers of manifests (distribution-spec, Pulling and Pushing Manifests, Deleting)."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from aiohttp import web

from ociappr.access import Action
from ociappr.calls import Call, Handlers, Pulled
from ociappr.digest import Digest
from ociappr.distribution.answers import API_VERSION, empty
from ociappr.distribution.construct import manifest_path
from ociappr.distribution.operations import DeleteManifest, GetManifest, HeadManifest, PutManifest
from ociappr.errors import ManifestTooLarge
from ociappr.http import IMMUTABLE, is_known, read
from ociappr.media import accepts_index
from ociappr.names import Reference, Tag
from ociappr.registry import Registry
from ociappr.registry.manifests import ManifestStat

_BY_TAG = dict(API_VERSION)
_BY_DIGEST = {"Cache-Control": IMMUTABLE, **API_VERSION}


class ManifestHandlers:
    """Answers every `ManifestOperation`."""

    def __init__(self, registry: Registry, *, pulled: Pulled, limit: int, stall: float) -> None:
        self._manifests = registry.manifests
        self._tags = registry.tags
        self._pulled = pulled
        self._limit = limit
        self._stall = stall

    @property
    def handlers(self) -> Handlers:
        """The table of operations."""
        return {
            GetManifest: self._get,
            HeadManifest: self._get,
            PutManifest: self._put,
            DeleteManifest: self._delete,
        }

    async def _get(self, operation: GetManifest | HeadManifest, call: Call) -> web.StreamResponse:
        reference, request = operation.reference, call.request
        call.require(reference.repository, Action.PULL)
        stat = await self._manifests.stat(reference, single=_wants_single(reference, request))
        self._pulled(reference.repository, reference.target)
        headers = _headers(reference, stat)
        known = request.headers.get("If-None-Match")
        if known is not None and is_known(known, headers["ETag"]):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        if type(operation) is HeadManifest:
            headers["Content-Length"] = str(stat.size)
            return web.Response(headers=headers)
        return web.Response(body=await self._manifests.raw(stat.digest), headers=headers)

    async def _put(self, operation: PutManifest, call: Call) -> web.StreamResponse:
        reference = operation.reference
        call.require(reference.repository, Action.PULL, Action.PUSH)
        raw = await read(call.request, limit=self._limit, error=ManifestTooLarge, stall=self._stall)
        accepted = await self._manifests.put(
            reference, operation.media_type, raw, tags=operation.tags
        )
        headers = {
            "Location": manifest_path(reference.repository, accepted.digest),
            "Docker-Content-Digest": str(accepted.digest),
        }
        if accepted.subject is not None:
            headers["OCI-Subject"] = str(accepted.subject)
        if operation.tags:
            headers["OCI-Tag"] = ", ".join(tag.text for tag in accepted.tags)
        return empty(HTTPStatus.CREATED, headers)

    async def _delete(self, operation: DeleteManifest, call: Call) -> web.StreamResponse:
        repository, target = operation.reference.repository, operation.reference.target
        call.require(repository, Action.DELETE)
        if isinstance(target, Tag):
            await self._tags.delete(repository, target)
        else:
            await self._manifests.delete(repository, target)
        return empty(HTTPStatus.ACCEPTED, {})


def _headers(reference: Reference, stat: ManifestStat) -> dict[str, str]:
    text = str(stat.digest)
    constant = _BY_DIGEST if type(reference.target) is Digest else _BY_TAG
    return {
        "Content-Type": stat.media_type,
        "Docker-Content-Digest": text,
        "ETag": f'"{text}"',
        **constant,
    }


def _wants_single(reference: Reference, request: web.BaseRequest) -> bool:
    """Tell whether the client can do nothing with the index of a release; asked by tag only."""
    if type(reference.target) is Digest:
        return False
    headers = request.headers
    accept = tuple(headers.getall("Accept", ()))
    return not _accepts_index(accept, headers.get("User-Agent", ""))


_accepts_index = lru_cache(maxsize=256)(accepts_index)
