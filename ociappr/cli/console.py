"""What the commands share: exit statuses, output in three forms, errors in one line."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

import click

C = TypeVar("C", bound=Callable[..., object])


class Exit(IntEnum):
    """The exit statuses (docs/cli.md)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    REFUSED = 4
    UNKNOWN = 5
    CHANGES = 10
    INTERRUPTED = 130


def fail(message: str, status: Exit, error: BaseException, *, verbose: bool) -> Exit:
    """Write one line on standard error, the whole chain if *verbose*; return *status*."""
    click.echo(f"ociappr: {message}", err=True)
    if verbose:
        traceback.print_exception(error)
    return status


def show(rows: Sequence[Mapping[str, object]], output: str) -> None:
    """Print *rows* as a table, as JSON or as YAML."""
    if output == "json":
        click.echo(json.dumps(rows, indent=2, default=str))
    elif output == "yaml":
        import yaml  # noqa: PLC0415 - a quarter of the start-up time, seldom needed

        plain = json.loads(json.dumps(rows, default=str))
        click.echo(yaml.safe_dump(plain, sort_keys=False).rstrip())
    else:
        for line in _table(rows):
            click.echo(line)


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0])
    cells = [[str(row[name]) for name in names] for row in rows]
    widths = [max(len(row[column]) for row in [names, *cells]) for column in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [names, *cells]
    ]


def output_option(command: C) -> C:
    """Add ``--output``."""
    option = click.option(
        "--output",
        type=click.Choice(["text", "json", "yaml"]),
        default="text",
        show_default=True,
        help="Form of everything printed.",
    )
    return option(command)


def settings_options(command: C) -> C:
    """Add the flags that choose settings; each is one key of the configuration."""
    options = [
        click.option("--config", "file", type=click.Path(path_type=Path), help="YAML file."),
        click.option("--data", metavar="DIR", help="Directory of the default stores."),
        click.option("--metadata", "metadata__url", metavar="URL", help="sqlite:///PATH"),
        click.option("--storage", "storage__url", metavar="URL", help="file:///PATH"),
        click.option("-v", "--verbose", is_flag=True, help="Show the whole chain of an error."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
