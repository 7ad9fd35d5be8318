"""Metadata on a real Redis server: the port's contract, and that the contract would notice."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from conformance.backends import redis as backend
from conformance.backends.daemon import running
from conformance.stores.conftest import require
from ociappr.metadata import Check, Conflict, Entry, MetadataStore, Unchanged, Write
from ociappr.metadata import redis_scripts as scripts
from ociappr.metadata.redis import RedisMetadata
from tests.contracts.metadata import MANY, Another, LastingMetadataContract, Outage

_names = (f"registry-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[backend.Server]:
    """A server for all tests: each has a registry of its own there."""
    require("redis-server")
    started = backend.server(tmp_path_factory.mktemp("redis"))
    with running(started.daemon):
        yield started


@pytest.fixture
async def another(server: backend.Server) -> AsyncIterator[Another]:
    """What opens stores on the metadata of one new registry."""
    url = server.url(next(_names))
    async with AsyncExitStack() as stores:

        async def another() -> RedisMetadata:
            return await stores.enter_async_context(backend.opened(url))

        yield another


@pytest.fixture
async def store(another: Another) -> MetadataStore:
    return await another()


class TestRedis(LastingMetadataContract):
    @pytest.fixture
    def outage(self, server: backend.Server) -> Outage:
        @asynccontextmanager
        async def down() -> AsyncIterator[None]:
            with server.daemon.down():
                yield

        return down


# -- a weaker driver fails -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weakened:
    """A driver that does not keep one promise."""

    strong: MetadataStore

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        return await self.strong.get(keys)

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        return await self.strong.scan(start, stop, limit=limit, reverse=reverse)

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        await self.strong.commit(checks, writes)

    async def close(self) -> None:
        await self.strong.close()


class ChecksApart(Weakened):
    """Checks versions before the script, not in it."""

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        unchanged = [check for check in checks if isinstance(check, Unchanged)]
        found = await self.strong.get([check.key for check in unchanged])
        versions = {entry.key: entry.version for entry in found.values()}
        if any(versions.get(check.key) != check.version for check in unchanged):
            raise Conflict
        await self.strong.commit([], writes)


class ReadsApart(Weakened):
    """Asks for each key alone."""

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        return {key: one for key in keys for one in (await self.strong.get([key])).values()}


async def test_checks_apart_from_the_writes_are_noticed(store: MetadataStore) -> None:
    with pytest.raises(AssertionError):
        await TestRedis().test_exactly_one_of_many_creators_wins(ChecksApart(store))


async def test_reads_of_several_instants_are_noticed(store: MetadataStore) -> None:
    with pytest.raises(AssertionError):
        await TestRedis().test_reads_see_one_instant(ReadsApart(store), MANY)


def weaken(monkeypatch: pytest.MonkeyPatch, line: str, *, into: str) -> None:
    """Change a line of the script that commits."""
    assert scripts.COMMIT.text.count(line) == 1
    weak = scripts.COMMIT.text.replace(line, into)
    monkeypatch.setattr(scripts, "COMMIT", scripts.Script.of(weak))


async def test_versions_that_begin_anew_with_their_key_are_noticed(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "stamped[#stamped + 1] = (redis.call('HGET', versions, key) or 0) + 1"
    weaken(monkeypatch, "stamped[#stamped + 1] = version", into=own)
    with pytest.raises(AssertionError):
        await TestRedis().test_a_version_never_repeats(store)


async def test_a_prefix_that_is_not_looked_at_is_noticed(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaken(monkeypatch, "for i = prefixes, deleted - 1, 2 do", into="for i = 1, 0 do")
    with pytest.raises(AssertionError):
        await TestRedis().test_no_write_skew_between_pin_and_condemn(store)


async def test_writes_before_a_check_are_noticed(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaken(monkeypatch, "if not holds then return 0 end", into="")
    weaken(monkeypatch, "\nreturn 1\n", into="\nreturn holds and 1 or 0\n")
    with pytest.raises(AssertionError):
        await TestRedis().test_one_failed_check_writes_nothing(store, Unchanged(b"a", None))
