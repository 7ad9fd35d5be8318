"""Values as they are written: read into what a setting is, and written again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import EnumType
from typing import TypeVar, get_args, get_origin

import msgspec

from ociappr.config.errors import ConfigError, unknown
from ociappr.config.quantities import Duration, Size
from ociappr.config.secret import Secret
from ociappr.config.settings import fields
from ociappr.registry.patterns import RepositoryPattern, TagPattern, VersionRange

T = TypeVar("T")


def convert(key: str, raw: object, kind: object, origin: str, *, strict: bool) -> object:
    """Return *raw* as a *kind*, to the letter if *strict*; raise `ConfigError` with its place."""
    if get_origin(kind) is tuple:
        return _read_list(key, raw, get_args(kind)[0], origin)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _read_rule(key, raw, kind, origin)
    try:
        if (parse := _PARSERS.get(kind)) is not None:
            return parse(raw)
        return msgspec.convert(raw, type=kind, strict=strict)
    except msgspec.ValidationError:
        choices = kind if isinstance(kind, EnumType) else get_args(kind)
        allowed = ", ".join(getattr(one, "value", one) for one in choices) or _KINDS.get(kind, "")
        raise ConfigError(f"{key}: {raw!r} is not {allowed} (from {origin})") from None
    except ValueError as error:
        raise ConfigError(f"{key}: {error} (from {origin})") from None


def _pattern(kind: Callable[[str], T]) -> Callable[[object], T]:
    def parse(raw: object) -> T:
        if not isinstance(raw, str):
            raise ValueError(f"{raw!r} is not a text")  # noqa: TRY004 - as the others do
        return kind(raw)

    return parse


_PARSERS: Mapping[object, Callable[[object], object]] = {
    Size: Size.parse,
    Duration: Duration.parse,
    timedelta: Duration.parse,
    Secret: Secret.parse,
    **{kind: _pattern(kind) for kind in (RepositoryPattern, TagPattern, VersionRange)},
}
_KINDS: Mapping[object, str] = {
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}


def _read_list(key: str, raw: object, kind: object, origin: str) -> tuple[object, ...]:
    """Return a list, each of its items converted; a text is JSON, as the environment has it."""
    items = raw
    if isinstance(raw, str):
        try:
            items = json.loads(raw)
        except ValueError:
            raise ConfigError(f"{key}: {raw!r} is no list (from {origin})") from None
    if not isinstance(items, list):
        raise ConfigError(f"{key}: {items!r} is no list (from {origin})")
    return tuple(
        convert(f"{key}[{number}]", item, kind, origin, strict=True)
        for number, item in enumerate(items)
    )


def _read_rule(key: str, raw: object, kind: type[msgspec.Struct], origin: str) -> msgspec.Struct:
    if not isinstance(raw, dict):
        raise ConfigError(f"{key}: {raw!r} is no mapping (from {origin})")
    known = fields(kind)
    arguments: dict[str, object] = {}
    for name, value in raw.items():
        place = f"{key}.{name}"
        if name not in known:
            every = {f"{key}.{one}": one for one in known}
            raise ConfigError(f"{unknown(place, every, str)} (from {origin})")
        arguments[name] = convert(place, value, known[name], origin, strict=True)
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ConfigError(f"{key}: {error} (from {origin})") from None


def written(rule: msgspec.Struct) -> dict[str, object]:
    """Return what *rule* says, as it is written in a file; what it leaves open is left out."""
    said: dict[str, object] = {}
    for one in msgspec.structs.fields(rule):
        value = getattr(rule, one.name)
        if value == one.default:
            continue
        if isinstance(value, tuple):
            said[one.name] = [str(item) for item in value]
        else:
            said[one.name] = value if isinstance(value, int) else _text(value)
    return said


def _text(value: object) -> str:
    return str(getattr(value, "value", value))
