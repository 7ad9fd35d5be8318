"""What every metadata driver promises; a driver's test class subclasses this and gives `store`.

A driver whose data outlive one object subclasses `LastingMetadataContract` and also gives
`another`, which opens a further store on the same data, and `outage`, which cuts them off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from ociappr.errors import StoreUnavailable
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
    MetadataStore,
    Put,
    Transaction,
    Unchanged,
    Write,
    prefix_end,
    transact,
)

Another = Callable[[], Awaitable[MetadataStore]]
Outage = Callable[[], AbstractAsyncContextManager[None]]

FIRST, LAST = b"\0", b"\xff" * 8
ROUNDS = 25
MANY = 300  # more than any driver reads in its quickest way


async def seed(store: MetadataStore, *keys: bytes) -> None:
    await store.commit([], [Put(key, b"value of " + key) for key in keys])


async def entry(store: MetadataStore, key: bytes) -> Entry:
    return (await store.get([key]))[key]


async def keys(
    store: MetadataStore,
    start: bytes = FIRST,
    stop: bytes = LAST,
    *,
    limit: int = 5_000,
    reverse: bool = False,
) -> list[bytes]:
    return [found.key for found in await store.scan(start, stop, limit=limit, reverse=reverse)]


async def lands(store: MetadataStore, checks: Sequence[Check], writes: Sequence[Write]) -> bool:
    try:
        await store.commit(checks, writes)
    except Conflict:
        return False
    return True


async def increment(txn: Transaction) -> None:
    txn.put(b"n", b"%d" % (int(await txn.get(b"n") or 0) + 1))


async def no_skew(pinning: MetadataStore, condemning: MetadataStore, turn: int) -> None:
    """A pin needs the blob live, and a blob may be condemned only while nothing pins it."""
    blob, pins = b"blob/%d" % turn, b"pin/%d/" % turn
    await pinning.commit([], [Put(blob, b"live")])
    live = Unchanged(blob, (await entry(condemning, blob)).version)
    pin = lands(pinning, [live], [Put(pins + b"m", b"")])
    condemn = lands(condemning, [live, Empty(pins)], [Put(blob, b"dead")])
    outcome = await asyncio.gather(*((pin, condemn) if turn % 2 else (condemn, pin)))
    assert outcome.count(True) == 1
    pinned = await keys(condemning, pins, prefix_end(pins))
    assert bool(pinned) == ((await entry(pinning, blob)).value == b"live")


class MetadataContract:
    # reading

    async def test_get_of_nothing(self, store: MetadataStore) -> None:
        assert await store.get([]) == {}
        assert await store.get([b"absent"]) == {}

    async def test_get_returns_only_what_exists(self, store: MetadataStore) -> None:
        await seed(store, b"a", b"c")
        found = await store.get([b"a", b"b", b"c", b"a"])
        assert sorted(found) == [b"a", b"c"]
        assert found[b"a"].value == b"value of a"
        assert found[b"c"].key == b"c"

    @pytest.mark.parametrize("count", [1, 2, 3, 100, 101, 129, MAX_OPERATIONS])
    async def test_get_of_many(self, store: MetadataStore, count: int) -> None:
        wanted = [b"%04d" % number for number in range(count)]
        await seed(store, *wanted[::2])
        found = await store.get(wanted)
        assert sorted(found) == wanted[::2]
        assert all(found[key].value == b"value of " + key for key in found)

    async def test_get_of_more_than_a_commit_may_write(self, store: MetadataStore) -> None:
        await seed(store, b"5", b"9999")
        found = await store.get([b"%d" % number for number in range(10_000)])
        assert sorted(found) == [b"5", b"9999"]

    @pytest.mark.parametrize(
        "value", [b"", b"\0\xff\x80", bytes(range(256)) * (MAX_VALUE // 256)], ids=len
    )
    async def test_values_are_kept_exactly(self, store: MetadataStore, value: bytes) -> None:
        await store.commit([], [Put(b"k", value)])
        assert (await entry(store, b"k")).value == value
        assert [found.value for found in await store.scan(b"k", b"l", limit=1)] == [value]

    async def test_long_keys_are_kept_exactly(self, store: MetadataStore) -> None:
        long = [b"k" * (MAX_KEY - 1) + end for end in (b"\0", b"a", b"\xff")]
        await store.commit([], [Put(key, b"x" * 5_000 + key) for key in long])
        assert await keys(store, b"k", b"l") == long
        assert (await entry(store, long[1])).value == b"x" * 5_000 + long[1]

    async def test_scan_is_in_byte_order(self, store: MetadataStore) -> None:
        unordered = b"b A a foo|x foo foo/ a-b Z ~ a\0b a\0 \x01 \xfe \x80 \xc3\xa9".split(b" ")
        await seed(store, *unordered)
        assert await keys(store) == sorted(unordered)
        assert await keys(store, reverse=True) == sorted(unordered, reverse=True)

    async def test_scan_includes_start_and_excludes_stop(self, store: MetadataStore) -> None:
        await seed(store, b"a", b"b", b"c")
        assert await keys(store, b"a", b"c") == [b"a", b"b"]
        assert await keys(store, b"a\0", b"c\0") == [b"b", b"c"]
        assert await keys(store, b"a", b"c", reverse=True) == [b"b", b"a"]
        for start, stop in ((b"b", b"b"), (b"c", b"a"), (b"x", b"z"), (b"A", b"Z")):
            assert await keys(store, start, stop) == []
            assert await keys(store, start, stop, reverse=True) == []

    @pytest.mark.parametrize("limit", [1, 2, 99, 100, 101, MANY - 1, MANY, MANY + 1])
    async def test_scan_limits_and_reverses(self, store: MetadataStore, limit: int) -> None:
        everything = [b"k%03d" % number for number in range(MANY)]
        await seed(store, b"j", *everything, b"l")
        assert await keys(store, b"k", b"l", limit=limit) == everything[:limit]
        reverse = everything[::-1][:limit]
        assert await keys(store, b"k", b"l", limit=limit, reverse=True) == reverse

    async def test_scan_compares_keys_not_values(self, store: MetadataStore) -> None:
        await store.commit([], [Put(b"y", b"x:")])
        assert await keys(store, b"x:", b"x~") == []

    async def test_scan_and_get_agree(self, store: MetadataStore) -> None:
        await seed(store, b"a", b"b")
        await seed(store, b"b")
        found = await store.scan(FIRST, LAST, limit=10)
        assert {one.key: one for one in found} == await store.get([b"a", b"b"])

    # checks

    async def test_unchanged_holds_until_written(self, store: MetadataStore) -> None:
        await seed(store, b"a")
        version = (await entry(store, b"a")).version
        await seed(store, b"other")
        assert await lands(store, [Unchanged(b"a", version)], [Put(b"a", b"2")])
        assert not await lands(store, [Unchanged(b"a", version)], [Put(b"a", b"3")])
        assert (await entry(store, b"a")).value == b"2"

    async def test_unchanged_notices_the_same_value_again(self, store: MetadataStore) -> None:
        await seed(store, b"a")
        version = (await entry(store, b"a")).version
        await seed(store, b"a")
        assert not await lands(store, [Unchanged(b"a", version)], [Delete(b"a")])
        assert await keys(store) == [b"a"]

    async def test_unchanged_notices_absence(self, store: MetadataStore) -> None:
        await seed(store, b"a")
        version = (await entry(store, b"a")).version
        await store.commit([], [Delete(b"a")])
        assert not await lands(store, [Unchanged(b"a", version)], [Put(b"a", b"")])

    async def test_a_version_never_repeats(self, store: MetadataStore) -> None:
        seen = []
        for _ in range(5):
            await seed(store, b"a")
            seen.append((await entry(store, b"a")).version)
            assert not any([await lands(store, [Unchanged(b"a", v)], []) for v in seen[:-1]])
            await store.commit([], [Delete(b"a")])
        assert len(set(seen)) == len(seen)

    async def test_absence_can_be_checked(self, store: MetadataStore) -> None:
        assert await lands(store, [Unchanged(b"a", None)], [Put(b"a", b"1")])
        assert not await lands(store, [Unchanged(b"a", None)], [Put(b"a", b"2")])
        assert (await entry(store, b"a")).value == b"1"

    async def test_absence_has_no_version(self, store: MetadataStore) -> None:
        await seed(store, b"a")
        await store.commit([], [Delete(b"a")])
        assert await lands(store, [Unchanged(b"a", None)], [Put(b"a", b"1")])

    @pytest.mark.parametrize("prefix", [b"p/x", b"p\0", b"p\xff"])
    async def test_empty_notices_every_key_below(self, store: MetadataStore, prefix: bytes) -> None:
        await seed(store, b"p", prefix[:-1] + bytes([prefix[-1] - 1]) if prefix[-1] else b"o")
        await seed(store, prefix_end(prefix))
        for below in (prefix, prefix + b"\0", prefix + b"\xff\xff", prefix + b"y"):
            assert await lands(store, [Empty(prefix)], [Put(b"a", b"")])
            await seed(store, below)
            assert not await lands(store, [Empty(prefix)], [Put(b"b", b"")])
            await store.commit([], [Delete(below)])
        assert b"b" not in await keys(store)

    async def test_checks_look_at_what_was_before_the_writes(self, store: MetadataStore) -> None:
        assert await lands(store, [Unchanged(b"a", None), Empty(b"a")], [Put(b"a", b"1")])
        version = (await entry(store, b"a")).version
        assert not await lands(store, [Empty(b"a")], [Delete(b"a")])
        assert not await lands(store, [Unchanged(b"a", None)], [Delete(b"a")])
        assert await lands(store, [Unchanged(b"a", version)], [Delete(b"a")])
        assert await keys(store) == []

    @pytest.mark.parametrize("bad", [Unchanged(b"a", None), Unchanged(b"b", 10**9), Empty(b"a")])
    async def test_one_failed_check_writes_nothing(self, store: MetadataStore, bad: Check) -> None:
        await seed(store, b"a")
        before = await store.scan(FIRST, LAST, limit=10)
        good = Unchanged(b"b", None)
        writes: list[Write] = [Put(b"b", b""), Delete(b"a"), Put(b"c", b"")]
        for checks in ([bad, good], [good, bad], [good, bad, good]):
            assert not await lands(store, checks, writes)
        assert await store.scan(FIRST, LAST, limit=10) == before

    async def test_checks_alone_are_a_question(self, store: MetadataStore) -> None:
        await seed(store, b"a")
        assert await lands(store, [Empty(b"b")], [])
        assert not await lands(store, [Empty(b"a")], [])
        assert await lands(store, [], [])

    # writing

    async def test_delete_of_an_absent_key_is_no_error(self, store: MetadataStore) -> None:
        await seed(store, b"a")
        await store.commit([], [Delete(b"absent"), Delete(b"a")])
        assert await store.get([b"a"]) == {}

    async def test_the_largest_commit(self, store: MetadataStore) -> None:
        many = [b"%0100d" % number for number in range(MAX_OPERATIONS)]
        value = b"x" * (MAX_COMMIT // MAX_OPERATIONS - 100)
        absent = [Unchanged(key, None) for key in many]
        assert await lands(store, absent, [Put(key, value) for key in many])
        assert await keys(store) == many
        assert not await lands(store, [*absent[:-1], Empty(b"x")], [Delete(key) for key in many])
        found = await store.get(many)
        unchanged = [Unchanged(key, found[key].version) for key in many]
        assert await lands(store, unchanged, [Delete(key) for key in many])
        assert await keys(store) == []

    async def test_two_values_of_the_largest_size(self, store: MetadataStore) -> None:
        size = MAX_COMMIT // 2 - 1
        await store.commit([], [Put(b"a", b"a" * size), Put(b"b", b"b" * size)])
        found = await store.get([b"a", b"b"])
        assert found[b"a"].value + found[b"b"].value == b"a" * size + b"b" * size

    async def test_the_largest_commit_checked_by_the_longest_keys(
        self, store: MetadataStore
    ) -> None:
        absent = [Unchanged(b"%0*d" % (MAX_KEY, number), None) for number in range(MAX_OPERATIONS)]
        value = b"x" * (MAX_VALUE - 1)
        assert await lands(store, absent, [Put(b"a", value), Put(b"b", value)])
        assert (await entry(store, b"b")).value == value
        checks: list[Check] = [*absent[1:], Empty(b"b")]
        assert not await lands(store, checks, [Put(b"c", value), Put(b"d", value)])
        assert await keys(store) == [b"a", b"b"]

    @pytest.mark.parametrize("luck", range(3))
    async def test_a_random_walk_agrees_with_a_dict(self, store: MetadataStore, luck: int) -> None:
        walk = Walk(random.Random(luck))
        for step in range(150):
            checks, writes = walk.checks(), walk.writes(b"%d" % step)
            expected = all(map(walk.holds, checks))
            assert await lands(store, checks, writes) == expected
            walk.follow(await store.scan(FIRST, LAST, limit=100), writes if expected else [])

    # several at once

    async def test_exactly_one_of_many_creators_wins(self, store: MetadataStore) -> None:
        wins = await asyncio.gather(
            *(lands(store, [Unchanged(b"a", None)], [Put(b"a", b"%d" % i)]) for i in range(40))
        )
        assert wins.count(True) == 1
        assert (await entry(store, b"a")).value == b"%d" % wins.index(True)

    async def test_exactly_one_enters_an_empty_prefix(self, store: MetadataStore) -> None:
        wins = await asyncio.gather(
            *(lands(store, [Empty(b"p/")], [Put(b"p/%02d" % i, b"")]) for i in range(40))
        )
        assert wins.count(True) == 1
        assert await keys(store) == [b"p/%02d" % wins.index(True)]

    async def test_no_update_is_lost(self, store: MetadataStore) -> None:
        await asyncio.gather(*(transact(store, increment) for _ in range(20)))
        assert (await entry(store, b"n")).value == b"20"

    async def test_no_write_skew_between_pin_and_condemn(self, store: MetadataStore) -> None:
        for turn in range(ROUNDS):
            await no_skew(store, store, turn)

    async def test_a_conflict_does_not_fail_its_neighbours(self, store: MetadataStore) -> None:
        await seed(store, b"taken")
        outcome = await asyncio.gather(
            *(
                lands(
                    store,
                    [Unchanged(b"taken" if i % 3 == 1 else b"free", None)],
                    [Put(b"k/%02d" % i, b"%d" % i)],
                )
                for i in range(60)
            )
        )
        assert outcome == [i % 3 != 1 for i in range(60)]
        assert await keys(store, b"k", b"l") == [b"k/%02d" % i for i in range(60) if i % 3 != 1]

    @pytest.mark.parametrize("count", [2, MANY], ids=["short", "long"])
    async def test_reads_see_one_instant(self, store: MetadataStore, count: int) -> None:
        """Each commit writes one number to every key, so no read may see two."""
        names = [b"k%03d" % i for i in range(count)]
        await store.commit([], [Put(name, b"0") for name in names])

        async def write() -> None:
            for number in range(ROUNDS):
                await store.commit([], [Put(name, b"%d" % number) for name in names])

        writer = asyncio.create_task(write())
        seen: set[bytes] = set()
        while not writer.done():
            got = [one.value for one in (await store.get(names)).values()]
            scanned = [one.value for one in await store.scan(b"k", b"l", limit=count)]
            for values in (got, scanned):
                assert len(values) == count
                assert len(set(values)) == 1
            seen.update(got)
            await asyncio.sleep(0)
        await writer
        assert {one.value for one in await store.scan(b"k", b"l", limit=count)} == {b"24"}

    async def test_pages_are_stable_while_others_write(self, store: MetadataStore) -> None:
        """What is there all the time is seen exactly once, whatever comes and goes around it."""
        lasting = [b"k%02d" % i for i in range(50)]
        await seed(store, *lasting)
        seen: list[bytes] = []
        start = FIRST
        while page := await keys(store, start, limit=7):
            seen += page
            start = page[-1] + b"\0"
            await store.commit([], [Put(name + b"x", b"") for name in (lasting[3], page[-1])])
            await store.commit([], [Put(b"a%d" % len(seen), b""), Delete(page[0] + b"x")])
        assert [key for key in seen if key in lasting] == lasting
        assert len(seen) == len(set(seen))

    async def test_a_read_sees_what_was_committed_before(self, store: MetadataStore) -> None:
        for number in range(ROUNDS):
            await store.commit([], [Put(b"a", b"%d" % number), Put(b"n%d" % number, b"")])
            assert (await entry(store, b"a")).value == b"%d" % number
            assert len(await keys(store, b"n", b"o", limit=1_000)) == number + 1

    async def test_many_reads_at_once(self, store: MetadataStore) -> None:
        names = [b"%03d" % number for number in range(MANY)]
        await seed(store, *names)
        found = await asyncio.gather(*(entry(store, name) for name in names))
        assert [one.key for one in found] == names
        assert all(one.value == b"value of " + one.key for one in found)

    async def test_a_cancelled_read_leaves_no_answer_behind(self, store: MetadataStore) -> None:
        await seed(store, *(b"%03d" % number for number in range(MANY)))
        for turn in range(ROUNDS):
            reads = [asyncio.create_task(entry(store, b"%03d" % number)) for number in range(9)]
            reads.append(asyncio.create_task(entry(store, b"000")))
            long = asyncio.create_task(keys(store))
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in (*reads[::2], long):
                task.cancel()
            await asyncio.gather(*reads, long, return_exceptions=True)
            found = await asyncio.gather(*(entry(store, b"%03d" % (turn + i)) for i in range(5)))
            assert [one.key for one in found] == [b"%03d" % (turn + i) for i in range(5)]

    async def test_a_cancelled_commit_lands_whole_or_not_at_all(self, store: MetadataStore) -> None:
        for turn in range(ROUNDS):
            names = [b"%d/%d" % (turn, i) for i in range(9)]
            task = asyncio.create_task(store.commit([], [Put(name, b"") for name in names]))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await seed(store, b"after")
            assert len(await store.get(names)) in (0, len(names))

    async def test_cancelling_one_does_not_cancel_its_neighbours(
        self, store: MetadataStore
    ) -> None:
        tasks = [asyncio.create_task(seed(store, b"%02d" % i)) for i in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcome = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcome[1::2] == [None] * 10
        assert set(await keys(store)) >= {b"%02d" % i for i in range(1, 20, 2)}

    async def test_a_cancelled_read_harms_no_later_one(self, store: MetadataStore) -> None:
        await seed(store, b"a", b"b")
        for turn in range(ROUNDS):
            tasks = [
                asyncio.create_task(store.get([b"a"])),
                asyncio.create_task(store.scan(b"a", b"b", limit=turn + 1)),
            ]
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert list(await store.get([b"b"])) == [b"b"]
            assert await keys(store, b"b", b"c") == [b"b"]

    async def test_closing_lets_commits_finish(self, store: MetadataStore) -> None:
        tasks = [asyncio.create_task(seed(store, b"%02d" % i)) for i in range(20)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*tasks) == [None] * 20
        await store.close()


class LastingMetadataContract(MetadataContract):
    async def test_everything_is_there_after_reopening(
        self, store: MetadataStore, another: Another
    ) -> None:
        tasks = [asyncio.create_task(seed(store, b"%02d" % i)) for i in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*tasks)
        again = await another()
        assert await keys(again) == [b"%02d" % i for i in range(20)]
        assert (await entry(again, b"07")).value == b"value of 07"

    async def test_versions_go_on_after_reopening(
        self, store: MetadataStore, another: Another
    ) -> None:
        seen = []
        for _ in range(3):
            await seed(store, b"a")
            seen.append((await entry(store, b"a")).version)
            await store.commit([], [Delete(b"a")])
            await store.close()
            store = await another()
        assert len(set(seen)) == len(seen)

    async def test_stores_see_each_other(self, store: MetadataStore, another: Another) -> None:
        other = await another()
        for number in range(ROUNDS):
            one, two = (store, other) if number % 2 else (other, store)
            await one.commit([], [Put(b"a", b"%d" % number)])
            assert await two.get([b"a"]) == await one.get([b"a"])
            assert await two.scan(b"a", b"b", limit=500) == await one.scan(b"a", b"b", limit=500)

    async def test_stores_do_not_lose_each_others_updates(
        self, store: MetadataStore, another: Another
    ) -> None:
        stores = [store, await another(), await another()]
        await asyncio.gather(*(transact(one, increment) for one in stores * 5))
        assert (await entry(store, b"n")).value == b"15"

    async def test_one_creator_wins_over_several_stores(
        self, store: MetadataStore, another: Another
    ) -> None:
        stores = [store, await another()]
        for turn in range(ROUNDS):
            key = b"%d" % turn
            wins = await asyncio.gather(
                *(lands(one, [Unchanged(key, None)], [Put(key, b"")]) for one in stores * 4)
            )
            assert wins.count(True) == 1

    async def test_no_write_skew_over_several_stores(
        self, store: MetadataStore, another: Another
    ) -> None:
        other = await another()
        for turn in range(ROUNDS):
            await no_skew(store, other, turn)

    async def test_an_outage_is_told_and_passes(self, store: MetadataStore, outage: Outage) -> None:
        await seed(store, b"a")
        async with outage():
            outcome = await asyncio.gather(
                *(store.commit([], [Put(b"b%d" % i, b""), Put(b"c%d" % i, b"")]) for i in range(5)),
                return_exceptions=True,
            )
            assert [type(error) for error in outcome] == [StoreUnavailable] * 5
        await seed(store, b"d")
        found = await keys(store)
        assert [key[1:] for key in found if key[:1] == b"b"] == [
            key[1:] for key in found if key[:1] == b"c"
        ]
        assert {b"a", b"d"} <= set(found)


class Walk:
    """What a store must hold after each step of a random walk."""

    NAMES = (b"a", b"a\0", b"a\0b", b"a\xff", b"aa", b"b", b"b\0x", b"c")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries: dict[bytes, Entry] = {}
        self._versions: dict[bytes, list[int]] = {name: [] for name in self.NAMES}

    def checks(self) -> list[Check]:
        return [
            Empty(name)
            if self._rng.random() < 0.3
            else Unchanged(name, self._rng.choice([None, *self._versions[name][-2:]]))
            for name in self._rng.sample(self.NAMES, self._rng.randrange(3))
        ]

    def writes(self, value: bytes) -> list[Write]:
        return [
            Put(name, value) if self._rng.random() < 0.6 else Delete(name)
            for name in self._rng.sample(self.NAMES, self._rng.randrange(4))
        ]

    def holds(self, check: Check) -> bool:
        if isinstance(check, Empty):
            return not any(key.startswith(check.prefix) for key in self._entries)
        known = self._entries.get(check.key)
        return check.version == (known.version if known else None)

    def follow(self, found: Sequence[Entry], written: Sequence[Write]) -> None:
        values = {key: known.value for key, known in self._entries.items()}
        for write in written:
            if isinstance(write, Put):
                values[write.key] = write.value
            else:
                values.pop(write.key, None)
        assert {one.key: one.value for one in found} == values
        puts = {write.key for write in written if isinstance(write, Put)}
        for one in found:
            if one.key in puts:
                assert one.version not in self._versions[one.key]
                self._versions[one.key].append(one.version)
            else:
                assert one == self._entries[one.key]
        self._entries = {one.key: one for one in found}
