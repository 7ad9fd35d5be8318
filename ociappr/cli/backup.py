"""``ociappr backup``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from ociappr.cli.console import output_option, say, settings_options, show
from ociappr.cli.loading import loaded, shelf
from ociappr.config import Config


@click.command("backup")
@settings_options
@click.option("--to", "place", metavar="URL|DIR", help="Where to write, if not beside the blobs.")
@output_option
def command(file: Path | None, place: str | None, **flags: str | None) -> None:
    """Write a snapshot of the metadata, beside a running server if there is one.

    It lies beside the blobs unless told otherwise; copy these after it, and both are a backup.
    """
    row = asyncio.run(_back_up(loaded(file, flags).config, place))
    show([row])
    say("copy the blobs now, after the snapshot: together they are a backup")


async def _back_up(config: Config, place: str | None) -> dict[str, object]:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.moving.backup import Backup  # noqa: PLC0415 - as above
    from ociappr.registry import Registry, utcnow  # noqa: PLC0415 - as above
    from ociappr.server import open_stores, settings  # noqa: PLC0415 - as above

    stores.check(config)
    stores.require(config)
    async with open_stores(config) as opened, shelf(config, opened.blobs, place) as target:
        registry = await Registry.open(opened.metadata, opened.blobs, settings(config))
        grace = config.collector.grace
        backup = Backup(opened.metadata, registry.sessions, grace=grace, now=utcnow)
        done = await backup.run(target)
    return {
        "snapshot": done.name,
        "size": done.size,
        "entries": sum(done.counts.values()),
        "unsettled": " ".join(done.unsettled),
    }
