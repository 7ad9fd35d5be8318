"""What a server does beside answering: retention, collection by one replica, last pulls."""

from __future__ import annotations

import asyncio
import json

from conformance.servers import Servers
from conformance.wire import Server, fetch, get_manifest, push_image, tags
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.config import load
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.names import RepositoryName
from ociappr.registry import Registry, utcnow
from ociappr.registry.pulls import Pulls
from ociappr.schedule.housekeeping import keep_house
from ociappr.telemetry import Metrics
from tests.server.conftest import eventually

RULES = {
    "OCIAPPR_RETENTION": json.dumps([{"delete_untagged_after": "0s", "keep_pulled_within": "1h"}]),
}


async def test_one_of_two_replicas_does_the_work() -> None:
    metadata, store = MemoryMetadata(), MemoryBlobs()
    config = load(environ=RULES).config
    runs = []
    for _ in range(2):
        metrics = Metrics()
        await keep_house(config, await Registry.open(metadata, store), metrics=metrics)
        runs.append(metrics.render().count(b'what="runs"'))
    assert runs == [2, 0]


def test_retention_runs_in_the_server(servers: Servers) -> None:
    rules = {"OCIAPPR_RETENTION": json.dumps([{"keep_newest": 1, "delete_untagged_after": "0s"}])}
    server = servers(env=rules | {"OCIAPPR_COLLECTOR__INTERVAL": "400ms"})
    push_image(server, "a/b", "1", [b"one"])
    push_image(server, "a/b", "2", [b"two"])
    line = b'ociappr_retention_total{what="manifests",worker="0"} 1.0'
    eventually(lambda: line in fetch(server, "GET", "/metrics").body, "an image is deleted")
    assert tags(server, "a/b") == ["2"]


def test_last_pulls_are_written_when_the_server_ends(servers: Servers) -> None:
    server = servers(env=RULES)
    digest = push_image(server, "a/b", "1", [b"one"])
    push_image(server, "a/b", "2", [b"two"])
    get_manifest(server, "a/b", "1")
    get_manifest(server, "a/b", digest)
    assert servers.stop(server) == 0
    assert asyncio.run(pulled(server)) == {"1", digest}


def test_without_a_rule_nobody_records_pulls(servers: Servers) -> None:
    server = servers()
    push_image(server, "a/b", "1", [b"one"])
    get_manifest(server, "a/b", "1")
    assert servers.stop(server) == 0
    assert asyncio.run(pulled(server)) == set()


async def pulled(server: Server) -> set[str]:
    """Return what was pulled from ``a/b``, as the store of a server that was stopped tells."""
    metadata = await SQLiteMetadata.open(server.data / "metadata.db")
    found = set(await Pulls(metadata, now=utcnow).of(RepositoryName("a/b")))
    await metadata.close()
    return found
