"""``ociappr``: the group of all commands; a command's module is read when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from keyword import iskeyword

import click

from ociappr import __version__
from ociappr.cli.console import Exit, fail

_COMMANDS: Mapping[str, str] = {
    "serve": "Run the registry.",
    "config": "Print the effective settings and where each came from.",
    "gc": "Run the collector once.",
    "fsck": "Read and hash every blob, derive every derived key again, report or repair.",
    "backup": "Write a snapshot of the metadata.",
    "restore": "Bring a registry back from a snapshot and its blobs.",
    "migrate": "Copy a registry into another pair of stores.",
    "import": "Take over what an original appr server left behind.",
    "version": "Print the version.",
}


class _Group(click.Group):
    """Imports a command when it is called, so that the others cost no start-up time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        module = importlib.import_module(f"ociappr.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; tell of what we know how to tell in one line."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            status = fail(ctx, error)
            if status is None:
                raise
            ctx.exit(status)


@click.version_option(__version__, prog_name="ociappr", message="%(prog)s %(version)s")
@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """One registry, two doors: OCI Distribution and App Registry."""


def main() -> None:
    """Run the command line and exit with its status (docs/cli.md)."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(Exit.INTERRUPTED)
