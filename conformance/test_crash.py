"""kill -9 of the real server at random moments under parallel pushes: nothing acknowledged is lost.

OCIAPPR_CRASH_ROUNDS sets how often, three times on each store; some servers have two workers.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from conformance.pushing import PUSHERS, Acknowledged, Pusher, check, in_threads
from conformance.servers import Servers
from conformance.wire import Server

ROUNDS = int(os.environ.get("OCIAPPR_CRASH_ROUNDS", "6"))
LIVES = 3
LONGEST = 0.8  # seconds until the kill, at most


@pytest.mark.parametrize("number", range(-(-ROUNDS // LIVES)))
def test_kill_minus_9(start_server: Servers, tmp_path: Path, number: int) -> None:
    """More than once onto the same data, so that it also recovers from what it recovered."""
    told, data = Acknowledged(), tmp_path / "data"
    for life in range(LIVES):
        workers = ("--workers", "2") if (number + life) % 3 == 0 else ()
        _push_until_killed(start_server, told, data, workers, seed=f"{number}-{life}")
        server = start_server(*workers, data=data)
        told.verify(server)
        start_server.stop(server)
    assert told.total > 0
    check(start_server, data)


def _push_until_killed(
    servers: Servers, told: Acknowledged, data: Path, arguments: tuple[str, ...], *, seed: str
) -> None:
    server = servers(*arguments, data=data)
    pushers = [Pusher(server, told, seed=f"{seed}-{number}") for number in range(PUSHERS)]
    with in_threads([pusher.run for pusher in pushers]):
        time.sleep(random.Random(seed).uniform(0.05, LONGEST))
        _kill(servers, server)


def _kill(servers: Servers, server: Server) -> None:
    """Kill the server and its workers, none of which gets to clean up."""
    children = Path(f"/proc/{servers.pid(server)}/task/{servers.pid(server)}/children")
    workers = [int(pid) for pid in children.read_text().split()]
    servers.kill(server)
    for pid in workers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives kill -9"
        time.sleep(0.01)
