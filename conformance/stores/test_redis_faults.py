"""What breaks between us and Redis: only clear errors, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.backends import redis as backend
from conformance.backends.daemon import running
from conformance.servers import free_port
from conformance.stores.conftest import require
from ociappr.errors import StoreFull, StoreUnavailable
from ociappr.metadata import Conflict, Delete, MetadataStore, Put, Transaction, Unchanged, transact
from tests.contracts.metadata import entry, keys, lands, seed

WRITERS = 16


@pytest.fixture
def server(tmp_path: Path) -> Iterator[backend.Server]:
    """A server for one test, which may do to it what it likes."""
    require("redis-server")
    started = backend.server(tmp_path / "redis")
    with running(started.daemon):
        yield started


@pytest.fixture
async def store(server: backend.Server) -> AsyncIterator[MetadataStore]:
    async with backend.opened(server.url("faults")) as store:
        yield store


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a foreign process makes it true
        await asyncio.sleep(0)


# -- restarts ------------------------------------------------------------------------------------


async def write_until_it_ends(store: MetadataStore, writer: str, told: list[bytes]) -> None:
    """Commit pairs of keys; note those that were acknowledged."""
    for number in itertools.count():
        key = f"{writer}/{number:06}".encode()
        pair = [Put(b"a" + key, b""), Put(b"b" + key, b"")]
        try:
            await store.commit([Unchanged(b"a" + key, None)], pair)
        except StoreUnavailable:
            return
        told.append(key)


async def killed_while_writing(server: backend.Server, store: MetadataStore) -> list[bytes]:
    """Kill and restart the server among many commits; return those that were acknowledged."""
    told: list[bytes] = []
    for turn in range(3):
        goal = len(told) + 200
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(write_until_it_ends(store, f"{turn}/{writer}", told))
            while len(told) < goal:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            server.daemon.kill()
        server.daemon.start()
    return told


async def test_a_killed_server_has_all_that_it_acknowledged(
    server: backend.Server, store: MetadataStore
) -> None:
    told = await killed_while_writing(server, store)
    found = await keys(store, limit=1_000_000)
    assert {b"a" + key for key in told} <= set(found)
    assert [key[1:] for key in found if key[:1] == b"a"] == [
        key[1:] for key in found if key[:1] == b"b"
    ]


async def test_without_its_file_a_killed_server_has_lost_it(
    server: backend.Server, store: MetadataStore
) -> None:
    """The test above can fail."""
    server.daemon.argv = [*server.daemon.argv, "--appendonly", "no"]
    server.daemon.restart()
    assert await killed_while_writing(server, store)
    assert await keys(store) == []


async def test_a_restart_between_two_questions_is_not_seen(
    server: backend.Server, store: MetadataStore
) -> None:
    await asyncio.gather(*(seed(store, b"%d" % number) for number in range(20)))
    server.daemon.restart()
    await asyncio.gather(*(seed(store, b"%d" % number) for number in range(20, 40)))
    assert len(await keys(store)) == 40


async def test_scripts_that_were_flushed_are_sent_again(
    server: backend.Server, store: MetadataStore
) -> None:
    await seed(store, b"a")
    server.ask("SCRIPT", "FLUSH", "SYNC")
    await seed(store, b"b")
    server.ask("SCRIPT", "FLUSH", "SYNC")
    assert sorted(await store.get([b"a", b"b"])) == [b"a", b"b"]
    server.ask("SCRIPT", "FLUSH", "SYNC")
    assert await keys(store) == [b"a", b"b"]


# -- connections ---------------------------------------------------------------------------------


async def test_a_connection_cut_before_the_commit_ran(
    server: backend.Server, store: MetadataStore
) -> None:
    await seed(store, b"a")
    server.ask("CLIENT", "PAUSE", "60000", "WRITE")
    task = asyncio.create_task(seed(store, b"b"))
    await until(lambda: any("flags=b" in line for line in server.clients()))
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(StoreUnavailable, match=r"^metadata: Redis cannot be reached$"):
        await task
    server.ask("CLIENT", "UNPAUSE")
    assert await keys(store) == [b"a"]


@dataclass(slots=True)
class Relay:
    """What stands between a store and its server, and can lose an answer."""

    server: backend.Server
    loses: bool = False
    asked: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Give the URL under which the server is reached through it."""
        ends: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            ends.add(task)
            await self._serve(reader, writer)

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            yield f"redis://127.0.0.1:{port}?name=faults"
        await asyncio.gather(*ends)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source, sink = await asyncio.open_connection("127.0.0.1", self.server.port)
        questions = asyncio.create_task(self._carry(reader, sink))
        while (answer := await source.read(65_536)) and not self.loses:
            writer.write(answer)
        writer.close()
        await questions
        await asyncio.gather(writer.wait_closed(), sink.wait_closed(), return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while question := await reader.read(65_536):
            self.asked += question.count(b"EVALSHA")
            sink.write(question)
        sink.close()


@pytest.fixture
async def relay(server: backend.Server) -> Relay:
    return Relay(server)


@pytest.fixture
async def far(relay: Relay) -> AsyncIterator[MetadataStore]:
    """A store that reaches the same registry through the relay."""
    async with relay.running() as url, backend.opened(url) as store:
        await store.get([b"a"])
        yield store


async def test_a_lost_answer_is_told_and_the_commit_ran_once(
    relay: Relay, far: MetadataStore, store: MetadataStore
) -> None:
    await seed(store, b"a")
    relay.asked, relay.loses = 0, True
    with pytest.raises(StoreUnavailable):
        await far.commit([], [Put(b"a", b"landed")])
    assert relay.asked == 1
    assert (await entry(store, b"a")).value == b"landed"
    relay.loses = False
    assert await far.get([b"a"]) == await store.get([b"a"])


async def test_a_commit_of_unknown_outcome_may_be_made_again(
    relay: Relay, far: MetadataStore, store: MetadataStore
) -> None:
    """Its own checks keep it from being made twice, and its body knows its finished work."""

    async def create(txn: Transaction) -> None:
        if (found := await txn.get(b"a")) != b"mine":
            assert found is None
            txn.put(b"a", b"mine")

    await seed(store, b"b")
    first = [Unchanged(b"a", None)]
    relay.loses = True
    with pytest.raises(StoreUnavailable):
        await far.commit(first, [Put(b"a", b"mine")])
    relay.loses = False
    landed = await entry(store, b"a")
    with pytest.raises(Conflict):
        await far.commit(first, [Put(b"a", b"mine")])
    await transact(far, create)
    assert await entry(store, b"a") == landed


async def test_a_server_that_stands_still_is_given_up_in_time(server: backend.Server) -> None:
    async with backend.opened(server.url("still"), connections=4, seconds=0.3) as store:
        await seed(store, b"a")
        with server.daemon.frozen():
            loop = asyncio.get_running_loop()
            began = loop.time()
            outcome = await asyncio.gather(
                *(seed(store, b"b%d" % number, b"c%d" % number) for number in range(20)),
                *(store.get([b"a"]) for _ in range(20)),
                return_exceptions=True,
            )
            assert loop.time() - began < 2
        assert {type(error) for error in outcome} == {StoreUnavailable}
        assert "did not answer within 0.3 s" in str(outcome[0])
        await seed(store, b"d")
        found = await keys(store)
        assert [key[1:] for key in found if key[:1] == b"b"] == [
            key[1:] for key in found if key[:1] == b"c"
        ]


async def test_connections_are_no_more_than_allowed(server: backend.Server) -> None:
    async with backend.opened(server.url("few"), connections=3) as store:
        assert len(server.clients()) == 1
        await asyncio.gather(*(seed(store, b"%d" % number) for number in range(60)))
        assert len(server.clients()) == 3
        assert len(await keys(store)) == 60
    await until(lambda: server.clients() == [])


async def test_a_cancelled_commit_runs_to_its_end(
    server: backend.Server, store: MetadataStore
) -> None:
    await seed(store, b"a")
    server.ask("CLIENT", "PAUSE", "60000", "WRITE")
    task = asyncio.create_task(seed(store, b"b"))
    await until(lambda: any("flags=b" in line for line in server.clients()))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    server.ask("CLIENT", "UNPAUSE")
    await store.close()
    async with backend.opened(server.url("faults")) as again:
        assert await keys(again) == [b"a", b"b"]


async def test_a_closed_store_is_unavailable(store: MetadataStore) -> None:
    await store.close()
    for attempt in (store.get([b"a"]), keys(store), seed(store, b"a")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt


# -- a server that is not itself -----------------------------------------------------------------


async def test_a_server_of_which_memory_is_full_takes_only_what_frees(
    server: backend.Server, store: MetadataStore
) -> None:
    await seed(store, b"a", b"b")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    before = await store.scan(b"a", b"z", limit=9)
    with pytest.raises(StoreFull, match="no room for metadata") as refusal:
        await store.commit([], [Put(b"a", b"2"), Put(b"c", b"")])
    assert refusal.value.hint
    assert await store.scan(b"a", b"z", limit=9) == before
    await store.commit([], [Put(b"x", b""), Delete(b"a")])
    await store.commit([], [Delete(b"b")])
    assert await keys(store) == [b"x"]
    server.ask("CONFIG", "SET", "maxmemory", "0")
    await seed(store, b"c")


async def test_a_server_that_became_a_replica_is_left(
    server: backend.Server, store: MetadataStore
) -> None:
    await asyncio.gather(*(seed(store, b"%d" % number) for number in range(20)))
    server.ask("REPLICAOF", "127.0.0.1", str(free_port()))
    with pytest.raises(StoreUnavailable, match="replica"):
        await seed(store, b"a")
    reads = await asyncio.gather(*(store.get([b"1"]) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in reads} == {StoreUnavailable}
    server.ask("REPLICAOF", "NO", "ONE")
    await seed(store, b"a")
    assert len(await keys(store)) == 21


async def test_a_busy_server_is_told(server: backend.Server, store: MetadataStore) -> None:
    await seed(store, b"a")
    server.ask("CONFIG", "SET", "busy-reply-threshold", "1")
    rival = asyncio.create_task(
        asyncio.to_thread(lambda: server.ask("EVAL", "while true do end", "0"))
    )
    assert "busy" in await first_refusal(store)
    with pytest.raises(StoreUnavailable):
        await seed(store, b"b")
    server.ask("SCRIPT", "KILL")
    await asyncio.wait([rival])
    assert "killed" in str(rival.exception())
    assert await keys(store) == [b"a"]


async def test_a_server_that_loads_its_data_is_told(tmp_path: Path) -> None:
    require("redis-server")
    server = backend.server(tmp_path / "loading", enable_debug_command="yes")
    with running(server.daemon):
        async with backend.opened(server.url("a")) as store:
            await store.commit([], [Put(b"%03d" % number, b"x" * 4_000) for number in range(200)])
            server.ask("SAVE")
            server.ask("CONFIG", "SET", "key-load-delay", "200000")
            server.ask("CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
            loading = asyncio.create_task(
                asyncio.to_thread(lambda: server.ask("DEBUG", "RELOAD", "NOSAVE"))
            )
            told = await first_refusal(store)
            await loading
            assert "loading" in told
            assert len(await keys(store)) == 200


async def first_refusal(store: MetadataStore) -> str:
    """Ask until the server is not itself; return what is said then."""
    while True:
        try:
            await store.get([b"a"])
        except StoreUnavailable as error:
            return str(error)


async def test_versions_go_on_where_the_last_commits_were_lost(
    server: backend.Server, store: MetadataStore
) -> None:
    """As in a fail-over: the server that takes over has not seen the last commits."""
    await seed(store, b"a")
    lost = (await entry(store, b"a")).version
    for part in ("value", "version", "order", "revision"):
        server.ask("DEL", f"{{faults}}:{part}")
    await seed(store, b"a")
    assert not await lands(store, [Unchanged(b"a", lost)], [Delete(b"a")])
