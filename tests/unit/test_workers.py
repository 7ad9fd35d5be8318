from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from ociappr.workers import Supervisor


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor of two workers that is never run."""

    def work(_: int, __: Callable[[], None]) -> int:
        raise AssertionError("nothing is forked here")

    made = Supervisor(work, 2, close=lambda: None)
    made._due.clear()
    yield made
    for end in made._lifeline:
        os.close(end)


def pauses(supervisor: Supervisor, *ages: float) -> list[float]:
    """Return how long worker 1 stays away after each of its ends, rounded to a tenth."""
    found = []
    for age in ages:
        supervisor._ended(1, -9, age)
        found.append(round(supervisor._due.pop(1) - time.monotonic(), 1))
    return found


def test_the_first_ready_worker_brings_the_others_once(supervisor: Supervisor) -> None:
    supervisor._begin_others()
    assert set(supervisor._due) == {1}
    supervisor._due.clear()
    supervisor._begin_others()
    assert not supervisor._due


@pytest.mark.parametrize(("code", "status"), [(1, 1), (2, 2), (-9, 1), (0, 1)])
def test_what_ends_before_it_was_ready_is_not_tried_again(
    supervisor: Supervisor, code: int, status: int
) -> None:
    supervisor._ended(0, code, 0.1)
    assert not supervisor._due
    assert supervisor._status == status


def test_who_dies_young_comes_back_later_and_later(supervisor: Supervisor) -> None:
    supervisor._begin_others()
    supervisor._due.clear()
    assert pauses(supervisor, 0, 0, 0, 0) == [0.2, 0.4, 0.8, 1.6]
    assert pauses(supervisor, *[0] * 10)[-1] == 30.0
    assert pauses(supervisor, 11.0, 0) == [0.1, 0.2]


@pytest.mark.parametrize(("code", "status"), [(0, 0), (-15, 0), (1, 1), (-9, 1)])
def test_whoever_ends_when_asked_stays_away(supervisor: Supervisor, code: int, status: int) -> None:
    supervisor._begin_others()
    supervisor._stop()
    supervisor._ended(0, code, 100.0)
    assert not supervisor._due
    assert supervisor._status == status


def test_nobody_is_waited_for_when_somebody_is_due(supervisor: Supervisor) -> None:
    supervisor._due[1] = time.monotonic() - 1
    assert supervisor._pause() == 0.0


def test_orphans_are_reaped_and_are_no_workers(supervisor: Supervisor) -> None:
    """The first process of a container gets the orphans of all others."""
    orphan = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
    supervisor._running = {-1: (0, 0.0)}
    with contextlib.suppress(ChildProcessError):  # if there is no child left to ask about
        supervisor._reap()
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    assert supervisor._running == {-1: (0, 0.0)}
    assert not supervisor._due
    assert orphan.wait() == 0
