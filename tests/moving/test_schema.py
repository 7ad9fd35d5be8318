"""Data of other releases: older ones open and serve, newer ones are refused.

`schema-0.tar.xz` is a data directory that a server of commit 9b3f586 wrote, before metadata carried
their schema, and what it answered: images, an index, a referrer, a blob that came in chunks and was
not promoted yet, packages, a channel.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from conformance.servers import Servers
from conformance.wire import MANIFESTS, Server, fetch
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.errors import StoreUnavailable
from ociappr.metadata import Put
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.registry.records import SchemaRecord, decode, encode
from ociappr.registry.schema import SCHEMA, SCHEMA_KEY
from tests.core.world import A, World, content, push_blob

ARCHIVE = Path(__file__).parent / "schema-0.tar.xz"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A directory with what the old server left, and its answers."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "older", filter="data")
    return tmp_path / "older"


def answers(server: Server, paths: list[str]) -> list[dict[str, object]]:
    """Return what both doors answer, as the old server's answers were written down."""
    found = []
    for path in paths:
        reply = fetch(server, "GET", path, headers={"Accept": f"{MANIFESTS}, */*"})
        digest = hashlib.sha256(reply.body).hexdigest()
        found.append({"path": path, "type": reply.headers["Content-Type"], "sha256": digest})
    return found


async def test_data_without_a_schema_open_and_serve(older: Path, tmp_path: Path) -> None:
    recorded = json.loads((older / "answers.json").read_text())
    servers = Servers(tmp_path)
    try:
        for _ in range(2):  # as it was, and with the record that the first opening wrote
            server = servers(data=older)
            assert answers(server, [one["path"] for one in recorded]) == recorded
            servers.stop(server)
    finally:
        servers.stop_all()
    metadata = await SQLiteMetadata.open(older / "metadata.db")
    entry = (await metadata.get([SCHEMA_KEY]))[SCHEMA_KEY]
    await metadata.close()
    assert decode(SchemaRecord, entry.value).version == SCHEMA


async def test_a_registry_keeps_its_name(world: World) -> None:
    await world.registry()
    first = await world.value(SCHEMA_KEY)
    await world.registry()
    assert first == await world.value(SCHEMA_KEY)
    assert first is not None


async def test_a_newer_schema_is_refused(world: World) -> None:
    await world.registry()
    newer = encode(SchemaRecord(SCHEMA + 1, "registry"))
    await world.metadata.commit([], [Put(SCHEMA_KEY, newer)])
    message = f"have schema {SCHEMA + 1}, this release knows {SCHEMA}"
    with pytest.raises(StoreUnavailable, match=message) as raised:
        await world.registry()
    assert raised.value.hint == "run the release that wrote them, or a newer one"


async def test_metadata_that_were_lost_are_noticed() -> None:
    """Else an empty registry would begin, whose sweeper takes the blobs of the one before."""
    store = MemoryBlobs()
    registry = await World(MemoryMetadata(), store).registry()
    await push_blob(registry, content(20_000), A)
    with pytest.raises(StoreUnavailable, match="there are blobs, but the metadata are empty") as no:
        await World(MemoryMetadata(), store).registry()
    assert "ociappr restore" in no.value.hint
