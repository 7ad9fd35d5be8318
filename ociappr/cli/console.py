"""What the commands share: exit statuses, output in three forms, errors in one line."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum, IntEnum
from pathlib import Path
from typing import TypeVar

import click

C = TypeVar("C", bound=Callable[..., object])

_VERBOSE = "ociappr.verbose"
_OUTPUT = "ociappr.output"


class Exit(IntEnum):
    """The exit statuses (docs/cli.md)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    INTERRUPTED = 130


def fail(ctx: click.Context, error: Exception) -> Exit | None:
    """Tell of *error* in one line on standard error, and of the whole chain if verbose.

    Returns the exit status; None, with nothing told, if *error* is a bug of ours.
    """
    from ociappr.config import ConfigError  # noqa: PLC0415 - start-up time
    from ociappr.errors import OciapprError  # noqa: PLC0415 - start-up time

    if isinstance(error, OciapprError):
        message = f"{error.message}; {error.hint}" if error.hint else error.message
    elif isinstance(error, ConfigError):
        message = str(error)
    else:
        return None
    form = ctx.meta.get(_OUTPUT, "text")
    line = f"ociappr: {message}" if form == "text" else _dumped({"error": message}, form)
    click.echo(line, err=True)
    if ctx.meta.get(_VERBOSE):
        traceback.print_exception(error, file=sys.stderr)
    return Exit.USAGE if isinstance(error, ConfigError) else Exit.FAILED


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """Print *rows* in the form asked for: a table, JSON or YAML."""
    form = click.get_current_context().meta.get(_OUTPUT, "text")
    lines = _table(rows) if form == "text" else [_dumped(list(rows), form)]
    for line in lines:
        click.echo(line)


def say(text: str) -> None:
    """Print *text*, if people read the output."""
    if is_text():
        click.echo(text)


def is_text() -> bool:
    """Tell whether people read the output."""
    return bool(click.get_current_context().meta.get(_OUTPUT, "text") == "text")


def progress(text: str) -> None:
    """Print *text* on standard error, if people read the output."""
    if click.get_current_context().meta.get(_OUTPUT, "text") == "text":
        click.echo(text, err=True)


def row(code: str, what: str, about: str, breaks: Sequence[str] = ()) -> Mapping[str, object]:
    """Return a row that tells something: a *code* for programs, the tags that it *breaks*."""
    return {"code": code, "what": what, "about": about, "breaks": list(breaks)}


def _dumped(document: object, form: str) -> str:
    text = json.dumps(document, indent=2 if isinstance(document, list) else None, default=str)
    if form == "json":
        return text
    import yaml  # noqa: PLC0415 - start-up time, and seldom needed

    return str(yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True)).rstrip()


def plain(value: object) -> object:
    """Return a setting's value as it is written in a file."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        from ociappr.config import written  # noqa: PLC0415 - start-up time

        return json.dumps([written(rule) for rule in value])
    own = isinstance(value, timedelta) or type(value) not in (int, str, bool)
    return str(value) if own else value


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(row[column]) for row in [names, *cells]) for column in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [names, *cells]
    ]


def _cell(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def keep(ctx: click.Context, _: click.Parameter, value: object) -> None:
        ctx.meta[name] = value

    return keep


def output_option(command: C) -> C:
    """Add ``--output``, which `show` and errors follow."""
    option = click.option(
        "--output",
        type=click.Choice(["text", "json", "yaml"]),
        default="text",
        show_default=True,
        expose_value=False,
        is_eager=True,
        callback=_keep(_OUTPUT),
        help="Form of everything printed, errors too.",
    )
    return option(command)


def verbose_option(command: C) -> C:
    """Add ``--verbose``, which errors follow."""
    option = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_keep(_VERBOSE),
        help="Show the whole chain of an error.",
    )
    return option(command)


def settings_options(command: C) -> C:
    """Add the flags that choose settings; each is one key of the configuration."""
    options = [
        click.option(
            "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="YAML file."
        ),
        click.option("--data", metavar="DIR", help="Directory of the default stores."),
        click.option(
            "--metadata",
            "metadata__url",
            metavar="URL",
            help="sqlite:///PATH or postgresql://USER@HOST/DATABASE",
        ),
        click.option("--storage", "storage__url", metavar="URL", help="file:///PATH"),
        verbose_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command
