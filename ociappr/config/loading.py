"""From all sources to one configuration; later wins.

The order: defaults, the YAML file, the environment, the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from ociappr.config.constraints import check
from ociappr.config.conversion import convert
from ociappr.config.environment import from_environment, variable
from ociappr.config.errors import ConfigError, unknown
from ociappr.config.file import from_file
from ociappr.config.secret import Secret
from ociappr.config.sections import Config, Section
from ociappr.config.settings import Loaded, fields

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class _Source:
    """Raw values by their keys, where they come from, and how a key is *spelled* there."""

    origin: str
    values: Mapping[str, object]
    spelled: Callable[[str], str] = str
    strict: bool = False


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Return the settings of all sources; raise `ConfigError` for anything that cannot be."""
    sources = (
        _Source(str(file), from_file(file) if file is not None else {}, strict=True),
        _Source("environment", from_environment(environ or {}), spelled=variable),
        _Source("command line", flags or {}),
    )
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    known = fields()
    for source in sources:
        for key, raw in source.values.items():
            setting, value = _read(source, key, raw, known)
            values[setting] = value
            origins[setting] = source.origin
    config = _build(Config, values, "")
    check(config)
    return Loaded(config, origins)


def _read(
    source: _Source, key: str, raw: object, known: Mapping[str, object]
) -> tuple[str, object]:
    """Return the setting that *key* means in *source*, and its value."""
    secret = key.removesuffix("_file")
    if secret != key and known.get(secret) is Secret:
        return secret, _read_secret(key, raw, source.origin)
    if key not in known:
        raise ConfigError(f"{unknown(key, known, source.spelled)} (from {source.origin})")
    return key, convert(key, raw, known[key], source.origin, strict=source.strict)


def _read_secret(key: str, raw: object, origin: str) -> Secret:
    """Return what the file of a secret holds, a line break at its end left out."""
    try:
        return Secret(Path(str(raw)).read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {raw!r}: {error} (from {origin})") from None


def _build(section: type[S], values: Mapping[str, object], prefix: str) -> S:
    arguments: dict[str, object] = {}
    for one in msgspec.structs.fields(section):
        key = prefix + one.name
        if isinstance(one.type, type) and issubclass(one.type, Section):
            arguments[one.name] = _build(one.type, values, f"{key}.")
        elif key in values:
            arguments[one.name] = values[key]
    return section(**arguments)
