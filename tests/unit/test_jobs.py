from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from ociappr.errors import StoreUnavailable
from ociappr.schedule.jobs import Job, repeated

HOUR = timedelta(hours=1)


async def test_rounds_follow_one_another_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    waits: list[timedelta] = []
    outcomes: Iterator[timedelta | Exception | None] = iter(
        [StoreUnavailable("away"), ZeroDivisionError("boom"), HOUR / 4, timedelta(), None]
    )
    done = asyncio.Event()

    async def round_() -> timedelta | None:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def pause(wait: timedelta) -> None:
        waits.append(wait)
        if len(waits) == 6:
            done.set()
            await asyncio.Event().wait()

    job = Job(
        name="job", round=round_, interval=HOUR, first=HOUR / 2, pause=pause, failure="nothing done"
    )
    async with repeated([job]):
        await done.wait()
    assert waits == [HOUR / 2, HOUR, HOUR, HOUR / 4, timedelta(), HOUR]
    assert [record.getMessage() for record in caplog.records] == [
        "nothing done: away; it tries again",
        "nothing done; it tries again",
    ]
    assert "boom" in caplog.text


async def test_jobs_end_with_the_block() -> None:
    begun = asyncio.Event()

    async def round_() -> None:
        begun.set()
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        async with repeated([Job(name="job", round=round_, interval=HOUR, failure="")]):
            await begun.wait()
            raise KeyError
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "job"]
