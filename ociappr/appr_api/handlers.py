"""One request of the appr door, from its line to its answer."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiohttp import web

from ociappr.access import Access, Action
from ociappr.appr_api import protocol, views
from ociappr.appr_api.answers import CORS, JSON, document, preflight
from ociappr.appr_api.errors import failed, respond
from ociappr.appr_api.parameters import Parameters, PushRequest, merge, read_login, read_push, text
from ociappr.calls import Call, Handlers, Identify, Pulled, anybody, unrecorded
from ociappr.errors import OciapprError
from ociappr.http import STALL, abandoned, read, report, request_id, send_blob, send_stream
from ociappr.names import PackageName
from ociappr.registry import Registry
from ociappr.registry.blobs import Blob
from ociappr.registry.contents import archive_name

_log = logging.getLogger(__name__)

_ARCHIVE = "application/x-gzip"
_SMALL_BODY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a body, bytes that an archive may unpack to, and how many are read at a time."""

    body: int = 64 * 1024 * 1024
    unpacked: int = 1024 * 1024 * 1024
    decodes: int = 4
    stall: float = STALL


class ApprAPI:
    """The App Registry API over a registry: parses, dispatches by one table, maps errors."""

    def __init__(
        self,
        registry: Registry,
        access: Access,
        *,
        identify: Identify = anybody,
        pulled: Pulled = unrecorded,
        limits: Limits | None = None,
    ) -> None:
        self._registry = registry
        self._access = access
        self._identify = identify
        self._pulled = pulled
        self._limits = limits or Limits()
        # threads of its own: they are the bound, even when a request is cancelled in the middle
        self._decoders = ThreadPoolExecutor(self._limits.decodes, "appr-decode")
        self.handlers: Handlers = {
            protocol.Home: self._home,
            protocol.WellKnown: self._well_known,
            protocol.ShowVersion: self._version,
            protocol.Login: self._login,
            protocol.ListPackages: self._list,
            protocol.SearchPackages: self._search,
            protocol.ShowReleases: self._releases,
            protocol.Push: self._push,
            protocol.ShowRelease: self._release,
            protocol.ShowPackage: self._package,
            protocol.DeletePackage: self._delete,
            protocol.Pull: self._pull,
            protocol.GetBlob: self._blob,
            protocol.ListChannels: self._channels,
            protocol.ShowChannel: self._channel,
            protocol.SetChannel: self._set_channel,
            protocol.LeaveChannel: self._leave_channel,
            protocol.DeleteChannel: self._delete_channel,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer *request*; every failure has its answer in this protocol's form."""
        if request.method == "OPTIONS":
            return preflight(request)
        url = request.rel_url
        try:
            operation = protocol.parse(request.method, url.raw_path, url.raw_query_string)
            call = Call(request, await self._identify(request), self._access)
            return await self.handlers[type(operation)](operation, call)
        except OciapprError as error:
            report(request, error)
            return respond(error)
        except (ConnectionError, TimeoutError):
            return abandoned(request)
        except Exception:  # noqa: BLE001 - the last resort; it is logged
            _log.exception("request %s failed", request_id(request))
            return failed(request_id(request))

    # -- about the server ------------------------------------------------------------------------

    async def _home(self, _: protocol.Home, call: Call) -> web.Response:
        origin = f"{call.request.scheme}://{call.request.host}"
        headers = {"Content-Type": "text/html; charset=utf-8", **CORS}
        return web.Response(body=views.home(origin), headers=headers)

    async def _well_known(self, _: protocol.WellKnown, __: Call) -> web.Response:
        return document(views.well_known())

    async def _version(self, _: protocol.ShowVersion, __: Call) -> web.Response:
        return document(views.VERSION)

    async def _login(self, _: protocol.Login, call: Call) -> web.Response:
        """Answer a token: the client sends it as it is, and asks for no more than its form.

        Without accounts there is nothing to prove: the token holds the name, never the password,
        and opens nothing where accounts exist.
        """
        name = read_login(await self._read(call, _SMALL_BODY))
        token = base64.b64encode(f"{name}:".encode()).decode()
        return document({"token": f"basic {token}"})

    # -- packages --------------------------------------------------------------------------------

    async def _list(self, _: protocol.ListPackages, call: Call) -> web.Response:
        parameters = await self._parameters(call)
        found = await self._registry.packages.list(
            namespace=text(parameters, "namespace"),
            text=text(parameters, "query") or "",
            format_=text(parameters, "media_type"),
            readable=call.may_pull,
        )
        return document([views.listing(one) for one in found])

    async def _search(self, _: protocol.SearchPackages, call: Call) -> web.Response:
        parameters = await self._parameters(call)
        wanted = text(parameters, "q") or ""
        found = await self._registry.packages.list(text=wanted, readable=call.may_pull)
        return document([str(one.package) for one in found])

    async def _releases(self, operation: protocol.ShowReleases, call: Call) -> web.Response:
        call.require(operation.package.repository, Action.PULL)
        wanted = text(await self._parameters(call), "media_type")
        found = await self._registry.packages.releases(operation.package, wanted)
        return document([views.manifest(one) for one in found])

    async def _release(self, operation: protocol.ShowRelease, call: Call) -> web.Response:
        call.require(operation.package.repository, Action.PULL)
        found = await self._registry.packages.release(operation.package, operation.release)
        return document([views.manifest(one) for one in found])

    async def _package(self, operation: protocol.ShowPackage, call: Call) -> web.Response:
        call.require(operation.package.repository, Action.PULL)
        found = await self._registry.packages.show(
            operation.package, operation.query, operation.format
        )
        return document(views.package(found))

    async def _push(self, operation: protocol.Push, call: Call) -> web.Response:
        call.require(operation.package.repository, Action.PULL, Action.PUSH)
        push = await self._understand(call)
        await self._registry.publishing.push(
            operation.package,
            push.release,
            push.submission,
            metadata=push.metadata,
            force=push.force,
        )
        return document(views.STATUS_OK)

    async def _understand(self, call: Call) -> PushRequest:
        """Read a push; its body, a third larger than the archive, is let go on return."""
        content = await self._read(call, self._limits.body)
        query, content_type = call.request.rel_url.raw_query_string, call.content_type

        def understand() -> PushRequest:
            return read_push(merge(query, content, content_type), limit=self._limits.unpacked)

        return await asyncio.get_running_loop().run_in_executor(self._decoders, understand)

    async def _delete(self, operation: protocol.DeletePackage, call: Call) -> web.Response:
        package, release = operation.package, operation.release
        call.require(package.repository, Action.PULL, Action.PUSH)
        await self._registry.publishing.delete(package, release, operation.format)
        return document(views.deleted_package(package, release))

    # -- archives --------------------------------------------------------------------------------

    async def _pull(self, operation: protocol.Pull, call: Call) -> web.StreamResponse:
        package = operation.package
        call.require(package.repository, Action.PULL)
        found = await self._registry.packages.find(package, operation.query, operation.format)
        blob = await self._registry.packages.archive(found)
        self._pulled(package.repository, found.release.tag)
        version = str(found.release)
        fields = {"media_type": found.record.format} if operation.as_json else None
        return await self._send(call, blob, package, version=version, shown=version, fields=fields)

    async def _blob(self, operation: protocol.GetBlob, call: Call) -> web.StreamResponse:
        package, digest = operation.package, operation.digest
        call.require(package.repository, Action.PULL)
        blob = await self._registry.packages.archive_by_digest(package, digest)
        self._pulled(package.repository, blob.digest)
        fields: dict[str, str] | None = {} if operation.as_json else None
        return await self._send(
            call, blob, package, version=digest, shown=digest[:8], fields=fields
        )

    async def _send(
        self,
        call: Call,
        blob: Blob,
        package: PackageName,
        *,
        version: str,
        shown: str,
        fields: Mapping[str, str] | None,
    ) -> web.StreamResponse:
        """Answer an archive as it was pushed, or with *fields* within JSON."""
        request, name = call.request, archive_name(package, shown)
        if fields is None:
            headers = {
                "Content-Type": _ARCHIVE,
                "Content-Disposition": name,
                "ETag": f'"{blob.digest}"',
                **CORS,
            }
            return await send_blob(request, self._registry.blobs, blob, headers=headers)
        told = {"package": str(package), "release": version, "filename": name, **fields}
        envelope = views.Envelope(told, blob.size)
        if request.method == "HEAD":
            return web.Response(headers={**JSON, "Content-Length": str(envelope.size)})
        async with self._registry.blobs.read(blob) as blocks:
            return await send_stream(
                request, envelope.wrap(blocks), size=envelope.size, headers=JSON
            )

    # -- channels --------------------------------------------------------------------------------

    async def _channels(self, operation: protocol.ListChannels, call: Call) -> web.Response:
        call.require(operation.package.repository, Action.PULL)
        found = await self._registry.packages.channels(operation.package)
        return document([views.channel(one) for one in found])

    async def _channel(self, operation: protocol.ShowChannel, call: Call) -> web.Response:
        call.require(operation.package.repository, Action.PULL)
        found = await self._registry.packages.channel(operation.package, operation.channel)
        return document(views.channel(found))

    async def _set_channel(self, operation: protocol.SetChannel, call: Call) -> web.Response:
        package = operation.package
        call.require(package.repository, Action.PULL, Action.PUSH)
        found = await self._registry.channels.set(package, operation.channel, operation.release)
        return document(views.channel(found))

    async def _leave_channel(self, operation: protocol.LeaveChannel, call: Call) -> web.Response:
        package, name, release = operation.package, operation.channel, operation.release
        call.require(package.repository, Action.PULL, Action.PUSH)
        await self._registry.channels.remove_release(package, name, release)
        return document(views.left_channel(package, name, release))

    async def _delete_channel(self, operation: protocol.DeleteChannel, call: Call) -> web.Response:
        package, name = operation.package, operation.channel
        call.require(package.repository, Action.PULL, Action.PUSH)
        await self._registry.channels.delete(package, name)
        return document(views.deleted_channel(package, name))

    # -- what they share -------------------------------------------------------------------------

    async def _parameters(self, call: Call) -> Parameters:
        content = await self._read(call, _SMALL_BODY)
        return merge(call.request.rel_url.raw_query_string, content, call.content_type)

    async def _read(self, call: Call, limit: int) -> bytes:
        return await read(call.request, limit=limit, stall=self._limits.stall)
