"""What is wrong with settings, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches


class ConfigError(Exception):
    """A setting is unknown, malformed or impossible; the message names it and its source."""


def unknown(key: str, known: Mapping[str, object], spelled: Callable[[str], str]) -> str:
    """Return that there is no such setting, and what might be meant, as it is *spelled* there."""
    if any(name.startswith(f"{key}.") for name in known):
        return f"{spelled(key)}: is a section, whose settings stand below it"
    near = get_close_matches(key, known, n=1)
    meant = f"did you mean {spelled(near[0])}?" if near else "`ociappr config` shows all there are"
    return f"{spelled(key)}: there is no such setting; {meant}"
