"""python -m bench.soak: actors and collectors loose on one registry; nothing may be lost or leak.

Exit status: 0 when nothing was. `--quick` makes few events; the full run also explores the large
models and kills a real server many times.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from bench.churn import Actor, Ledger, LostError
from conformance.backends.pairs import PAIRS, Backends
from ociappr import stores
from ociappr.config import Config, load
from ociappr.digest import Digest
from ociappr.names import RepositoryName
from ociappr.registry import Registry, Settings, keys, utcnow
from tests.core.leftovers import entries, leftovers

_FULL: Final = 100_000
_QUICK: Final = 5_000
_ACTORS: Final = 16
_REPLICAS: Final = 2
_ROUNDS: Final = 5
_REPORT: Final = 10.0  # seconds
_CRASHES: Final = "50"
_SHOWN: Final = 100  # problems, of which one tells as much as thousands
_CHECKPOINTS: Final = {"OCIAPPR_STORAGE__CHECKPOINT": "256KiB"}
_SETTINGS: Final = Settings(
    grace=timedelta(0), session_age=timedelta(seconds=3), inline_limit=4_096, small_body=32_768
)


class Soak:
    """A registry with several replicas, all of which collect without any grace."""

    def __init__(self, config: Config, events: int) -> None:
        self._config = config
        self._wanted = events
        self._ledger = Ledger()
        self._collected = 0
        self._begun = time.monotonic()

    async def run(self) -> list[str]:
        """Return what was lost, what leaked and what is damaged: nothing, one hopes."""
        async with AsyncExitStack() as opened:
            self._replicas = []
            for _ in range(_REPLICAS):
                metadata = await stores.open_metadata(self._config)
                opened.push_async_callback(metadata.close)
                blobs = await stores.open_blobs(self._config)
                opened.push_async_callback(blobs.close)
                self._replicas.append((metadata, blobs))
            return await self._live()

    async def _live(self) -> list[str]:
        registries = [await Registry.open(*replica, _SETTINGS) for replica in self._replicas]
        actors = [
            Actor(str(number), registries[number % _REPLICAS], self._ledger, seed=number)
            for number in range(_ACTORS)
        ]
        done = asyncio.Event()
        collectors = [asyncio.create_task(self._collect(one, done)) for one in registries * 2]
        reporter = asyncio.create_task(self._report(done))
        problems = []
        try:
            async with asyncio.TaskGroup() as group:
                for actor in actors:
                    group.create_task(self._drive(actor))
        except* LostError as lost:
            problems += [f"lost: {error}" for error in lost.exceptions]
        done.set()
        await asyncio.gather(*collectors, reporter)
        return problems or await self._judge(actors)

    async def _drive(self, actor: Actor) -> None:
        while self._ledger.total < self._wanted:
            await actor.act()

    async def _collect(self, registry: Registry, done: asyncio.Event) -> None:
        while not done.is_set():
            found = await registry.collector.run()
            self._collected += found.forgotten + found.swept + found.unlinked
            await asyncio.sleep(0)

    async def _report(self, done: asyncio.Event) -> None:
        while not done.is_set():
            try:
                await asyncio.wait_for(done.wait(), _REPORT)
            except TimeoutError:
                print(self._line(), flush=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._begun
        total = self._ledger.total
        return f"{seconds:6.0f} s  {total:7,d} events  {total / seconds:5.0f}/s"

    async def _judge(self, actors: list[Actor]) -> list[str]:
        """Everything held is there, nothing else is; and when all is deleted, nothing is."""
        problems = []
        for actor in actors:
            try:
                await actor.verify()
            except LostError as error:
                problems.append(f"lost: {error}")
        problems += await self._settled()
        metadata, _ = self._replicas[0]
        held = len(await entries(metadata, "m"))
        for actor in actors:
            await actor.clear()
        await self._clear()
        problems += await self._settled()
        left = [f"leaked: {keys.parts(one.key)}" for one in await entries(metadata, "biomp")]
        self._summary(held, len(problems + left))
        return problems + left

    async def _settled(self) -> list[str]:
        """Let every session expire and every grace pass; then check and return what is wrong."""

        def late() -> datetime:
            return utcnow() + 2 * _SETTINGS.session_age

        metadata, blobs = self._replicas[0]
        registry = await Registry.open(metadata, blobs, _SETTINGS, now=late)
        for _ in range(_ROUNDS):
            await registry.collector.run()
        found = [f"damaged: {one.what}: {one.about}" async for one in registry.fsck.run()]
        return found + [f"leaked: {one}" for one in await leftovers(metadata, blobs)]

    async def _clear(self) -> None:
        """Delete every manifest that is left, other doors' and nobody's too."""
        metadata, blobs = self._replicas[0]
        registry = await Registry.open(metadata, blobs, _SETTINGS)
        for entry in await entries(metadata, "m"):
            _, name, digest = keys.parts(entry.key)
            await registry.manifests.delete(RepositoryName(name), Digest.parse(digest))

    def _summary(self, held: int, problems: int) -> None:
        counts = ", ".join(f"{name} {count:,d}" for name, count in self._ledger.events.items())
        retries = ", ".join(f"{name} {count:,d}" for name, count in self._ledger.retries.items())
        print(counts)
        print(f"tried again: {retries or 'never'}; collected {self._collected:,d}")
        print(f"{self._line().strip()}: {held} manifests held, {problems} lost, leaked or damaged")


def main(arguments: list[str]) -> int:
    """Soak, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK:,d} events and no more")
    parser.add_argument("--events", type=int, help="that many events and no more")
    parser.add_argument("--stores", choices=PAIRS, default=PAIRS[0], help="where the registry lies")
    options = parser.parse_args(arguments)
    events = options.events or (_QUICK if options.quick else _FULL)
    with (
        tempfile.TemporaryDirectory(prefix="ociappr-soak-") as folder,
        closing(Backends(Path(folder))) as backends,
    ):
        place = backends.places(options.stores)(Path(folder))
        config = load(environ={**place, **_CHECKPOINTS}, flags={"data": folder}).config
        problems = asyncio.run(Soak(config, events).run())
    for problem in problems[:_SHOWN]:
        print(problem)
    if problems or options.quick or options.events:
        return int(bool(problems))
    return _tests("tests/models", "-m", "soak") or _tests("conformance/test_crash.py")


def _tests(*arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", "--timeout=3600", *arguments]
    return subprocess.run(command, check=False, env=os.environ | _LONG).returncode


_LONG: Final = {"OCIAPPR_CRASH_ROUNDS": _CRASHES}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
