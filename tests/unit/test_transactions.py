from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ociappr.errors import Contended, StoreUnavailable, TooLarge
from ociappr.metadata import (
    MAX_COMMIT,
    MAX_KEY,
    MAX_OPERATIONS,
    MAX_VALUE,
    Check,
    Conflict,
    Delete,
    Empty,
    Entry,
    Put,
    Transaction,
    Unchanged,
    Write,
    commit,
    prefix_end,
    scan_all,
    transact,
)
from ociappr.metadata.memory import MemoryMetadata

Operations = tuple[list[Check], list[Write]]


class Recording:
    """A store in memory that tells what it was asked and can fail commits."""

    def __init__(self, *failures: Exception) -> None:
        self.memory = MemoryMetadata()
        self.gets: list[list[bytes]] = []
        self.scans: list[int] = []
        self.commits: list[Operations] = []
        self.failures = list(failures)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        self.gets.append(list(keys))
        return await self.memory.get(keys)

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        self.scans.append(limit)
        return await self.memory.scan(start, stop, limit=limit, reverse=reverse)

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        self.commits.append((list(checks), list(writes)))
        if self.failures:
            raise self.failures.pop()
        await self.memory.commit(checks, writes)

    async def close(self) -> None:
        await self.memory.close()


@pytest.fixture
async def store() -> Recording:
    store = Recording()
    await store.memory.commit([], [Put(b"a", b"1"), Put(b"b", b"2")])
    return store


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


class TestTransaction:
    async def test_a_read_becomes_a_check(self, store: Recording) -> None:
        txn = Transaction(store)
        assert await txn.get(b"a") == b"1"
        assert await txn.get(b"absent") is None
        txn.put(b"c", b"3")
        await txn.commit()
        version = (await store.memory.get([b"a"]))[b"a"].version
        checks, writes = store.commits[0]
        assert checks == [Unchanged(b"a", version), Unchanged(b"absent", None)]
        assert writes == [Put(b"c", b"3")]

    async def test_a_peek_promises_nothing(self, store: Recording) -> None:
        txn = Transaction(store)
        assert await txn.peek(b"a") == b"1"
        assert await txn.peek(b"absent") is None
        assert await txn.peek_many([b"a", b"b", b"absent"]) == {b"a": b"1", b"b": b"2"}
        txn.delete(b"a")
        await txn.commit()
        await txn.get(b"absent")
        await txn.commit()
        assert store.commits == [
            ([], [Delete(b"a")]),
            ([Unchanged(b"absent", None)], [Delete(b"a")]),
        ]

    async def test_each_key_is_read_once_so_all_reads_agree(self, store: Recording) -> None:
        txn = Transaction(store)
        await txn.peek(b"a")
        await store.memory.commit([], [Put(b"a", b"changed")])
        assert await txn.get_many([b"a", b"b"]) == {b"a": b"1", b"b": b"2"}
        assert await txn.get(b"b") == b"2"
        assert store.gets == [[b"a"], [b"b"]]
        txn.put(b"c", b"")
        with pytest.raises(Conflict):
            await txn.commit()

    async def test_its_own_writes_are_seen(self, store: Recording) -> None:
        txn = Transaction(store)
        txn.put(b"a", b"new")
        txn.delete(b"b")
        txn.put(b"c", b"")
        assert await txn.get_many([b"a", b"b", b"c"]) == {b"a": b"new", b"c": b""}
        assert await txn.peek(b"b") is None

    async def test_a_promise_is_about_what_was_before_its_own_writes(
        self, store: Recording
    ) -> None:
        txn = Transaction(store)
        txn.put(b"a", b"new")
        txn.put(b"c", b"")
        await txn.get_many([b"a", b"c"])
        await txn.commit()
        version = (await store.memory.get([b"b"]))[b"b"].version
        assert store.commits[0][0] == [Unchanged(b"a", version), Unchanged(b"c", None)]

    async def test_the_last_write_of_a_key_counts(self, store: Recording) -> None:
        txn = Transaction(store)
        txn.put(b"a", b"x")
        txn.delete(b"a")
        txn.put(b"b", b"x")
        txn.put(b"b", b"y")
        await txn.commit()
        assert store.commits[0][1] == [Delete(b"a"), Put(b"b", b"y")]

    async def test_an_empty_prefix_is_a_check(self, store: Recording) -> None:
        txn = Transaction(store)
        txn.require_empty(b"p/")
        txn.put(b"p/1", b"")
        await txn.commit()
        assert store.commits[0][0] == [Empty(b"p/")]
        txn = Transaction(store)
        txn.require_empty(b"p/")
        txn.put(b"p/2", b"")
        with pytest.raises(Conflict):
            await txn.commit()

    async def test_without_writes_nothing_is_committed(self, store: Recording) -> None:
        txn = Transaction(store)
        await txn.get(b"a")
        txn.require_empty(b"a")
        await txn.commit()
        assert store.commits == []


class TestTransact:
    async def test_the_body_runs_until_it_commits(self, naps: list[float]) -> None:
        store = Recording(Conflict(), Conflict())
        runs = 0

        async def body(txn: Transaction) -> int:
            nonlocal runs
            runs += 1
            txn.put(b"a", b"%d" % runs)
            return runs

        assert await transact(store, body) == 3
        assert (await store.memory.get([b"a"]))[b"a"].value == b"3"
        assert len(naps) == 2

    @pytest.mark.usefixtures("naps")
    async def test_a_body_starts_from_fresh_reads(self) -> None:
        store = Recording(Conflict())
        seen: list[bytes | None] = []

        async def body(txn: Transaction) -> None:
            seen.append(await txn.get(b"a"))
            await store.memory.commit([], [Put(b"a", b"rival")])
            if len(seen) == 1:
                txn.put(b"b", b"")

        await transact(store, body)
        assert seen == [None, b"rival"]

    async def test_it_gives_up_after_many_conflicts(self, naps: list[float]) -> None:
        store = Recording(*(Conflict() for _ in range(100)))

        async def body(txn: Transaction) -> None:
            txn.put(b"a", b"")

        with pytest.raises(Contended):
            await transact(store, body)
        assert len(store.commits) == 40
        assert max(naps) <= 0.1

    async def test_an_unknown_outcome_is_not_tried_again(self) -> None:
        store = Recording(StoreUnavailable("silence"))

        async def body(txn: Transaction) -> None:
            txn.put(b"a", b"")

        with pytest.raises(StoreUnavailable):
            await transact(store, body)
        assert len(store.commits) == 1

    async def test_what_the_body_raises_ends_it(self, store: Recording) -> None:
        async def body(txn: Transaction) -> None:
            txn.put(b"a", b"")
            raise LookupError

        with pytest.raises(LookupError):
            await transact(store, body)
        assert store.commits == []


def puts(count: int, key: int, value: int) -> list[Write]:
    return [Put(b"%0*d" % (key, number), b"x" * value) for number in range(count)]


class TestLimits:
    @pytest.mark.parametrize(
        "writes",
        [
            puts(1, MAX_KEY, MAX_VALUE),
            puts(MAX_OPERATIONS, 100, 900),
            puts(2, 64, MAX_COMMIT // 2 - 64),
            [Delete(b"k" * MAX_KEY)],
        ],
        ids=["record", "operations", "bytes", "deletion"],
    )
    async def test_at_the_limit(self, store: Recording, writes: list[Write]) -> None:
        await commit(store, [Unchanged(b"absent", None)] * MAX_OPERATIONS, writes)
        assert store.commits[0][1] == writes

    @pytest.mark.parametrize(
        ("checks", "writes"),
        [
            (0, puts(1, MAX_KEY + 1, 0)),
            (0, [Delete(b"k" * (MAX_KEY + 1))]),
            (0, puts(1, 1, MAX_VALUE + 1)),
            (0, puts(MAX_OPERATIONS + 1, 4, 0)),
            (MAX_OPERATIONS + 1, []),
            (0, [*puts(2, 64, MAX_COMMIT // 2 - 64), Delete(b"k")]),
        ],
        ids=["key", "deleted key", "value", "writes", "checks", "bytes"],
    )
    async def test_beyond_the_limit(
        self, store: Recording, checks: int, writes: list[Write]
    ) -> None:
        with pytest.raises(TooLarge):
            await commit(store, [Unchanged(b"absent", None)] * checks, writes)
        assert store.commits == []

    async def test_a_transaction_keeps_them(self, store: Recording) -> None:
        txn = Transaction(store)
        txn.put(b"a", b"x" * (MAX_VALUE + 1))
        with pytest.raises(TooLarge):
            await txn.commit()


class TestScanAll:
    @pytest.mark.parametrize(("page", "scans"), [(1, 6), (2, 3), (3, 2), (5, 2), (6, 1), (9, 1)])
    async def test_every_page(self, page: int, scans: int) -> None:
        store = Recording()
        wanted = [b"p/", b"p/\0", b"p/\0\0", b"p/0", b"p/00"]
        await store.memory.commit([], [Put(key, b"") for key in [b"p", *wanted, b"p0"]])
        assert [entry.key async for entry in scan_all(store, b"p/", page=page)] == wanted
        assert store.scans == [page] * scans

    async def test_after_a_key(self, store: Recording) -> None:
        await store.memory.commit([], [Put(b"p/%d" % number, b"") for number in range(5)])
        found = [entry.key async for entry in scan_all(store, b"p/", after=b"p/2", page=2)]
        assert found == [b"p/3", b"p/4"]
        assert [entry.key async for entry in scan_all(store, b"p/", after=b"p/4")] == []

    async def test_nothing(self, store: Recording) -> None:
        assert [entry async for entry in scan_all(store, b"p/")] == []


class TestPrefixEnd:
    @pytest.mark.parametrize(
        ("prefix", "end"),
        [
            (b"a", b"b"),
            (b"a\0", b"a\1"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xfe", b"\xff"),
        ],
    )
    def test_the_smallest_key_beyond(self, prefix: bytes, end: bytes) -> None:
        assert prefix_end(prefix) == end
        assert prefix + b"\xff" * 20 < end

    @pytest.mark.parametrize("prefix", [b"", b"\xff", b"\xff\xff"])
    def test_some_have_none(self, prefix: bytes) -> None:
        with pytest.raises(ValueError, match="no end"):
            prefix_end(prefix)
