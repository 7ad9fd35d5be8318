"""What this door shows: the JSON of packages, channels and archives, as old clients read it.

Keys and their types are a contract: Go clients stop at a wrong type, and build paths from
``content.digest``, so that is bare hex.
"""

from __future__ import annotations

import base64
import html
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from ociappr.appr_api.protocol import PREFIXES
from ociappr.names import PackageName
from ociappr.package import content_type, manifest_type
from ociappr.registry.contents import Channel, Listing, Package

API_VERSION = "0.7.4"
"""The version of the original server whose API this is."""

VERSION = {"appr-api": API_VERSION, "cnr-api": API_VERSION}
STATUS_OK = {"status": "ok"}

_PREFIX = "/" + PREFIXES[0]
_CLIENTS = ("appr", "cnr")  # names of the tag that clients look for, the second before 0.5


def encode(document: object) -> bytes:
    """Return *document* as JSON."""
    return msgspec.json.encode(document)


def listing(found: Listing) -> dict[str, object]:
    """Return a package of a list; its formats are those of its highest release."""
    names = [str(published.release) for published in found.releases]
    return {
        "name": str(found.package),
        "default": names[0],
        "releases": names,
        "manifests": [one.format for one in found.releases[0].formats],
        "visibility": "public",
        "created_at": _moment(found.created),
    }


def manifest(package: Package) -> dict[str, object]:
    """Return one format of a release, as the lists of a package have it."""
    record = package.record
    return {
        "package": str(package.package),
        "release": str(package.release),
        "created_at": _moment(record.created),
        "mediaType": manifest_type(record.format),
        "metadata": _metadata(package.metadata),
        "content": {
            "digest": str(record.content_digest),
            "mediaType": content_type(record.format),
            "size": record.size,
            "urls": [],
        },
    }


def package(found: Package) -> dict[str, object]:
    """Return one format of a release, with the channels that lead to it."""
    return {"channels": found.channels, **manifest(found)}


def channel(found: Channel) -> dict[str, object]:
    """Return a channel."""
    releases = [str(release) for release in found.releases]
    return {"name": found.name, "current": found.current, "releases": releases}


def deleted_package(package: PackageName, release: str) -> dict[str, object]:
    """Return what tells that a format of a release was deleted."""
    return {"status": "deleted", "package": str(package), "release": release}


def left_channel(package: PackageName, name: str, release: str) -> dict[str, object]:
    """Return what tells that a release has left a channel."""
    return {**deleted_package(package, release), "name": name}


def deleted_channel(package: PackageName, name: str) -> dict[str, object]:
    """Return what tells that a channel was deleted."""
    return {"action": "delete", "channel": name, "package": str(package)}


def well_known() -> dict[str, object]:
    """Return the discovery document: with the keys of the draft's schema, and of its example."""
    return {"version": "1", "uri_prefix": _PREFIX, "prefix": _PREFIX}


_HOME = """\
<h1>ociappr</h1>
<p>A registry with two doors on one store.</p>
<ul>
<li><a href="/v2/_catalog">/v2/</a>: OCI Distribution, for docker, podman, oras, helm and others
<li><a href="/api/v1/packages">/api/v1/packages</a>: App Registry, for appr; also below /cnr, /appr
<li><a href="/api/v1/packages/search?q=">/api/v1/packages/search?q=</a>
<li>/api/v1/packages/{namespace}/{name}[/{release}[/{media type}[/pull]]]
<li>/api/v1/packages/{namespace}/{name}/channels[/{channel}[/{release}]]
<li>/api/v1/packages/{namespace}/{name}/blobs/sha256/{digest}
<li><a href="/version">/version</a>, <a href="/livez">/livez</a>, <a href="/readyz">/readyz</a>,
<a href="/metrics">/metrics</a>
</ul>
"""


def home(origin: str) -> bytes:
    """Return the page that tells people what there is, and clients where packages are pulled.

    The latter read its tags (``?appr-discovery=1``).
    """
    host = origin.partition("://")[2]
    path = f"{_PREFIX}/api/v1/packages/{{name}}/{{version}}/{{media_type}}/pull"
    content = html.escape(f"{host}/{{name}} {origin}{path}")
    tags = "\n".join(f'<meta name="{one}-package" content="{content}">' for one in _CLIENTS)
    return f"<!DOCTYPE html>\n<title>ociappr</title>\n{tags}\n{_HOME}".encode()


class Envelope:
    """An archive within JSON: its length is known before its bytes are, and it is never held."""

    def __init__(self, fields: dict[str, str], size: int) -> None:
        head = encode(fields)
        self._head = head[:-1] + b',"blob":"'
        self._tail = b'"}'
        self.size = len(self._head) + 4 * -(-size // 3) + len(self._tail)

    async def wrap(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the document around *blocks* in base64; padding is only at the end."""
        yield self._head
        rest = b""
        async for block in blocks:
            data = rest + block
            whole = len(data) - len(data) % 3
            rest = data[whole:]
            yield base64.b64encode(data[:whole])
        yield base64.b64encode(rest) + self._tail


def _metadata(text: str) -> object:
    """Return the ``metadata`` of a package; an OCI client may have written anything there."""
    try:
        return msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _moment(text: str) -> str:
    """Return a moment as the original wrote it: UTC, microseconds, no zone."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
