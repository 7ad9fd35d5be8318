"""``ociappr gc``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociappr.cli.console import output_option, say, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config

if TYPE_CHECKING:
    from ociappr.registry import Registry

_MEANING: Mapping[str, str] = {
    "repositories": "repositories that a retention rule is about",
    "tags": "tags that no rule keeps, deleted",
    "manifests": "manifests that nothing named for long enough, deleted",
    "noted": "manifests that newly have no name, or have one again",
    "contested": "tags and manifests that got a name meanwhile, and stay",
    "expired": "upload sessions ended for want of progress",
    "promoted": "blobs joined from the chunks they came in",
    "condemned": "blobs hidden, since nothing needs them; a push brings them back",
    "forgotten": "condemned blobs whose records went",
    "unlinked": "entries of the bin whose bytes were deleted",
    "swept": "files of abandoned uploads deleted",
    "freed": "bytes of those files",
    "journal": "old journal entries deleted",
    "untagged": "manifests that no tag reaches",
    "held": "bytes that only those hold",
}
_TELL_EVERY = 5.0  # seconds


@click.command("gc")
@settings_options
@output_option
@click.option("--dry-run", is_flag=True, help="Only tell what would go, and why.")
@click.option(
    "--why",
    metavar="REFERENCE",
    help="Only tell why REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST is kept, or goes.",
)
def command(file: Path | None, why: str | None, *, dry_run: bool, **flags: str | None) -> None:
    """Run retention and the collector once, beside a running server if there is one.

    Retention deletes the tags and manifests that no rule keeps; without rules, none. Bytes do not
    go at once: what no manifest needs is condemned after the grace period, forgotten after
    another, and its bytes are deleted after a third.
    """
    if why is not None and dry_run:
        raise click.UsageError("--why and --dry-run are two questions: ask one at a time")
    config = loaded(file, flags).config
    if why is not None:
        show(asyncio.run(_explain(config, why)))
    elif dry_run:
        rows = asyncio.run(_preview(config))
        show(rows)
        say(f"{len(rows)} would go now; nothing was changed")
    else:
        figures = asyncio.run(_collect(config))
        show([{"what": one, "number": n, "meaning": _MEANING[one]} for one, n in figures.items()])
        say(f"the grace period is {config.collector.grace} (collector.grace); sizes are in bytes")
        if figures["untagged"]:
            say(
                f"no tag reaches {figures['untagged']} manifests, which alone hold"
                f" {_approximately(figures['held'])}: a rule of `retention` with"
                " delete_untagged_after frees that"
            )


async def _collect(config: Config) -> dict[str, int]:
    from ociappr.registry.collector import Collected  # noqa: PLC0415 - start-up time of --help
    from ociappr.registry.retiring import Retained  # noqa: PLC0415 - as above

    async with _registry(config) as registry:
        retained, collected = Retained(), Collected()
        async with _progress(lambda: asdict(retained) | asdict(collected)):
            await registry.retention.run(retained)
            await registry.collector.run(collected)
            untagged = await registry.holdings.untagged()
        held = {"untagged": untagged.manifests, "held": untagged.size}
        return asdict(retained) | asdict(collected) | held


async def _preview(config: Config) -> list[dict[str, object]]:
    from ociappr.registry.holdings import Reason  # noqa: PLC0415 - start-up time of --help

    async with _registry(config) as registry:
        reasons = [Reason.of(name, one) async for name, one in registry.retention.preview()]
        steps = registry.collector.preview()
        reasons += [Reason(step.about, step.what, step.reason) async for step in steps]
        return [asdict(reason) for reason in reasons]


async def _explain(config: Config, text: str) -> list[dict[str, object]]:
    from ociappr.names import RepositoryName, parse_reference  # noqa: PLC0415 - start-up time

    reference = parse_reference(text)
    async with _registry(config) as registry:
        if isinstance(reference, RepositoryName):
            reasons = await registry.holdings.of_repository(reference)
        else:
            reasons = await registry.holdings.of(reference)
        return [asdict(reason) for reason in reasons]


@asynccontextmanager
async def _registry(config: Config) -> AsyncIterator[Registry]:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.server import open_registry  # noqa: PLC0415 - as above

    stores.check(config)
    stores.require(config)
    async with open_registry(config) as registry:
        yield registry


@asynccontextmanager
async def _progress(figures: Callable[[], Mapping[str, int]]) -> AsyncIterator[None]:
    """Tell people at a terminal now and then what was done so far beside what is in the block."""
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.create_task(_tell(figures))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _tell(figures: Callable[[], Mapping[str, int]]) -> None:
    while True:
        await asyncio.sleep(_TELL_EVERY)
        done = [f"{name} {number}" for name, number in figures().items() if number]
        click.echo(f"ociappr: so far: {', '.join(done) or 'nothing'}", err=True)


def _approximately(size: int) -> str:
    """Return *size* with the unit that makes it short."""
    return next(
        (f"{size / factor:.1f} {unit}" for unit, factor in _UNITS if size >= factor), f"{size} B"
    )


_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
