"""``ociappr``: the group of all commands; a command's module is read when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import click

from ociappr.cli.console import Exit, fail
from ociappr.config import ConfigError
from ociappr.errors import OciapprError

_COMMANDS: Mapping[str, str] = {
    "serve": "Run the registry.",
    "config": "Print the effective settings and where each came from.",
    "gc": "Run the collector once.",
    "fsck": "Read and hash every blob, derive every derived key again, report.",
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
        module = importlib.import_module(f"ociappr.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """One registry, two doors: OCI Distribution and App Registry."""


def main() -> None:
    """Run the command line and exit with its status (docs/cli.md)."""
    verbose = "-v" in sys.argv[1:] or "--verbose" in sys.argv[1:]
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except ConfigError as error:
        sys.exit(fail(str(error), Exit.USAGE, error, verbose=verbose))
    except OciapprError as error:
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        sys.exit(fail(message, Exit.FAILED, error, verbose=verbose))
    except (KeyboardInterrupt, click.Abort):
        sys.exit(Exit.INTERRUPTED)
