"""The handlers of lists: catalog, tags, referrers (distribution-spec, Content Discovery)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
from aiohttp import web

from ociappr.access import Action
from ociappr.calls import Call, Handlers
from ociappr.distribution.answers import document
from ociappr.distribution.construct import construct
from ociappr.distribution.operations import ListReferrers, ListRepositories, ListTags, Ping
from ociappr.distribution.protocol import PAGE_LIMIT
from ociappr.media import OCI_INDEX
from ociappr.names import RepositoryName
from ociappr.registry import Registry

_REFERRERS_BYTES = 4 * 1024 * 1024
"""A page of referrers ends here: some clients read one page only, and bound what they read."""

_BATCH = 200
_INDEX_HEAD = b'{"schemaVersion":2,"mediaType":"' + OCI_INDEX.encode() + b'","manifests":['


class ListHandlers:
    """Answers every `ListOperation`."""

    def __init__(self, registry: Registry) -> None:
        self._tags = registry.tags
        self._referrers = registry.referrers

    @property
    def handlers(self) -> Handlers:
        """The table of operations."""
        return {
            Ping: self._ping,
            ListRepositories: self._list_repositories,
            ListTags: self._list_tags,
            ListReferrers: self._list_referrers,
        }

    async def _ping(self, _: Ping, call: Call) -> web.StreamResponse:
        call.require(None)
        return document(b"{}", {})

    async def _list_repositories(
        self, operation: ListRepositories, call: Call
    ) -> web.StreamResponse:
        call.require(None, Action.CATALOG)
        limit = _limit(operation)
        page = await self._tags.repositories(after=operation.last, limit=limit)
        shown = [name for name in page.items if call.may_pull(RepositoryName(name))]
        headers = _link(operation, page.items[-1] if page.more and page.items else "")
        return document(msgspec.json.encode({"repositories": shown}), headers)

    async def _list_tags(self, operation: ListTags, call: Call) -> web.StreamResponse:
        repository, limit = operation.repository, _limit(operation)
        call.require(repository, Action.PULL)
        page = await self._tags.list(repository, after=operation.last, limit=limit)
        headers = _link(operation, page.items[-1] if page.more and page.items else "")
        body = msgspec.json.encode({"name": repository.text, "tags": page.items})
        return document(body, headers)

    async def _list_referrers(self, operation: ListReferrers, call: Call) -> web.StreamResponse:
        call.require(operation.repository, Action.PULL)
        entries, last = await self._referrers_page(operation)
        headers = dict(_link(operation, last))
        if operation.artifact_types:
            headers["OCI-Filters-Applied"] = "artifactType"
        return document(_INDEX_HEAD + b",".join(entries) + b"]}", headers, OCI_INDEX)

    async def _referrers_page(self, operation: ListReferrers) -> tuple[list[bytes], str]:
        """Return the entries of a page, and the last one's digest if more follow."""
        entries: list[bytes] = []
        limit, room, last = _limit(operation), _REFERRERS_BYTES, operation.last
        while len(entries) < limit:
            page = await self._referrers.list(
                operation.repository,
                operation.subject,
                artifact_types=operation.artifact_types,
                after=last,
                limit=min(limit - len(entries), _BATCH),
            )
            for descriptor in page.items:
                entry = msgspec.json.encode(descriptor.document())
                room -= len(entry) + 1
                if entries and room < 0:
                    return entries, last
                entries.append(entry)
                last = str(descriptor.digest)
            if not page.more:
                return entries, ""
        return entries, last if entries else ""


def _limit(operation: ListRepositories | ListTags | ListReferrers) -> int:
    return PAGE_LIMIT if operation.count is None else min(operation.count, PAGE_LIMIT)


def _link(operation: ListRepositories | ListTags | ListReferrers, last: str) -> Mapping[str, str]:
    """Return the link to the next page, which begins behind *last*; none if that is empty."""
    if not last:
        return {}
    following = replace(operation, count=_limit(operation), last=last)
    return {"Link": f'<{construct(following).target}>; rel="next"'}
