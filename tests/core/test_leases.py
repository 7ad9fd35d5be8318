"""Leases: one holder at a time as long as clocks agree, and an end when the holder is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ociappr.registry.leases import Leases
from tests.core.stage import Call, DirectedMetadata, Scenes
from tests.core.world import World

HOUR = timedelta(hours=1)
TERM = timedelta(minutes=2)


def leases(world: World) -> Leases:
    """Return the leases of another process."""
    return Leases(world.metadata, now=world.clock, term=TERM)


async def test_one_holder_until_the_lease_runs_out(world: World) -> None:
    ours, theirs = leases(world), leases(world)
    assert await ours.take("work")
    assert await ours.take("work")
    assert not await theirs.take("work")
    assert await theirs.take("other work")
    world.clock.advance(TERM - timedelta(microseconds=1))
    assert not await theirs.take("work")
    world.clock.advance(timedelta(microseconds=1))
    assert await theirs.take("work")
    assert not await ours.take("work")


async def test_work_that_ended_well_rests(world: World) -> None:
    ours, theirs = leases(world), leases(world)
    async with ours.held("work", rest=HOUR) as is_ours:
        assert is_ours
        async with theirs.held("work", rest=HOUR) as is_theirs:
            assert not is_theirs
        world.clock.advance(TERM / 2)
    world.clock.advance(HOUR - TERM)
    async with theirs.held("work", rest=HOUR) as is_theirs:
        assert not is_theirs
    async with ours.held("work", rest=HOUR) as is_ours:
        assert is_ours
    world.clock.advance(HOUR)
    async with theirs.held("work", rest=HOUR) as is_theirs:
        assert is_theirs


async def test_long_work_ends_its_rest_at_once(world: World) -> None:
    ours, theirs = leases(world), leases(world)
    async with ours.held("work", rest=HOUR):
        world.clock.advance(2 * HOUR)
    assert await theirs.take("work")


async def test_work_that_failed_is_anybodys_after_a_term(world: World) -> None:
    ours, theirs = leases(world), leases(world)
    with pytest.raises(ZeroDivisionError):
        async with ours.held("work", rest=HOUR):
            raise ZeroDivisionError
    assert not await theirs.take("work")
    world.clock.advance(TERM)
    assert await theirs.take("work")


async def test_a_lease_is_renewed_while_work_goes_on(world: World) -> None:
    scenes, renewed = Scenes(), asyncio.Event()
    metadata = DirectedMetadata(world.metadata, scenes)
    ours = Leases(metadata, now=world.clock, term=timedelta(milliseconds=20))

    async def tell(_: Call) -> None:
        renewed.set()

    async with ours.held("work", rest=HOUR):
        world.clock.advance(TERM)
        scenes.after_next("commit", "k", tell)
        await renewed.wait()
        assert not await leases(world).take("work")
