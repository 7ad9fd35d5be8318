from __future__ import annotations

from collections import Counter

from ociappr.metadata import Delete, Put, Unchanged, Write, commit
from ociappr.metadata.memory import MemoryMetadata
from ociappr.registry.steps import Pace, Step, Steps


class Time:
    """A clock that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_pace_is_kept() -> None:
    time = Time()
    pace = Pace(10, clock=time, sleep=time.sleep)
    for items in (5, 20, 1, 0, 4):
        await pace.keep(items)
    assert round(time.now, 6) == 102.6
    time.now += 1000
    await pace.keep(1)
    assert round(time.now, 6) == 1102.6, "a rest is no credit, and no debt"


async def test_no_pace() -> None:
    time = Time()
    await Pace(0, clock=time, sleep=time.sleep).keep(1_000_000)
    assert time.now == 100.0


def step(name: str, *more: Write, version: int | None = None) -> Step:
    """Return a step that puts a key which it relies on being absent."""
    key = name.encode()
    checks = (Unchanged(key, version),)
    return Step("put", name, "", checks=checks, writes=(Put(key, b""), *more))


async def test_a_step_that_fails_stops_no_other() -> None:
    store, done = MemoryMetadata(), Counter[str]()
    await commit(store, [], [Put(b"b", b"rival")])
    steps = Steps(store, Pace(0), count=lambda what: done.update([what]))
    for name in "abc":
        await steps.take(step(name))
    assert not done
    await steps.flush()
    assert (done["put"], steps.contested) == (2, 1)
    await steps.take(step("b"))
    await steps.flush()
    await steps.flush()
    assert (done["put"], steps.contested) == (2, 2)


async def test_steps_are_committed_before_they_grow_too_many_or_too_large() -> None:
    store, done = MemoryMetadata(), Counter[str]()
    steps = Steps(store, Pace(0), count=lambda what: done.update([what]))
    for number in range(50):
        await steps.take(step(f"a{number}"))
    assert done["put"] == 50
    many = [Delete(f"d{number}".encode()) for number in range(300)]
    await steps.take(step("b", *many))
    await steps.take(step("c", *many))
    assert done["put"] == 51
    await steps.take(step("d", Put(b"e", b"x" * 300_000)))
    assert done["put"] == 52
