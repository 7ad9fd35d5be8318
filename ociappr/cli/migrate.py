"""``ociappr migrate``."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociappr.cli.console import Exit, output_option, progress, row, say, show, verbose_option
from ociappr.config import Config, ConfigError, load

if TYPE_CHECKING:
    from ociappr.moving.migrate import Migrated, Progress

_SIDE = "DIR|FILE"
_PATH = click.Path(path_type=Path)
_SECONDS = 2.0  # between two lines of progress


def _no_url(_: click.Context, __: click.Parameter, place: Path) -> Path:
    """Return *place*; raise `BadParameter` for a URL, which would pass for a directory."""
    if ":/" in str(place):  # a path has lost one of the two slashes
        raise click.BadParameter(
            "a URL is one store, and a registry has two: name a YAML file that says"
            " `metadata: {url: ...}` and `storage: {url: ...}`"
        )
    return place


@click.command("migrate")
@click.option(
    "--from",
    "source",
    metavar="DIR|FILE",
    type=_PATH,
    callback=_no_url,
    required=True,
    help="The registry to copy.",
)
@click.option(
    "--to",
    "target",
    metavar="DIR|FILE",
    type=_PATH,
    callback=_no_url,
    required=True,
    help="Where to, empty.",
)
@verbose_option
@output_option
@click.pass_context
def command(ctx: click.Context, /, source: Path, target: Path) -> None:
    """Copy a whole registry into another pair of stores, while its server goes on.

    Each side is a data directory, or a YAML file of settings that names the stores. Run again, it
    goes on where it was, and takes what changed since. Exits with 1 if something was lost at the
    source, or if it kept changing: stop the pushes, and run it again.
    """
    done = asyncio.run(_migrate(_side(source), _side(target)))
    code = "migrated" if done.complete else "changing"
    told = [row(code, _shown(done.progress), str(target))]
    show(told + [row(one.code, one.what, one.about, one.breaks) for one in done.findings])
    if not done.complete:
        say("the source kept changing: stop the pushes, and run this again to finish")
    elif done.findings:
        say("everything else was copied and verified")
    else:
        say("the target is the same registry, and verified")
    if done.findings or not done.complete:
        ctx.exit(Exit.FAILED)


def _side(place: Path) -> Config:
    """Return the settings of a data directory or a file; the environment speaks for neither."""
    if place.suffix in {".yaml", ".yml"} or place.is_file():
        return load(file=place).config
    return load(flags={"data": str(place)}).config


async def _migrate(source: Config, target: Config) -> Migrated:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.moving import Stores  # noqa: PLC0415 - as above
    from ociappr.moving.migrate import Migration  # noqa: PLC0415 - as above
    from ociappr.registry import utcnow  # noqa: PLC0415 - as above
    from ociappr.server import open_stores  # noqa: PLC0415 - as above

    stores.check(source)
    stores.check(target)
    stores.require(source)
    if source.metadata_url == target.metadata_url:
        raise ConfigError("metadata.url: source and target are the same")
    async with AsyncExitStack() as opened:
        old = await opened.enter_async_context(open_stores(source))
        if source.storage_url == target.storage_url:
            metadata = await stores.open_metadata(target)
            opened.push_async_callback(metadata.close)
            new = Stores(metadata, old.blobs, target.inline)
        else:
            new = await opened.enter_async_context(open_stores(target))
        sparse = source.manifests.sparse
        migration = Migration(old, new, sparse=sparse, now=utcnow, tell=_Teller().tell)
        return await migration.run()


@dataclass(slots=True)
class _Teller:
    """Writes a line of progress now and then, and whenever something new begins."""

    _told: float = 0.0
    _stage: tuple[int, str] = field(default=(0, ""))

    def tell(self, moved: Progress) -> None:
        stage = (moved.number, moved.stage)
        if stage != self._stage or time.monotonic() - self._told > _SECONDS:
            self._stage, self._told = stage, time.monotonic()
            progress(f"pass {moved.number}, {moved.stage}: {_shown(moved)}")


def _shown(moved: Progress) -> str:
    return (
        f"{moved.blobs} blobs and {moved.records} records written"
        f" ({moved.copied_bytes} bytes), {moved.deleted} deleted"
    )
