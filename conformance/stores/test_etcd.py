"""Metadata in etcd: the contract, and what is etcd's own."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest

from conformance.backends.etcd import Member, connect, etcd
from conformance.stores.conftest import require
from ociappr.errors import StoreUnavailable
from ociappr.metadata import Put
from ociappr.metadata import etcd_wire as wire
from ociappr.metadata.etcd import EtcdMetadata
from tests.contracts.metadata import (
    Another,
    LastingMetadataContract,
    MetadataContract,
    Outage,
    entry,
    keys,
    lands,
    seed,
)

_prefixes = itertools.count()


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """The etcd that all these tests share."""
    require("etcd")
    with etcd(tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"test-{next(_prefixes)}"


@pytest.fixture
def url(member: Member, prefix: str) -> str:
    return f"etcd://{member.host}/{prefix}"


@pytest.fixture
async def another(url: str) -> AsyncIterator[Another]:
    async with AsyncExitStack() as opened:

        async def another() -> EtcdMetadata:
            store = await connect(url)
            opened.push_async_callback(store.close)
            return store

        yield another


@pytest.fixture
async def store(url: str) -> AsyncIterator[EtcdMetadata]:
    store = await connect(url)
    yield store
    await store.close()


class TestEtcd(LastingMetadataContract):
    @pytest.fixture
    def outage(self, member: Member) -> Outage:
        @asynccontextmanager
        async def down() -> AsyncIterator[None]:
            with member.daemon.down():
                yield

        return down


# what makes the contract hold


async def test_a_version_per_key_would_repeat(
    store: EtcdMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Etcd also counts the writes to each key; with that for a version the contract fails."""
    exchange = store._client._exchange

    async def weakened(endpoint: str, path: str, body: bytes, *, token: str) -> bytes:
        body = body.replace(b'"target":"MOD","mod_revision"', b'"target":"VERSION","version"')
        answer = await exchange(endpoint, path, body, token=token)
        return re.sub(rb'"mod_revision":"\d+",("version":("\d+"))', rb'"mod_revision":\2', answer)

    monkeypatch.setattr(store._client, "_exchange", weakened)
    contract = MetadataContract()
    await contract.test_unchanged_holds_until_written(store)
    with pytest.raises(AssertionError):
        await contract.test_a_version_never_repeats(store)


async def test_a_long_read_starts_over_when_its_revision_is_compacted(
    store: EtcdMetadata, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"%03d" % number for number in range(300)]
    compactions = await compact_while_reading(store, member, names, monkeypatch, times=2)
    found = await store.get(names)
    assert len(compactions) == 2
    assert {one.value for one in found.values()} == {b"2"}
    assert sorted(found) == names


async def test_a_long_read_gives_up_when_compaction_never_ends(
    store: EtcdMetadata, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"%03d" % number for number in range(300)]
    await compact_while_reading(store, member, names, monkeypatch, times=100)
    with pytest.raises(StoreUnavailable, match="compacted"):
        await store.get(names)
    await entry(store, names[0])


async def compact_while_reading(
    store: EtcdMetadata,
    member: Member,
    names: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    *,
    times: int,
) -> list[int]:
    """Write all of *names* anew and compact after the first batch of so many long reads."""
    await store.commit([], [Put(name, b"0") for name in names])
    compactions: list[int] = []
    read = store._client.read

    async def disturbed(path: str, message: wire.Range | wire.Txn) -> wire.Reply:
        reply = await read(path, message)
        is_first = isinstance(message, wire.Txn) and not any(
            one.request_range.revision for one in message.success if one.request_range
        )
        if is_first and len(compactions) < times:
            value = b"%d" % (len(compactions) + 1)
            await store.commit([], [Put(name, value) for name in names])
            compactions.append(reply.header.revision + 1)
            await asyncio.to_thread(member.call, "kv/compaction", {"revision": compactions[-1]})
        return reply

    monkeypatch.setattr(store._client, "read", disturbed)
    return compactions


# prefixes and schemas


async def test_prefixes_are_apart(member: Member, store: EtcdMetadata, prefix: str) -> None:
    others = [await connect(f"etcd://{member.host}/{prefix}{end}") for end in ("0", "/b", "%20")]
    await seed(store, b"a")
    for other in others:
        assert await keys(other) == []
        await seed(other, b"b")
        await other.close()
    assert await keys(store) == [b"a"]


async def test_those_who_come_first_agree(another: Another) -> None:
    stores = await asyncio.gather(*(another() for _ in range(6)))
    await asyncio.gather(*(seed(store, b"%d" % number) for number, store in enumerate(stores)))
    assert await keys(stores[0]) == [b"%d" % number for number in range(6)]


def content(member: Member, prefix: str) -> Mapping[str, str]:
    """Return what etcd holds below *prefix*, in base64."""
    bounds = {"key": f"{prefix}/".encode(), "range_end": f"{prefix}0".encode()}
    reply = msgspec.json.decode(member.call("kv/range", bounds))
    return {kv["key"]: kv["value"] for kv in reply["kvs"]}


@pytest.mark.parametrize("schema", [b"2", b"?"])
async def test_a_newer_schema_is_refused(
    member: Member, store: EtcdMetadata, url: str, prefix: str, schema: bytes
) -> None:
    await seed(store, b"a")
    member.call("kv/put", {"key": f"{prefix}/schema".encode(), "value": schema})
    before = content(member, prefix)
    knows = rf"schema {re.escape(schema.decode())}, this release knows 1"
    with pytest.raises(StoreUnavailable, match=knows) as refusal:
        await connect(url)
    assert refusal.value.hint
    assert content(member, prefix) == before


async def test_opening_again_writes_nothing(
    member: Member, store: EtcdMetadata, another: Another
) -> None:
    await seed(store, b"a")
    asked = {"key": b"a"}
    before = msgspec.json.decode(member.call("kv/range", asked))["header"]["revision"]
    await another()
    assert msgspec.json.decode(member.call("kv/range", asked))["header"]["revision"] == before


# outages of the shared one


async def test_acknowledged_commits_survive_a_kill(store: EtcdMetadata, member: Member) -> None:
    acknowledged: list[bytes] = []
    unknown: list[bytes] = []
    enough = asyncio.Event()
    restarted = asyncio.Event()

    async def write(number: int) -> None:
        for turn in itertools.count():
            name = b"%02d/%05d" % (number, turn)
            try:
                await store.commit([], [Put(b"a" + name, b""), Put(b"b" + name, b"")])
            except StoreUnavailable:
                unknown.append(name)
                await restarted.wait()
                return
            acknowledged.append(name)
            if len(acknowledged) > 200:
                enough.set()
            if restarted.is_set():
                return

    async with asyncio.TaskGroup() as tasks:
        for number in range(24):
            tasks.create_task(write(number))
        await enough.wait()
        await asyncio.to_thread(member.daemon.restart)
        restarted.set()
    assert unknown
    found = await keys(store, b"a", b"c")
    names = [key[1:] for key in found if key[:1] == b"a"]
    assert names == [key[1:] for key in found if key[:1] == b"b"]
    assert set(acknowledged) <= set(names) <= {*acknowledged, *unknown}


async def test_a_frozen_etcd_is_told_in_time(url: str, member: Member) -> None:
    store = await connect(url, seconds=0.5)
    await seed(store, b"a")
    with member.daemon.frozen():
        outcome = await asyncio.gather(
            store.get([b"a"]),
            store.scan(b"a", b"b", limit=5),
            *(store.commit([], [Put(b"b", b"")]) for _ in range(30)),
            return_exceptions=True,
        )
    assert {type(error) for error in outcome} == {StoreUnavailable}
    assert {str(error) for error in outcome} == {"etcd: no answer in time"}
    assert (await entry(store, b"a")).value == b"value of a"
    assert await lands(store, [], [Put(b"c", b"")])
    await store.close()


async def test_a_closed_store_is_unavailable(store: EtcdMetadata) -> None:
    await store.close()
    for attempt in (
        store.get([b"a"]),
        store.scan(b"a", b"b", limit=1),
        store.commit([], [Put(b"a", b"")]),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt
