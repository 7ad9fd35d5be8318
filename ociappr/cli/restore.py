"""``ociappr restore``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociappr.cli.console import Exit, output_option, row, say, settings_options, show
from ociappr.cli.loading import loaded, shelf
from ociappr.config import Config

if TYPE_CHECKING:
    from ociappr.moving.restore import Restored


@click.command("restore")
@settings_options
@click.option("--from", "place", metavar="URL|DIR", help="Where the snapshot is, if not there.")
@click.option("--snapshot", metavar="NAME", default="", help="Another than the newest.")
@click.option("--list", "lists", is_flag=True, help="Only show which snapshots there are.")
@output_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    file: Path | None,
    place: str | None,
    snapshot: str,
    *,
    lists: bool,
    **flags: str | None,
) -> None:
    """Bring a registry back: its metadata from a snapshot, into a store that is empty.

    The blobs stay where they are, and every one is read and hashed. Exits with 1 if something is
    missing: it tells which tags are broken. Start the server afterwards.
    """
    config = loaded(file, flags).config
    if lists:
        show(asyncio.run(_list(config, place)))
        return
    restored = asyncio.run(_restore(config, place, snapshot))
    show(_rows(restored))
    if restored.findings:
        ctx.exit(Exit.FAILED)
    say("everything in the snapshot is there")


def _rows(restored: Restored) -> list[Mapping[str, object]]:
    """Return what came back, what is newer than the snapshot, and what is missing."""
    adopted, name = restored.adopted, restored.snapshot
    rows = [row("snapshot-damaged", why, broken) for broken, why in restored.damaged]
    what = f"{sum(restored.counts.values())} entries as of {restored.created}"
    rows.append(row("restored", what, name))
    rows += [row("unsettled", "kept changing", one) for one in restored.unsettled]
    if adopted.blobs:
        what = f"{adopted.blobs} blobs of {adopted.size} bytes, for the collector unless they are"
        rows.append(row("blobs-newer", f"{what} pushed again", name))
    if adopted.staged:
        what = f"{adopted.staged} objects of uploads or of blobs that were new, which will go"
        rows.append(row("staged-newer", what, name))
    return rows + [row(one.code, one.what, one.about, one.breaks) for one in restored.findings]


async def _list(config: Config, place: str | None) -> list[dict[str, object]]:
    from ociappr.stores import open_blobs  # noqa: PLC0415 - start-up time of --help

    blobs = await open_blobs(config)
    try:
        async with shelf(config, blobs, place) as target:
            return [{"snapshot": name, "size": size} for name, size in await target.snapshots()]
    finally:
        await blobs.close()


async def _restore(config: Config, place: str | None, name: str) -> Restored:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.moving.restore import Restore  # noqa: PLC0415 - as above
    from ociappr.registry import utcnow  # noqa: PLC0415 - as above
    from ociappr.server import open_stores  # noqa: PLC0415 - as above

    stores.check(config)
    stores.require_blobs(config)
    async with open_stores(config) as opened, shelf(config, opened.blobs, place) as source:
        bringing = Restore(opened, source, sparse=config.manifests.sparse, now=utcnow)
        return await bringing.run(name)
