"""From flags, environment and file to settings, for every command that needs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ociappr.config import Loaded, load


def loaded(file: Path | None, flags: Mapping[str, str | None]) -> Loaded:
    """Return the settings; a flag's name is its key with ``__`` for the dot.

    Raises `ConfigError`.
    """
    given = {name.replace("__", "."): value for name, value in flags.items() if value is not None}
    return load(file=file, environ=os.environ, flags=given)
