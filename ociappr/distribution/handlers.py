"""One request of the ``/v2`` door, from its line to its answer."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from ociappr.access import Access
from ociappr.calls import Call, Handlers, Identify, Pulled, anybody, unrecorded
from ociappr.distribution.blobs import BlobHandlers
from ociappr.distribution.errors import failed, respond
from ociappr.distribution.lists import ListHandlers
from ociappr.distribution.manifests import ManifestHandlers
from ociappr.distribution.operations import Operation
from ociappr.distribution.protocol import parse
from ociappr.errors import OciapprError
from ociappr.http import STALL, abandoned, report, request_id
from ociappr.registry import Registry

_log = logging.getLogger(__name__)


class DistributionAPI:
    """The Distribution API over a registry: parses, dispatches by one table, maps errors.

    *manifest_limit* and *chunk_minimum* (of all but the last chunk of an upload; 0: none) are in
    bytes, *stall* is how many seconds a client may send nothing within a body.
    """

    def __init__(
        self,
        registry: Registry,
        access: Access,
        *,
        identify: Identify = anybody,
        pulled: Pulled = unrecorded,
        manifest_limit: int = 4 * 1024 * 1024,
        chunk_minimum: int = 0,
        stall: float = STALL,
    ) -> None:
        self._access = access
        self._identify = identify
        blobs = BlobHandlers(registry, pulled=pulled, chunk_minimum=chunk_minimum, stall=stall)
        manifests = ManifestHandlers(registry, pulled=pulled, limit=manifest_limit, stall=stall)
        self.handlers: Handlers = {
            **ListHandlers(registry).handlers,
            **blobs.handlers,
            **manifests.handlers,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer *request*; every failure has its answer in this protocol's form."""
        operation: Operation | None = None
        url = request.rel_url
        try:
            operation = parse(request.method, url.raw_path, url.raw_query_string, request.headers)
            principal = await self._identify(request)
            call = Call(request, principal, self._access)
            response = await self.handlers[type(operation)](operation, call)
        except OciapprError as error:
            report(request, error)
            return respond(error, operation)
        except (ConnectionError, TimeoutError):
            return abandoned(request)
        except Exception:  # noqa: BLE001 - the last resort; it is logged
            _log.exception("request %s failed", request_id(request))
            return failed(request_id(request))
        # let the other requests of this turn be worked out before any is answered: answers that
        # leave in one burst wake their readers less often (a third more manifests a second)
        await asyncio.sleep(0)
        return response
