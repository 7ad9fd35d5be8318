"""``ociappr import``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import click

from ociappr.cli.console import Exit, is_text, output_option, say, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config, load
from ociappr.legacy.importing import Importer, Outcome, Result

_STEP = 1_000  # items between two signs of life


@click.command("import")
@click.argument("source")
@click.option("--prefix", metavar="TEXT", help="Of the old keys, if they had an unusual one.")
@click.option("--dry-run", "dry", is_flag=True, help="Read everything, write nothing.")
@click.option("--force", is_flag=True, help="Replace what is different here.")
@settings_options
@output_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: str,
    prefix: str | None,
    *,
    dry: bool,
    force: bool,
    file: Path | None,
    **flags: str | None,
) -> None:
    """Take over what an original appr server left behind in SOURCE.

    SOURCE is the directory that its DATABASE_URL named, redis://HOST, etcd://HOST:2379, or the file
    of a JSON dump. What was imported before stays as it is. Exits with 3 if something was refused.
    """
    config = loaded(file, flags).config
    outcomes = _import(config, source, prefix=prefix, dry=dry, force=force)
    figures = asyncio.run(_report(outcomes))
    counted = (f"{figures[result]} {result.value}" for result in Result if figures[result])
    say(", ".join(counted) or "there is nothing")
    if figures[Result.REFUSED]:
        ctx.exit(Exit.PARTLY)


async def _report(outcomes: AsyncGenerator[Outcome]) -> Counter[Result]:
    """Tell people of each item as it comes, programs of all at the end; return the numbers."""
    rows = []
    figures: Counter[Result] = Counter()
    try:
        async with aclosing(outcomes):
            async for outcome in outcomes:
                figures[outcome.result] += 1
                rows.append(_row(outcome))
                reason = f": {outcome.reason}" if outcome.reason else ""
                say(f"{outcome.result.value:13} {outcome.item}{reason}")
                if not is_text() and len(rows) % _STEP == 0:
                    click.echo(f"ociappr: {len(rows)} items so far", err=True)
    finally:
        if not is_text():
            show(rows)
    return figures


def _row(outcome: Outcome) -> Mapping[str, object]:
    item = outcome.item
    return {
        "package": item.package,
        "release": item.release,
        "media_type": item.format,
        "channel": item.channel,
        "archive": item.archive,
        "result": outcome.result.value,
        "reason": outcome.reason,
    }


async def _import(
    config: Config, where: str, *, prefix: str | None, dry: bool, force: bool
) -> AsyncGenerator[Outcome]:
    """Yield what became of each item; a registry that is not there is made, unless *dry*."""
    from ociappr import sources, stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.server import open_registry  # noqa: PLC0415 - as above

    stores.check(config)
    if dry and not stores.exist(config):
        config = load(flags={"metadata.url": "memory://", "storage.url": "memory://"}).config
    limit = config.appr.body
    async with (
        sources.open_source(where, prefix=prefix, limit=limit) as source,
        open_registry(config) as registry,
    ):
        importer = Importer(registry, unpacked=config.appr.unpacked, force=force, dry=dry)
        async for outcome in importer.run(source):
            yield outcome
