"""Settings from the environment."""

from __future__ import annotations

from collections.abc import Mapping

_PREFIX = "OCIAPPR_"


def from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what is set by variables of our prefix; a double underscore parts the names."""
    return {
        name.removeprefix(_PREFIX).lower().replace("__", "."): value
        for name, value in environ.items()
        if name.startswith(_PREFIX)
    }


def variable(key: str) -> str:
    """Return the name of the variable that sets *key*."""
    return _PREFIX + key.upper().replace(".", "__")
